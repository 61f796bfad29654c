"""Command lines: argv -> request -> pipeline -> print -> exit code."""

"""Keeping converters' chatter out of the terminal and in a log file."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path


@contextmanager
def into_log(name: str) -> Iterator[None]:
    """Send stdout and stderr, of Python and of native code, to a log file for a while.

    The file is kept when the block raises an error, for a person to read, and removed otherwise, an interruption
    included; its path is in a note on the error.
    """
    handle, log_name = tempfile.mkstemp(prefix=f"mvit-export-{name}-", suffix=".log")
    log = Path(log_name)
    failed = False
    try:
        with (
            os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file,
            _descriptors_into(file.fileno()),
            redirect_stdout(file),
            redirect_stderr(file),
        ):
            yield
    except Exception as error:
        failed = True
        error.add_note(f"log: {log}")
        raise
    finally:
        if not failed:
            log.unlink()


@contextmanager
def _descriptors_into(target: int) -> Iterator[None]:
    """Point file descriptors 1 and 2, which native code writes to, at another file for a while."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError, AttributeError):  # closed or missing, as in a windowed program
            stream.flush()
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        for descriptor in (1, 2):
            os.dup2(target, descriptor)
        yield
    finally:
        for descriptor, original in zip((1, 2), saved, strict=True):
            os.dup2(original, descriptor)
            os.close(original)

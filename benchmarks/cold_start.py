"""Whole-process times and peak memory of the command line, from a cold start, one process after the other.

    python benchmarks/cold_start.py [--runs N]

Each command runs N times (default 3); the median, the fastest and the slowest are printed beside the bar, with the peak
resident memory of the process. Times drift on shared machines: compare within one run only.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time

from rich.console import Console
from rich.table import Table

EXPORT = ["--mode", "xs", "--precision", "fp32", "--target"]
COMMANDS = [  # arguments, seconds allowed
    (["--help"], 0.7),
    ([*EXPORT, "onnx"], 15),
    ([*EXPORT, "coreml"], 25),
    ([*EXPORT, "tflite"], 40),
    ([*EXPORT, "all"], None),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    table = Table(title=f"mvit-export from a cold start, {runs} runs each, {os.cpu_count()} cores")
    for column in ("arguments", "median s", "min-max s", "bar s", "peak MB"):
        table.add_column(column)
    for arguments, bar in COMMANDS:
        measured = [run(arguments) for _ in range(runs)]
        seconds = [second for second, _ in measured]
        table.add_row(
            " ".join(arguments),
            f"{statistics.median(seconds):.2f}",
            f"{min(seconds):.2f}-{max(seconds):.2f}",
            "" if bar is None else str(bar),
            f"{max(memory for _, memory in measured):.0f}",
        )
    Console(width=120).print(table)


def run(arguments: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident megabytes of one process. Raises: RuntimeError when it fails."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        command = [sys.executable, "-m", "mvit_deploy.cli.export", *arguments, "--output", folder]
        start = time.perf_counter()
        pid = os.posix_spawn(
            sys.executable,
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1), (os.POSIX_SPAWN_DUP2, nowhere.fileno(), 2)],
        )
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - start
    if status != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return seconds, kilobytes / 1024


if __name__ == "__main__":
    main()

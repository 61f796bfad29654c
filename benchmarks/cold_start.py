"""Whole-process times and peak memory of the command line, from a cold start, one process after the other.

    python benchmarks/cold_start.py [--runs N]

Each command runs N times (default 3); the median, the fastest and the slowest are printed beside the bar, with the peak
resident memory of the process. mvit-verify judges by the golden file beside each export. Times drift on shared
machines: compare within one run only.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

EXPORT = ["--mode", "xs", "--precision", "fp32", "--target"]
EXPORTS = [  # arguments, seconds allowed
    (["--help"], 0.7),
    ([*EXPORT, "onnx"], 15),
    ([*EXPORT, "coreml"], 25),
    ([*EXPORT, "tflite"], 40),
    ([*EXPORT, "all"], None),
]
VERIFY_BAR = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    table = Table(title=f"From a cold start, {runs} runs each, {os.cpu_count()} cores")
    for column in ("command", "median s", "min-max s", "bar s", "peak MB"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as folder:
        for arguments, bar in EXPORTS:
            add_row(table, " ".join(arguments), ["export", *arguments, "--output", folder], bar, runs)
        for path in sorted(Path(folder).glob("mobilevit_xs_fp32.*")):
            if path.suffix in (".onnx", ".mlpackage", ".tflite"):
                add_row(table, f"verify {path.name}", ["verify", str(path)], VERIFY_BAR, runs)
    Console(width=120).print(table)


def add_row(table: Table, label: str, command: list[str], bar: int | None, runs: int) -> None:
    """Run a command so often and add its numbers."""
    measured = [run(command) for _ in range(runs)]
    seconds = [second for second, _ in measured]
    table.add_row(
        label,
        f"{statistics.median(seconds):.2f}",
        f"{min(seconds):.2f}-{max(seconds):.2f}",
        "" if bar is None else str(bar),
        f"{max(memory for _, memory in measured):.0f}",
    )


def run(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident megabytes of one process. Raises: RuntimeError when it fails."""
    name, *arguments = command
    with open(os.devnull, "w") as nowhere:
        start = time.perf_counter()
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", f"mvit_deploy.cli.{name}", *arguments],
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

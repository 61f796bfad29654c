"""A child process in which one file is opened and timed, seen from outside."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mvit_deploy.errors import DamagedFileError


@dataclass(frozen=True)
class Cost:
    """What it took to get a file going in a fresh process. peak_bytes: beyond what the runtime's library takes."""

    load_ms: float
    first_run_ms: float
    peak_bytes: int


class Child:
    """A process that has one file open and runs it when asked to. To be used in a with block, which ends it."""

    def __init__(self, path: Path, threads: int) -> None:
        """Raises: DamagedFileError when the file cannot be opened or run."""
        self._path = path
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  closed by end
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mvit_deploy.bench.child", str(path), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            # It has to find what this process finds, and nothing that happens to lie in the working directory.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        )
        try:
            self.cost = Cost(**self._answer())
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def times_ms(self, count: int) -> list[float]:
        """Times of count runs in a row, after one that is not counted. Raises: DamagedFileError when it dies."""
        with suppress(BrokenPipeError):  # how it ended is told by what it left
            self._process.stdin.write(f"{count}\n")
            self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """End the process; it has nothing to save."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict | list:
        line = self._process.stdout.readline()
        if not line:
            raise DamagedFileError(f"{self._path}: the process that ran it {self._how_it_ended()}")
        answer = json.loads(line)
        if "error" in answer:
            raise DamagedFileError(f"{self._path}: {answer['error']}")
        return answer

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        last = (self._errors.read().strip() or "without a word").splitlines()[-1]
        return f"ended with code {code}: {last}"

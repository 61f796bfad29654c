"""The terminal: how wide it is, and the steps of a run on it."""

import os
import time
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.segment import Segments
from rich.table import Table

from mvit_deploy.cli import entry

LOG_WIDTH = 136


def console_on(file: TextIO) -> Console:
    """A console; where no person looks on, as in CI, lines may be as long as the table is wide."""
    return Console(file=file, highlight=False, width=None if file.isatty() else LOG_WIDTH)


def print_whole(table: Table, console: Console) -> None:
    """Print a table as wide as it is in a log; a narrower terminal breaks its lines rather than hide a cell."""
    options = console.options.update(width=max(console.width, LOG_WIDTH))
    console.print(Segments(console.render(table, options)), crop=False, end="")


class Steps:
    """Progress on stderr: a spinner where a person looks on, plain lines elsewhere.

    It writes to a copy of stderr made at the start, since converters' chatter is led away from the original.
    """

    def __init__(self) -> None:
        self.console = console_on(os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace"))
        self._status = self.console.status("starting")
        self._start = time.perf_counter()

    def __enter__(self) -> "Steps":
        if self.console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def __call__(self, step: str) -> None:
        entry.raise_if_interrupted()
        self._status.update(escape(step))
        self.console.print(f"[dim]{time.perf_counter() - self._start:6.1f} s[/]  {escape(step)}", soft_wrap=True)

    def update(self, detail: str) -> None:
        """What is going on within a step: for the spinner alone."""
        entry.raise_if_interrupted()
        self._status.update(escape(detail))

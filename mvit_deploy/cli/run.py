"""The body of mvit-export: run the pipeline, show its steps and its table."""

import os
import time
from pathlib import Path
from typing import TextIO

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mvit_deploy import pipeline, report
from mvit_deploy.parity import MATCH, NOT_RUN
from mvit_deploy.report import Report
from mvit_deploy.request import Options

LOG_WIDTH = 120
_STYLES = {MATCH: "green", NOT_RUN: "yellow"}


def console_on(file: TextIO) -> Console:
    """A console; where no person looks on, as in CI, lines may be as long as the table is wide."""
    return Console(file=file, highlight=False, width=None if file.isatty() else LOG_WIDTH)


class Steps:
    """Progress on stderr: a spinner where a person looks on, plain lines elsewhere.

    It writes to a copy of stderr made at the start, since converters' chatter is led away from the original.
    """

    def __init__(self) -> None:
        self.console = console_on(os.fdopen(os.dup(2), "w", encoding="utf-8"))
        self._status = self.console.status("starting")
        self._start = time.perf_counter()

    def __enter__(self) -> "Steps":
        if self.console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def __call__(self, step: str) -> None:
        self._status.update(step)
        self.console.print(f"[dim]{time.perf_counter() - self._start:6.1f} s[/]  {step}", soft_wrap=True)


def run_export(mode: str | None, named: dict[str, object], *, as_json: bool) -> int:
    """Export as the options say; human text to stderr, with as_json the reports to stdout. Returns the exit code."""
    with Steps() as steps:
        options = Options(**named)
        work = pipeline.prepare(mode, options, steps)
        reports = [_told(result, steps) for result in pipeline.run(work, steps)]
    if as_json:
        click.echo(report.dump([result.to_json() for result in reports]), nl=False)
    steps.console.print(_table(reports))
    _next_steps(reports, steps.console)
    return report.overall_exit_code(result.exit_code for result in reports)


def _told(result: Report, steps: Steps) -> Report:
    seconds = sum(result.content["timings_s"].values())
    steps(f"{result.path.name}: {result.verdict.replace('_', ' ')} ({seconds:.1f} s)")
    return result


def _table(reports: list[Report]) -> Table:
    table = Table(title="Each file against PyTorch (eager, fp32)", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("file", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for name in ("MB", "rel_max", "SQNR dB", "photos dB", "top-1 same"):
        table.add_column(name, justify="right")
    table.add_column("judged by", overflow="fold")
    for result in reports:
        table.add_row(*_row(result))
    return table


def _row(result: Report) -> tuple[str, ...]:
    artifact, verification = result.content["artifact"], result.content["verification"]
    errors = verification["outputs"][0] if verification["outputs"] else {}
    size, runtime = artifact["size_bytes"], verification["runtime"]
    style = _STYLES.get(result.verdict, "red")
    verdict = "failed" if result.exit_code == 6 else result.verdict.replace("_", " ")
    judged = verification["outputs"] and runtime
    return (
        result.path.name,
        f"[{'red' if result.exit_code == 6 else style}]{verdict}[/]",
        "" if size is None else f"{size / 1e6:.2f}",
        _number(errors.get("rel_max"), ".1e"),
        _number(errors.get("sqnr_db"), ".1f"),
        _number((verification["photos"] or {}).get("sqnr_db"), ".1f"),
        _number(errors.get("top1_agreement"), ".1%"),
        f"{runtime['name']} {runtime['version']}" if judged else "nobody here",
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _next_steps(reports: list[Report], console: Console) -> None:
    """Why a file is not there or not proven, and where the others are."""
    for result in reports:
        if result.verdict != MATCH:
            console.print(f"{result.path.name}: {result.reason}", soft_wrap=True, markup=False)
    kept = [result.path for result in reports if Path(result.path).exists()]
    if kept:
        console.print(f"Written to {kept[0].parent}: {', '.join(p.name for p in kept)}", soft_wrap=True, markup=False)
    failed = [report.failed_path(r.path) for r in reports if report.failed_path(r.path).exists()]
    if failed:
        console.print(f"Not written; the numbers are in {', '.join(map(str, failed))}", soft_wrap=True, markup=False)

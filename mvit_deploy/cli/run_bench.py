"""The body of mvit-bench: measure, show the steps and the table, draw."""

from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mvit_deploy import report
from mvit_deploy.bench import measuring
from mvit_deploy.bench.machine import processor_name, processors, read_threads, threads_in_words
from mvit_deploy.bench.results import Latency, Measured, Result, short_names
from mvit_deploy.cli import plots
from mvit_deploy.cli.console import Steps, print_whole

NOT_A_PHONE = "These are times of this machine's processor: a phone's differ, and so do their ratios."


def run_bench(
    files: list[Path],
    *,
    rounds: int,
    warm_up: int,
    threads: str,
    images: Path | None,
    plot: Path | None,
    as_json: bool,
    command: str,
) -> int:
    """Measure files; human text to stderr, with as_json the numbers to stdout. Returns the exit code."""
    options = measuring.Options(rounds, warm_up, read_threads(threads), images)
    if plot is not None:
        plots.check(plot)
    with Steps() as steps:
        results = measuring.run(files, options, steps)
    if as_json:
        click.echo(report.dump([result.to_json(command) for result in results]), nl=False)
    _show(results, steps.console)
    codes = [result.exit_code for result in results]
    if plot is not None:
        codes.append(_draw(results, plot, steps.console))
    return report.overall_exit_code(codes)


def _show(results: list[Result], console: Console) -> None:
    measured = [result.measured for result in results if result.measured is not None]
    names = short_names([result.path for result in results])
    if measured:
        print_whole(_table(results, names), console)
    for line, about in _remarks(results, names).items():
        console.print(f"{', '.join(about)}: {line}", soft_wrap=True, markup=False)
    runtimes = sorted({f"{each.subject.runner.name} {each.subject.runner.version}" for each in measured})
    machine = ", ".join([processor_name(), f"{processors()} processors", *runtimes])
    console.print(f"{machine}. {NOT_A_PHONE}", soft_wrap=True, markup=False)


def _table(results: list[Result], names: list[str]) -> Table:
    """One row a file: median times with the range of their middle half, and ratios to the first file."""
    title = "One input, medians (their middle half), ratios to the first file round by round"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("file", no_wrap=True)
    table.add_column("precision", no_wrap=True)
    for name in ("MB", "load\nms", "first run\nms", "peak\nMB", *_latency_columns(results), "SQNR\ndB", "top-1"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, result in zip(names, results, strict=True):
        if result.measured is None:
            table.add_row(name, "[red]failed[/]")
        else:
            table.add_row(name, *_row(result.measured))
    return table


def _latency_columns(results: list[Result]) -> list[str]:
    first = next(result.measured for result in results if result.measured is not None)
    return [name for each in first.latencies for name in (f"{threads_in_words(each.threads)}\nms", "ratio")]


def _row(found: Measured) -> list[str]:
    sqnr_db = found.subject.sqnr_db
    return [
        found.subject.precision or "",
        f"{found.subject.size_bytes / 1e6:.2f}",
        f"{found.load_ms.median:.0f}",
        f"{found.first_run_ms.median:.0f}",
        f"{found.peak_bytes.median / 1e6:.0f}",
        *(cell for latency in found.latencies for cell in _cells(latency)),
        "" if sqnr_db is None else f"{sqnr_db:.1f}",
        "" if found.top1 is None else f"{found.top1:.1%}",
    ]


def _cells(latency: Latency) -> tuple[str, str]:
    return f"{latency.ms.median:.1f} ({latency.ms.p25:.1f}-{latency.ms.p75:.1f})", f"{latency.ratio.median:.2f}"


def _remarks(results: list[Result], names: list[str]) -> dict[str, list[str]]:
    """Each remark, with the names of the files that it is about."""
    found: dict[str, list[str]] = {}
    for name, result in zip(names, results, strict=True):
        lines = [result.error] if result.measured is None else result.measured.remarks
        for line in lines:
            found.setdefault(line, []).append(name)
    return found


def _draw(results: list[Result], path: Path, console: Console) -> int:
    from mvit_deploy.bench import plot

    measured = [result.measured for result in results if result.measured is not None]
    if not measured:
        console.print(f"{path} is not drawn: no file was measured", soft_wrap=True, markup=False)
        return 0

    def save() -> str:
        left_out = plot.save(measured, path)
        return f", without {', '.join(left_out)}" if left_out else ""

    return plots.draw(path, save, console)

"""The body of mvit-export: run, show the steps and the table."""

from pathlib import Path

from rich.console import Console

from mvit_deploy import findings, pipeline, report
from mvit_deploy.cli import pages, plan_tables, plots, results
from mvit_deploy.cli.console import Steps
from mvit_deploy.errors import UsageError
from mvit_deploy.findings import Findings
from mvit_deploy.report import Report
from mvit_deploy.request import QUANTIZED, Options
from mvit_deploy.request import plan as files_asked_for
from mvit_deploy.work import Work


def run_export(
    mode: str | None, named: dict[str, object], *, plot: Path | None, html: Path | None, as_json: bool
) -> int:
    """Export as the options say; human text to stderr, with as_json the reports to stdout. Returns the exit code."""
    options = Options(**named)
    if plot is not None:
        _check_plot(plot, options)
    if html is not None:
        pages.check(html)
    with Steps() as steps:
        work = pipeline.prepare(mode, options, steps)
        pages.begin(html)
        reports = [results.told(result, steps) for result in pipeline.run(work, steps)]
    found = findings.of(reports)
    if found is not None:
        plan_tables.show(found, steps.console)
    results.show(reports, steps.console, as_json=as_json)
    _where_they_are(reports, steps.console)
    codes = [result.exit_code for result in reports]
    if plot is not None:
        codes.append(_draw(found, [name for name, _ in work.fused.named_modules()], plot, steps.console))
    if html is not None:
        codes.append(pages.write(html, lambda: _page(work, reports, steps), steps))
    return report.overall_exit_code(codes)


def _page(work: Work, reports: list[Report], steps: Steps) -> str:
    """With what only a page needs, imported when one is asked for."""
    from mvit_deploy.html import exported, gathering

    return gathering.page_of(exported.of_work(work, reports), steps)


def _check_plot(path: Path, options: Options) -> None:
    """See that there will be something to draw, and that it can be. Raises: UsageError; MissingLibraryError."""
    jobs, _ = files_asked_for(options)
    if options.calibration is None or not any(job.precision in QUANTIZED for job in jobs):
        raise UsageError(
            "--plot draws what int8 costs each layer: it needs --calibration and one of the precisions "
            f"{', '.join(QUANTIZED)}"
        )
    plots.check(path)


def _draw(found: Findings | None, order: list[str], path: Path, console: Console) -> int:
    """Draw blame and frontier, the layers in this order. Returns an exit code: the files are there, drawn or not."""
    from mvit_deploy.cli import plan_plot

    if found is None:
        console.print(f"{path} is not drawn: nothing was quantized", soft_wrap=True, markup=False)
        return 0
    return plots.draw(path, lambda: plan_plot.save(found, order, path) or "", console)


def _where_they_are(reports: list[Report], console: Console) -> None:
    kept = [result.path for result in reports if Path(result.path).exists()]
    if kept:
        console.print(f"Written to {kept[0].parent}: {', '.join(p.name for p in kept)}", soft_wrap=True, markup=False)
    failed = [report.failed_path(r.path) for r in reports if report.failed_path(r.path).exists()]
    if failed:
        console.print(f"Not written; the numbers are in {', '.join(map(str, failed))}", soft_wrap=True, markup=False)

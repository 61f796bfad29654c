"""The body of mvit-verify: judge, show the steps, the table and which claims hold. PyTorch is not needed for it."""

from pathlib import Path

from mvit_deploy import recheck, report
from mvit_deploy.cli import pages, photo_table, results
from mvit_deploy.cli.console import Steps
from mvit_deploy.parity import MISMATCH
from mvit_deploy.report import Report


def run_verify(files: list[Path], named: dict[str, object], *, html: Path | None, as_json: bool) -> int:
    """Judge files again as the options say. Returns the exit code."""
    options = recheck.Options(**named)
    if html is not None:
        pages.check(html)
    with Steps() as steps:
        steps(f"judging {', '.join(path.name for path in files)}")
        pages.begin(html)
        reports = [results.told(result, steps) for result in recheck.run(files, options)]
    results.show(reports, steps.console, as_json=as_json)
    photo_table.show(reports, steps.console)
    if not named["locate"] and any(result.verdict == MISMATCH for result in reports):
        steps.console.print("mvit-verify --locate FILE names the first stage and operation that differ", markup=False)
    codes = [result.exit_code for result in reports]
    if html is not None:
        codes.append(pages.write(html, lambda: _page(reports, options, steps), steps))
    return report.overall_exit_code(codes)


def _page(reports: list[Report], options: recheck.Options, steps: Steps) -> str:
    """With what only a page needs, imported when one is asked for."""
    from mvit_deploy.html import gathering, verified

    return gathering.page_of(verified.of_reports(reports, options), steps)

"""The body of mvit-verify: judge, show the steps, the table and which claims hold. PyTorch is not needed for it."""

from pathlib import Path

from mvit_deploy import recheck, report
from mvit_deploy.cli import results
from mvit_deploy.cli.console import Steps
from mvit_deploy.parity import MISMATCH


def run_verify(files: list[Path], named: dict[str, object], *, as_json: bool) -> int:
    """Judge files again as the options say. Returns the exit code."""
    with Steps() as steps:
        steps(f"judging {', '.join(path.name for path in files)}")
        reports = [results.told(result, steps) for result in recheck.run(files, recheck.Options(**named))]
    results.show(reports, steps.console, as_json=as_json)
    if not named["locate"] and any(result.verdict == MISMATCH for result in reports):
        steps.console.print("mvit-verify --locate FILE names the first stage and operation that differ", markup=False)
    return report.overall_exit_code(result.exit_code for result in reports)

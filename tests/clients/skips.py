"""What was skipped, counted by its reason, so that a run that lacks something cannot pass for a whole one."""

from collections import Counter
from collections.abc import Iterable

import pytest

CLIENTS = "tests/clients/"


def lines(skipped: Iterable[pytest.TestReport]) -> list[str]:
    """For the end of a run: a line for all that was skipped, then a block of the clients' tests. Empty without any."""
    reports = list(skipped)
    if not reports:
        return []
    said = [f"{len(reports)} skipped: {', '.join(_counted(reports))}"]
    clients = [report for report in reports if CLIENTS in report.nodeid]
    if clients:
        said += [f"CLIENTS NOT RUN: {len(clients)} tests", *(f"  {line}" for line in _counted(clients))]
    return said


def _counted(reports: Iterable[pytest.TestReport]) -> list[str]:
    """Each reason with how often it was given, the most frequent first."""
    return [f"{reason} × {count}" for reason, count in Counter(map(_reason, reports)).most_common()]


def _reason(report: pytest.TestReport) -> str:
    """longrepr is (file, line, "Skipped: reason") of a skip, and text of a test that failed as was expected."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")

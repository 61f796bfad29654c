"""The SQNR of every mode, task, format and float precision with sensitive random weights, as a Markdown table.

    python benchmarks/matrix.py [--mode xs] [--task detection] [--small]

Each file is exported and judged as mvit-export does it, at its task's image size (--small: 64x96). A cell holds fp32
and fp16 in dB on the built-in photos, of the output that has less of it; a file that does not match says so instead.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from exporters import TARGETS
from mvit_deploy.cli.console import Steps
from mvit_deploy.nn.config import MODES
from mvit_deploy.parity import MATCH
from mvit_deploy.pipeline import export
from mvit_deploy.report import Report
from mvit_deploy.spec import TASKS

FORMATS = [(name, form) for name, target in TARGETS.items() for form in target.formats]
PRECISIONS = ("fp32", "fp16")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=MODES, action="append", help="all unless given")
    parser.add_argument("--task", choices=TASKS, action="append", help="all unless given")
    parser.add_argument("--small", action="store_true", help="images of 64x96")
    given = parser.parse_args()
    print(f"| mode | task | {' | '.join(form for _, form in FORMATS)} |\n|---|---|{'---|' * len(FORMATS)}")
    verdicts = []
    with Steps() as steps:
        for mode in given.mode or MODES:
            for task in given.task or TASKS:
                rows = list(reports(mode, task, (64, 96) if given.small else None, steps))
                verdicts += [report.verdict for row in rows for report in row]
                print(f"| {mode} | {task} | {' | '.join(' / '.join(map(cell, row)) for row in rows)} |", flush=True)
    return int(set(verdicts) != {MATCH})


def reports(mode: str, task: str, size: tuple[int, int] | None, steps: Steps) -> Iterator[list[Report]]:
    """Of each format, those of both precisions."""
    for target, form in FORMATS:
        options = {"format": form} if target == "coreml" else {}
        with tempfile.TemporaryDirectory() as folder:
            yield export(
                mode,
                task=task,
                target=target,
                precision=PRECISIONS,
                image_size=size,
                output=Path(folder),
                on_step=steps,
                **options,
            )


def cell(report: Report) -> str:
    outputs = report.content["verification"]["outputs"]
    if report.verdict != MATCH or not outputs:
        return f"{report.verdict}: {report.reason}"
    return f"{min(output['photos']['sqnr_db'] for output in outputs):.0f}"


if __name__ == "__main__":
    sys.exit(main())

"""Export the digits' network for every target in every precision, and count how many of 1,000 digits each file reads.

    python examples/digits/table.py [--weights digits.safetensors] [--output exported] [--count 250]

The digits are those that the network did not learn from. Quantized files are calibrated on 100 that it did.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from digits import CALIBRATED_ON, LABELS, Digits, as_picture, read_digits, spread, write_pictures
from rich.table import Table

from mvit_deploy import reference, runtimes
from mvit_deploy.cli import entry
from mvit_deploy.cli.console import Steps
from mvit_deploy.errors import MvitError
from mvit_deploy.pipeline import export
from mvit_deploy.report import Report, overall_exit_code
from mvit_deploy.spec import PRECISIONS
from mvit_deploy.verification import numeric_outputs

WEIGHTS = Path(__file__).with_name("mobilevit_xxs_digits.safetensors")
SIDE = 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--output", type=Path, default=Path("exported/digits"))
    parser.add_argument("--count", type=int, default=1000, help="digits to read, evenly of all kinds")
    given = parser.parse_args()
    entry.set_up_logging(debug=False)
    try:
        return run(given.weights, given.output, given.count)
    except MvitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def run(weights: Path, output: Path, count: int) -> int:
    training, test = read_digits()
    test = spread(test, count)
    pixels = np.stack([np.asarray(as_picture(each, SIDE)) for each in test.pixels])
    source = reference.from_weights(None, str(weights), num_classes=None, seed=0)
    best = read_right(reference.run(source, pixels)["logits"], test)
    with tempfile.TemporaryDirectory() as folder, Steps() as steps:
        calibration = write_pictures(spread(training, CALIBRATED_ON), Path(folder) / "calibration")
        reports = export(
            None,
            target="all",
            precision=PRECISIONS,
            weights=weights,
            labels=LABELS,
            image_size=SIDE,
            resize=(SIDE, SIDE),
            calibration=calibration,
            output=output,
            on_step=steps,
        )
        rows = [row(report, pixels, test, steps) for report in reports]
        steps.console.print(table(best, rows, len(pixels)))
    return overall_exit_code([report.exit_code for report in reports])


def read_right(outputs: np.ndarray, digits: Digits) -> int:
    return int((outputs.argmax(axis=1) == digits.classes).sum())


def row(report: Report, pixels: np.ndarray, test: Digits, steps: Steps) -> tuple[str, ...]:
    if not report.path.exists():
        return report.path.name, report.verdict, "", ""
    steps(f"reading digits with {report.path.name}")
    runner = runtimes.open_file(report.path)
    right = read_right(runner.run(pixels)[numeric_outputs(runner.interface)[0].name], test)
    size = report.content["artifact"]["size_bytes"]
    return report.path.name, report.verdict, f"{right / len(pixels):.1%}", f"{size / 1e6:.2f}"


def table(best: int, rows: list[tuple[str, ...]], count: int) -> Table:
    made = Table(title=f"{count:,} digits that were not learnt from")
    for column in ("file", "verdict", "read right", "MB"):
        made.add_column(column, justify="right" if column in ("read right", "MB") else "left")
    made.add_row("PyTorch fp32", "", f"{best / count:.1%}", "")
    for each in rows:
        made.add_row(*each)
    return made


if __name__ == "__main__":
    sys.exit(main())

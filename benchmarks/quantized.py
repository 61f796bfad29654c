"""What int8 costs and gives: quantized files of a model beside fp32, on photos kept apart from calibration.

    python benchmarks/quantized.py --weights W --labels L --calibration DIR --photos DIR [--target T] [--precision P]
    python benchmarks/quantized.py --mode xs --calibration DIR --photos DIR

--photos holds sub-folders named as the labels; without --labels any folder. Without --weights they are random, drawn to
be sensitive: their blocks amplify noise as no trained network does, so their SQNR says how far the arithmetic of files
agrees and not what int8 costs; agreement between nearly random classes says nothing and is left out.

One row a file: SQNR and agreement with PyTorch fp32, points of top-1 lost with the two-sided exact test of the photos
that changed (McNemar), size, share of the multiply-accumulates in int8, and latency with one thread as a ratio to fp32
of the same runtime, taken round by round (mvit-bench; the middle half is its noise). Accuracy itself is not printed:
the photos may stem from training. The time is of planning, calibration and export of the quantized files, in one run,
without judging.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from mvit_deploy import parity, reference, runtimes
from mvit_deploy.bench import accuracy, measuring
from mvit_deploy.cli.console import Steps
from mvit_deploy.images import load_folder
from mvit_deploy.pipeline import export
from mvit_deploy.report import Report
from mvit_deploy.runtimes.census import census

SIZE = (256, 256)
COLUMNS = ("file", "SQNR dB", "agree", "points lost", "p", "MB", "int8 MACs", "latency ratio (middle half)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("calibration", "photos"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--weights", default="random")
    parser.add_argument("--mode", help="of random weights")
    parser.add_argument("--labels", type=Path, help="without them accuracy is not looked at")
    parser.add_argument("--target", default="all")
    parser.add_argument("--precision", default="w8,w8a16,w8a8")
    parser.add_argument("--rounds", type=int, default=30, help="of measuring latency; 0 for none")
    parser.add_argument("--output", type=Path, help="keep the files there")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON to stdout")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Steps() as steps:
        rows, seconds = measure(given, given.output or Path(folder), steps)
    if given.json:
        json.dump(rows, sys.stdout, indent=1)
    Console(width=150, stderr=given.json).print(as_table(rows, seconds))


def measure(given: argparse.Namespace, output: Path, steps: Steps) -> tuple[list[dict[str, object]], float]:
    """A row for each file, and the seconds that making the quantized ones took."""
    floats = written(given, "fp32", output, steps)
    start = time.perf_counter()
    quantized = written(given, given.precision, output, steps)
    seconds = time.perf_counter() - start
    photos = load_folder(given.photos, SIZE)
    truth = None
    if given.labels is not None:
        truth = classes(given.photos, given.labels.read_text(encoding="utf-8").split())
    source = reference.from_weights(given.mode, given.weights, num_classes=None, seed=0)
    expected = reference.run(source, photos.pixels)["logits"]
    rows = []
    for report in quantized:
        steps(f"judging {report.path.name}")
        outputs = runtimes.open_file(report.path).run(photos.pixels)["logits"]
        rows.append(judged(report, expected, outputs, truth))
    for target in ("onnx", "tflite") if given.rounds else ():
        paths = [report.path for report in floats + quantized if report.content["artifact"]["target"] == target]
        for row_name, ratio in latencies(paths, given.rounds, steps).items():
            next(row for row in rows if row["file"] == row_name).update(ratio)
    return rows, seconds


def written(given: argparse.Namespace, precision: str, output: Path, steps: Steps) -> list[Report]:
    """Files that are not judged here: that is done on all photos at once. w8a16 is left out of targets that lack it."""
    calibration = {} if precision == "fp32" else {"calibration": given.calibration}
    return export(
        given.mode,
        target=given.target,
        precision=precision,
        weights=given.weights,
        output=output,
        verify=False,
        on_step=steps,
        **calibration,
    )


def classes(folder: Path, labels: list[str]) -> np.ndarray:
    """The class of each photo, in the order in which they are loaded."""
    return np.array([labels.index(label) for label in accuracy.find_photos(folder).values()])


def judged(report: Report, expected: np.ndarray, outputs: np.ndarray, truth: np.ndarray | None) -> dict[str, object]:
    errors = parity.measure(reference=expected, candidate=outputs)
    artifact, counted = report.content["artifact"], census(report.path)
    return {
        "file": report.path.name,
        "n": len(outputs),
        "sqnr_db": errors.sqnr_db,
        **({} if truth is None else changes(expected, outputs, truth) | {"agreement": errors.top1_agreement}),
        "size_bytes": artifact["size_bytes"],
        "int8_macs_fraction": counted.int8_macs_fraction,
        "kept_float": report.content["quantization"]["plan"]["keep_float"],
        "timings_s": report.content["timings_s"],
    }


def changes(expected: np.ndarray, outputs: np.ndarray, truth: np.ndarray) -> dict[str, object]:
    """Photos that only one of the two has right."""
    before, after = expected.argmax(1) == truth, outputs.argmax(1) == truth
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    points = 100 * (lost - won) / len(truth)
    return {"points_lost": points, "lost": lost, "won": won, "p": exact_p(lost, won)}


def exact_p(lost: int, won: int) -> float:
    """Two-sided exact test that changes are as likely for the better as for the worse (McNemar 1947)."""
    changed = lost + won
    tail = sum(math.comb(changed, k) for k in range(min(lost, won) + 1)) / 2**changed
    return min(1.0, 2 * tail)


def latencies(paths: list[Path], rounds: int, steps: Steps) -> dict[str, dict[str, object]]:
    """By file name, the ratio to the first, which is fp32."""
    if len(paths) < 2:
        return {}
    results = measuring.run(paths, measuring.Options(rounds, 5, (1,)), steps)
    found = {result.path.name: result.measured.latencies[0] for result in results}
    return {path.name: {"ms": found[path.name].ms.to_json(), "ratio": found[path.name].ratio.to_json()}
            for path in paths[1:]}  # fmt: skip


def as_table(rows: list[dict[str, object]], seconds: float) -> Table:
    caption = f"n = {rows[0]['n']} photos; planning, calibration and export of all of them: {seconds:.0f} s"
    table = Table(title="Quantized files against PyTorch fp32", caption=caption)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "file" else "right")
    for row in rows:
        ratio, knows_truth = row.get("ratio"), "p" in row
        table.add_row(
            row["file"],
            f"{row['sqnr_db']:.1f}",
            f"{row['agreement']:.1%}" if knows_truth else "",
            f"{row['points_lost']:+.1f} (-{row['lost']} +{row['won']})" if knows_truth else "",
            f"{row['p']:.2f}" if knows_truth else "",
            f"{row['size_bytes'] / 1e6:.2f}",
            f"{row['int8_macs_fraction']:.1%}",
            "" if ratio is None else f"{ratio['median']:.2f} ({ratio['p25']:.2f}-{ratio['p75']:.2f})",
        )
    return table


if __name__ == "__main__":
    main()

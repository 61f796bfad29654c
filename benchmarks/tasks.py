"""How good every exported file of a detector or a segmenter is, beside PyTorch fp32, on pictures whose truth is known.

    python benchmarks/tasks.py --weights detector.safetensors --voc VOC --train train --test test
    python benchmarks/tasks.py --weights segmenter.safetensors --images DIR --masks DIR --image-size 320

Weights as the scripts in examples/training write them, labels beside them; pictures and splits are theirs too: a
segmenter is judged on every fifth image. Quantized files are calibrated on pictures of the training split.

One row a file of each target and precision: the mean average precision at an overlap of 0.5, or the mean intersection
over union, the points of it that are lost against PyTorch, SQNR in the report, and size. All pictures go through each
file as 8-bit squares; a detector's boxes are sorted out in NumPy, the same for all.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "training"))
from detector import LEAST_SCORE, labels_of
from pictures import WHOLE, cut
from segmenter import pairs_of, parted
from voc import read_split

from mvit_deploy import reference, runtimes
from mvit_deploy.cli.console import Steps
from mvit_deploy.decoding import decode
from mvit_deploy.detection import non_maximum_suppression
from mvit_deploy.pipeline import export
from mvit_deploy.report import Report
from mvit_deploy.spec import PRECISIONS
from mvit_deploy.training.metrics import Truth, class_ious, confusion, mean_average_precision, mean_iou

Outputs = dict[str, np.ndarray]
COLUMNS = ("file", "verdict", "score", "points lost", "SQNR dB", "MB")


@dataclass(frozen=True)
class Task:
    """pixels: uint8 (n, S, S, 3) to judge on; calibration: pictures to calibrate on; score: of a file's outputs for
    pixels, to grow, in [0, 1], with words; ending: options of export."""

    pixels: np.ndarray
    calibration: list[Path]
    score: Callable[[Outputs], tuple[float, str]]
    ending: dict[str, bool]


def main() -> None:
    given = parse()
    labels = given.weights.with_suffix(".labels.txt").read_text(encoding="utf-8").split()
    task = detection(given, labels) if given.voc else segmentation(given, labels)
    with tempfile.TemporaryDirectory() as folder, Steps() as steps:
        output = given.output or Path(folder) / "files"
        rows = measure(given, task, linked(task.calibration, Path(folder) / "calibration"), output, steps)
    if given.json:
        json.dump(rows, sys.stdout, indent=1)
    Console(width=120, stderr=given.json).print(as_table(rows, len(task.pixels)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--voc", type=Path, help="of a detector")
    parser.add_argument("--train", default="train")
    parser.add_argument("--test", default="test")
    parser.add_argument("--images", type=Path, help="of a segmenter")
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--calibration-count", type=int, default=100)
    parser.add_argument("--output", type=Path, help="keep the files there")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON to stdout")
    given = parser.parse_args()
    if (given.voc is None) == (given.images is None or given.masks is None):
        parser.error("give --voc for a detector, or --images and --masks for a segmenter")
    return given


def detection(given: argparse.Namespace, labels: list[str]) -> Task:
    training, test = read_split(given.voc, given.train), read_split(given.voc, given.test)
    truths = [Truth(picture.boxes, labels_of(picture, labels)) for picture in test]

    def score(outputs: Outputs) -> tuple[float, str]:
        rows = zip(outputs["boxes"], outputs["scores"], strict=True)
        found = [non_maximum_suppression(*row, score_threshold=LEAST_SCORE) for row in rows]
        value = mean_average_precision(found, truths, 1 + len(labels))
        return value, f"mAP@0.5 {value:.4f}"

    return Task(squares([p.path for p in test], given.image_size), [p.path for p in training], score, {})


def segmentation(given: argparse.Namespace, labels: list[str]) -> Task:
    training, held_out = parted(pairs_of(given.images, given.masks))
    masks = np.stack([square(Image.open(mask), given.image_size, Image.Resampling.NEAREST) for _, mask in held_out])

    def score(outputs: Outputs) -> tuple[float, str]:
        matrix = confusion(outputs["classes"].astype(np.int64), masks, 1 + len(labels))
        ious = ", ".join(f"{label} {iou:.4f}" for label, iou in zip(labels, class_ious(matrix)[1:], strict=True))
        return mean_iou(matrix), f"mIoU {mean_iou(matrix):.4f} ({ious})"

    pixels, ending = squares([image for image, _ in held_out], given.image_size), {"upsample": True, "argmax": True}
    return Task(pixels, [image for image, _ in training], score, ending)


def squares(paths: list[Path], side: int) -> np.ndarray:
    return np.stack([square(decode(path), side, Image.Resampling.BILINEAR) for path in paths])


def square(picture: Image.Image, side: int, resample: Image.Resampling) -> np.ndarray:
    return np.asarray(cut(picture, WHOLE, side, resample=resample))


def linked(paths: list[Path], folder: Path) -> Path:
    """A folder with links to these files alone."""
    folder.mkdir()
    for path in paths:
        (folder / path.name).symlink_to(path.resolve())
    return folder


def measure(
    given: argparse.Namespace, task: Task, calibration: Path, output: Path, steps: Steps
) -> list[dict[str, object]]:
    """A row for PyTorch, then one for each file."""
    source = reference.from_weights(None, str(given.weights), num_classes=None, seed=0)
    ending = "upsampled classes" if task.ending else "boxes"
    source = reference.with_ending(source, ending, task.pixels.shape[1:3])
    steps("PyTorch: running the reference")
    best, words = task.score(reference.run(source, task.pixels))
    rows = [{"file": "PyTorch fp32", "score": best, "words": words}]
    for report in written(given, task, calibration, output, steps):
        artifact, row = report.content["artifact"], {"file": report.path.name, "verdict": report.verdict}
        if report.path.exists():
            steps(f"judging {report.path.name}")
            score, words = task.score(runtimes.open_file(report.path).run(task.pixels))
            row |= {"score": score, "words": words, "lost_points": 100 * (best - score)}
        outputs = report.content["verification"]["outputs"]
        sqnr = {each["name"]: each["photos"] and each["photos"]["sqnr_db"] for each in outputs}
        rows.append(row | {"reason": report.reason, "sqnr_db": sqnr, "size_bytes": artifact["size_bytes"]})
    return rows


def written(given: argparse.Namespace, task: Task, calibration: Path, output: Path, steps: Steps) -> list[Report]:
    """Every target and precision, Core ML in both of its formats."""
    common = {
        "weights": given.weights,
        "labels": given.weights.with_suffix(".labels.txt"),
        "image_size": task.pixels.shape[1:3],
        "calibration": calibration,
        "calibration_count": min(given.calibration_count, len(task.calibration)),
        "output": output,
        "on_step": steps,
        **task.ending,
    }
    classic = export(None, target="coreml", format="mlmodel", precision=("fp32", "fp16", "w8"), **common)
    return [*export(None, target="all", precision=PRECISIONS, **common), *classic]


def as_table(rows: list[dict[str, object]], count: int) -> Table:
    table = Table(title=f"{count} pictures")
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for row in rows:
        sqnr = " ".join(f"{name} {value:.1f}" for name, value in row.get("sqnr_db", {}).items() if value is not None)
        size = f"{row['size_bytes'] / 1e6:.2f}" if row.get("size_bytes") else ""
        lost = f"{row['lost_points']:+.2f}" if "lost_points" in row else ""
        table.add_row(row["file"], row.get("verdict", ""), row.get("words", row.get("reason")), lost, sqnr, size)
    return table


if __name__ == "__main__":
    main()

"""What MediaPipe's ImageClassifier makes of photos with exported .tflite files, beside PyTorch: cut, and as they are.

    python benchmarks/mediapipe.py --weights model.pth --labels labels.txt --photos DIR --image-size 192

--photos holds a folder a class, named as in the labels; --calibration DIR adds w8a8. Each photo goes to MediaPipe in
three ways. "cut": resized and cropped by this project, which is what PyTorch sees; "middle": the whole photo with the
same middle as its region of interest, resized by MediaPipe; "whole": the whole photo, which MediaPipe squeezes into the
input. One row a file and way: how many photos have the true label (where the folders say it), on how many the label is
PyTorch's for the cut photo, and how far scores are from PyTorch's.

MediaPipe lives in an environment of its own; MVIT_INSTALL_CLIENTS=1 makes it (tests/clients/mediapipe_env.py).
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from mvit_deploy import images, reference
from mvit_deploy.cli.console import Steps
from mvit_deploy.decoding import decode
from mvit_deploy.pipeline import export
from mvit_deploy.request import read_labels
from mvit_deploy.spec import OWN
from tests.clients import mediapipe_env
from tests.clients.tools import NotHereError

WAYS = ("cut", "middle", "whole")


@dataclass(frozen=True)
class Row:
    """right: photos whose label is the true one, None where that is not known; same: whose label is PyTorch's."""

    file: str
    way: str
    photos: int
    right: int | None
    same: int
    largest_difference: float
    mean_difference: float


@dataclass(frozen=True)
class Photos:
    """The photos in a folder that MediaPipe's process reads. regions: the middle that a cut photo shows, of each."""

    cut: Path
    whole: Path
    regions: list[tuple[float, float, float, float]]
    expected: np.ndarray
    truth: np.ndarray | None


def main() -> int:
    given = parse()
    try:
        python = mediapipe_env.interpreter()
    except NotHereError as reason:
        print(f"not run: {reason}", file=sys.stderr)
        return 3
    source = reference.from_weights(None, str(given.weights), num_classes=None, seed=0)
    labels = read_labels(given.labels, num_classes=source.num_classes, distinct=True)
    with tempfile.TemporaryDirectory() as folder, Steps() as steps:
        photos = prepare(given, source, labels, Path(folder))
        files = exported(given, Path(folder) / "files", steps)
        rows = [row for file in files for row in measure(python, file, photos)]
    if given.json:
        json.dump([asdict(row) for row in rows], sys.stdout, indent=1)
    Console(width=120, stderr=given.json).print(as_table(rows))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON to stdout")
    return parser.parse_args()


def prepare(given: argparse.Namespace, source: reference.Reference, labels: tuple[str, ...], folder: Path) -> Photos:
    paths, size = images.list_images(given.photos), (given.image_size, given.image_size)
    cut = np.stack([images.prepare(path, size) for path in paths])
    whole = [np.asarray(decode(path)) for path in paths]
    np.save(folder / "cut.npy", cut)
    np.savez(folder / "whole.npz", **{f"{place:05}": pixels for place, pixels in enumerate(whole)})
    classes = [path.parent.name for path in paths]
    truth = np.array([labels.index(name) for name in classes]) if set(classes) <= set(labels) else None
    logits = reference.run(source, cut)["logits"]
    regions = [middle(*pixels.shape[:2]) for pixels in whole]
    return Photos(folder / "cut.npy", folder / "whole.npz", regions, softmax(logits), truth)


def middle(height: int, width: int) -> tuple[float, float, float, float]:
    """What is left of a photo by this project's own resize and crop to a square: left, top, right, bottom."""
    side = min(height, width) * OWN.crop[0] / OWN.resize
    return (1 - side / width) / 2, (1 - side / height) / 2, (1 + side / width) / 2, (1 + side / height) / 2


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def exported(given: argparse.Namespace, folder: Path, steps: Steps) -> list[Path]:
    precisions = ("fp32", "fp16", "w8") + (("w8a8",) if given.calibration else ())
    reports = export(
        None,
        target="tflite",
        precision=precisions,
        weights=given.weights,
        labels=given.labels,
        image_size=given.image_size,
        calibration=given.calibration,
        verify_images=given.photos if given.calibration else None,
        output=folder,
        on_step=steps,
    )
    return [report.path for report in reports if report.path.exists()]


def measure(python: Path, file: Path, photos: Photos) -> list[Row]:
    asked = {"cut": {"images": str(photos.cut)}, "whole": {"images": str(photos.whole)}}
    asked["middle"] = asked["whole"] | {"regions": photos.regions}
    tasks = [{"do": "classify", "model": str(file)} | asked[way] for way in WAYS]
    rows = []
    for way, answer in zip(WAYS, mediapipe_env.answers(python, tasks), strict=True):
        scores = np.zeros_like(photos.expected)
        for row, found in zip(scores, answer["results"], strict=True):
            row[[each["index"] for each in found]] = [each["score"] for each in found]
        rows.append(compared(file.name, way, scores, photos))
    return rows


def compared(file: str, way: str, scores: np.ndarray, photos: Photos) -> Row:
    labels, apart = scores.argmax(axis=1), np.abs(scores - photos.expected).max(axis=1)
    right = None if photos.truth is None else int((labels == photos.truth).sum())
    same = int((labels == photos.expected.argmax(axis=1)).sum())
    return Row(file, way, len(scores), right, same, float(apart.max()), float(apart.mean()))


def as_table(rows: list[Row]) -> Table:
    table = Table(title=f"MediaPipe's ImageClassifier on {rows[0].photos} photos, beside PyTorch on the cut ones")
    for column in ("file", "photo given", "right", "PyTorch's label", "largest difference", "mean of the largest"):
        table.add_column(column, justify="left" if column in ("file", "photo given") else "right")
    for row in rows:
        right = "" if row.right is None else f"{row.right / row.photos:.1%}"
        differences = (f"{row.largest_difference:.1e}", f"{row.mean_difference:.1e}")
        table.add_row(row.file, row.way, right, f"{row.same / row.photos:.1%}", *differences)
    return table


if __name__ == "__main__":
    sys.exit(main())

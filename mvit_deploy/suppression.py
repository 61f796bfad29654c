"""Whether what a file found is what non-maximum suppression makes of the file's own boxes and scores.

Equal scores and overlaps at the very threshold may fall either way, in every runtime another one; so the result is held
to the rule and not to one list.
"""

import numpy as np

from mvit_deploy.detection import Detections, of_one_class, overlaps
from mvit_deploy.spec import Suppression

# Rounding of scores, of boxes in units of the image, and of overlaps: a file's boxes are computed twice.
_SCORE, _BOX, _OVERLAP = 1e-5, 1e-4, 1e-3


def faults(found: Detections, boxes: np.ndarray, scores: np.ndarray, rule: Suppression) -> list[str]:
    """Every point in which detections are not what the rule leaves of boxes and scores; empty when they are.

    Shapes: boxes (A, 4), corners; scores (A, C), without the background; classes found count from 1, as labels do.
    """
    counted = (of_one_class(scores) if rule.one_class else scores).T
    boxes, found_boxes = boxes.astype(np.float64), found.boxes.astype(np.float64)  # areas of large boxes overflow
    if not all(np.isfinite(each).all() for each in (found.boxes, found.scores, boxes, scores)):
        return ["a box or score is not finite"]
    if ((found.classes < 1) | (found.classes > scores.shape[1])).any():
        return [f"a detection has a class that is none of 1 to {scores.shape[1]}"]
    problems = ["detections are not in the order of their scores"] if (np.diff(found.scores) > _SCORE).any() else []
    if rule.kept is not None and len(found.scores) > rule.kept:
        problems.append(f"{len(found.scores)} detections, more than {rule.kept}")
    is_full = rule.kept is not None and len(found.scores) >= rule.kept
    least = found.scores.min() if is_full else -np.inf
    for label in range(1, scores.shape[1] + 1):
        mine = found.classes == label
        if mine.any() or (counted[label - 1] > rule.score_threshold).any():
            wrong = _faults(found_boxes[mine], found.scores[mine], boxes, counted[label - 1], rule, least)
            problems += [f"class {label}: {fault}" for fault in wrong]
    return problems


def _faults(
    found: np.ndarray, found_scores: np.ndarray, boxes: np.ndarray, scores: np.ndarray, rule: Suppression, least: float
) -> list[str]:
    """Of one class. least: no score below this one can stay. Shapes: found (n, 4), (n,); boxes (A, 4), scores (A,)."""
    problems = []
    candidates = np.flatnonzero(scores > rule.score_threshold - _SCORE)
    source = _sources(found, found_scores, boxes[candidates], scores[candidates])
    if (source < 0).any():
        problems.append(f"{(source < 0).sum()} detections are no box of the network above the score threshold")
    if len(set(source[source >= 0])) < (source >= 0).sum():
        problems.append("a box was found twice")
    if any((overlaps(box, found[:at]) > rule.iou_threshold + _OVERLAP).any() for at, box in enumerate(found)):
        problems.append("two detections overlap by more than the threshold")
    if rule.kept_per_class is not None and len(found) > rule.kept_per_class:
        problems.append(f"{len(found)} detections, more than {rule.kept_per_class}")
    if rule.kept_per_class is not None and len(found) >= rule.kept_per_class:
        least = max(least, found_scores.min())
    missing = _missing(found, found_scores, boxes, scores, rule, least)
    if missing:
        problems.append(f"{missing} boxes are missing that nothing better overlaps")
    return problems


def _sources(found: np.ndarray, found_scores: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Which box each detection is, -1 for none; of boxes and scores alike each is taken once."""
    free, sources = np.ones(len(scores), bool), np.full(len(found), -1)
    for place, (box, score) in enumerate(zip(found, found_scores, strict=True)):
        is_alike = (np.abs(boxes - box).max(axis=1) <= _BOX) & (np.abs(scores - score) <= _SCORE)
        chosen = np.flatnonzero(is_alike & free) if (is_alike & free).any() else np.flatnonzero(is_alike)
        if len(chosen):
            sources[place] = chosen[0]
            free[chosen[0]] = False
    return sources


def _missing(
    found: np.ndarray, found_scores: np.ndarray, boxes: np.ndarray, scores: np.ndarray, rule: Suppression, least: float
) -> int:
    """How many boxes should stay: clearly above both limits, no detection, and below none that is as good."""
    waiting = np.flatnonzero(scores > max(rule.score_threshold, least) + _SCORE)
    missing = 0
    for box, score in zip(boxes[waiting], scores[waiting], strict=True):  # one by one: all pairs would be gigabytes
        better = found[found_scores >= score - _SCORE]
        is_same = np.abs(better - box).max(axis=1, initial=0) <= _BOX  # a detection itself, even without area
        missing += not (is_same | (overlaps(box, better) > rule.iou_threshold - _OVERLAP)).any()
    return missing

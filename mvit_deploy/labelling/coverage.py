"""Whether two lists of detections in one photo say the same.

An app sees what non-maximum suppression leaves. Which of two boxes stays may hang on the last digit of a score, so it
is not asked for the same list, but that neither side finds what the other one has nothing for: suppression leaves, for
each box above its threshold, one of the same class that is no worse and as near as the rule's overlap, itself or the
one that put it out. Where scores and overlaps of the two sides differ by no more than a slack, this holds across them
but for the slack; so what breaks it is more than rounding.
"""

from dataclasses import dataclass

import numpy as np

from mvit_deploy.detection import Detections, overlaps
from mvit_deploy.spec import Suppression


@dataclass(frozen=True, eq=False)
class Side:
    """Of one photo: boxes (A, 4) and scores (A, C) without the background, and what stays."""

    boxes: np.ndarray
    scores: np.ndarray
    found: Detections


@dataclass(frozen=True, eq=False)
class Lost:
    """Of one photo: what PyTorch finds and the file has nothing for, what the file finds and PyTorch has nothing for,
    and how many detections of both count at all."""

    missing: Detections
    strange: Detections
    counted: int

    @property
    def count(self) -> int:
        return len(self.missing.scores) + len(self.strange.scores)


def lost_between(ours: Side, theirs: Side, rule: Suppression, slack: tuple[float, float]) -> Lost:
    """PyTorch's side and the file's, both sorted out by one rule. slack: of scores and of overlaps."""
    sure = _sure(ours, theirs, rule, slack[0]), _sure(theirs, ours, rule, slack[0])
    missing = _uncovered(ours, theirs, sure[0], rule, slack)
    strange = _uncovered(theirs, ours, sure[1], rule, slack)
    return Lost(ours.found.take(missing), theirs.found.take(strange), len(sure[0]) + len(sure[1]))


def _sure(mine: Side, theirs: Side, rule: Suppression, slack: float) -> np.ndarray:
    """Places of the detections that scores a little lower could not have kept from the other side's list."""
    found = mine.found
    least = np.full(len(found.scores), rule.score_threshold)
    if rule.kept is not None and len(theirs.found.scores) >= rule.kept:
        least = np.maximum(least, theirs.found.scores.min())
    for label in set(found.classes.tolist()):
        others = theirs.found.scores[theirs.found.classes == label]
        if rule.kept_per_class is not None and len(others) >= rule.kept_per_class:
            least[found.classes == label] = np.maximum(least[found.classes == label], others.min())
    return np.flatnonzero(found.scores > least + slack)


def _uncovered(
    mine: Side, theirs: Side, places: np.ndarray, rule: Suppression, slack: tuple[float, float]
) -> np.ndarray:
    """Those detections that no one of the other side stands for."""
    return np.array([place for place in places if not _is_covered(mine.found, place, theirs, rule, slack)], np.int64)


def _is_covered(found: Detections, place: int, theirs: Side, rule: Suppression, slack: tuple[float, float]) -> bool:
    """Whether one of the same class, no worse, is so near that it would have put a detection out; or, where a box is of
    one class alone, a box there has the score, and another class one as good, to which it then belongs."""
    box, score, label = found.boxes[place], found.scores[place] - slack[0], found.classes[place]
    near = rule.iou_threshold - slack[1]
    alike = (theirs.found.classes == label) & (theirs.found.scores >= score)
    if (overlaps(box, theirs.found.boxes[alike]) >= near).any():
        return True
    own = theirs.scores[:, label - 1]
    tied = (own >= score) & (theirs.scores.max(axis=1) <= own + 2 * slack[0])
    return rule.one_class and bool((overlaps(box, theirs.boxes[tied]) >= near).any())

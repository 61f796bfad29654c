"""Detections of two files, matched by class and overlap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mvit_deploy.detection import Detections, overlaps

LEAST_OVERLAP = 0.5


@dataclass(frozen=True)
class Matched:
    """Over all images: how many detections each side has, how many of them are of one class and overlap by half or
    more (intersection over union), and the largest difference of the scores of these; None where there are none."""

    a: int
    b: int
    matched: int
    largest_score_difference: float | None

    @property
    def share(self) -> float:
        """Of the side that has more; 1 where neither has any."""
        return self.matched / max(self.a, self.b) if max(self.a, self.b) else 1.0


def match(first: Sequence[Detections], second: Sequence[Detections]) -> Matched:
    """Match image by image: each detection of the first, the best first, takes the one that overlaps it most."""
    differences = [d for a, b in zip(first, second, strict=True) for d in _differences(a, b)]
    return Matched(
        a=sum(len(each.scores) for each in first),
        b=sum(len(each.scores) for each in second),
        matched=len(differences),
        largest_score_difference=max(differences, default=None),
    )


def _differences(a: Detections, b: Detections) -> list[float]:
    """Differences of the scores of matched pairs of one image."""
    is_free, found = np.ones(len(b.scores), bool), []
    for place in np.argsort(-a.scores, kind="stable"):
        candidates = np.flatnonzero(is_free & (b.classes == a.classes[place]))
        if not len(candidates):
            continue
        found_overlaps = overlaps(a.boxes[place], b.boxes[candidates])
        best = int(found_overlaps.argmax())
        if found_overlaps[best] >= LEAST_OVERLAP:
            is_free[candidates[best]] = False
            found.append(abs(float(a.scores[place]) - float(b.scores[candidates[best]])))
    return found

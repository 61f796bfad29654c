"""Interleaved rounds: who runs when, and what the times say.

A machine's speed drifts, so files are compared within a round.
"""

import random
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """The middle of some values, and the range in which the middle half of them lies."""

    median: float
    p25: float
    p75: float
    n: int

    @property
    def relative(self) -> float:
        """Width of the middle half, to the median."""
        return (self.p75 - self.p25) / self.median

    def to_json(self, unit: str = "") -> dict[str, float | int]:
        """unit: a suffix of each name but n's, as _ms."""
        return {f"{name}{unit}": round(getattr(self, name), 4) for name in ("median", "p25", "p75")} | {"n": self.n}


def spread(values: list[float]) -> Spread:
    """Median and quartiles, between two values by linear interpolation. Raises: ValueError for no values."""
    if not values:
        raise ValueError("there are no values")
    p25, median, p75 = (float(q) for q in np.percentile(values, [25, 50, 75]))
    return Spread(median, p25, p75, len(values))


def orders(count: int, rounds: int, seed: int = 0) -> list[list[int]]:
    """For each round the order in which count files take their turn.

    A shuffled order is rotated until every file has had every place, then shuffled anew: no file always comes first,
    and none always after the same other.
    """
    generator = random.Random(seed)
    found: list[list[int]] = []
    while len(found) < rounds:
        order = generator.sample(range(count), count)
        found += [order[start:] + order[:start] for start in range(max(1, count))]
    return found[:rounds]


def paired_ratios(times: list[list[float]], base: list[list[float]]) -> list[float]:
    """Round by round, the median time of a file to that of the file it is compared with.

    times, base: for each round the times in it, the same number of rounds.
    """
    return [float(np.median(own) / np.median(other)) for own, other in zip(times, base, strict=True)]

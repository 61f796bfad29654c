"""Narrower ranges: a few rare extremes are given up so that all other values get finer levels.

What counts is the network's output, not the value's own error: an end of a range is drawn in as long as the output
loses less. Values that lose little beside the rest keep what was observed.
"""

from collections.abc import Callable, Mapping

from mvit_deploy.nn.quantized import Range
from mvit_deploy.quantization.trials import Trials

STEP = 0.8  # by which an end is drawn in
ROUNDS = 2
PATIENCE = 2  # steps without a gain before the search of an end stops
LEAST_GAIN = 0.95  # of the noise before: less is chance on few photos
LEFT_ALONE = 0.1  # of all noise: what the values that are not searched bring together at most


def narrowed(
    trials: Trials, ranges: Mapping[str, Range], noises: Mapping[str, float], *, bits: int
) -> tuple[dict[str, Range], dict[str, float]]:
    """Ranges, and the noises that they leave, for ranges and their noises. The image keeps its range."""
    found, left = dict(ranges), dict(noises)
    rest = sum(noises.values())
    enough = LEFT_ALONE * rest
    for name in sorted(noises, key=lambda n: -noises[n]):
        if rest <= enough:
            break
        rest -= noises[name]
        if name != trials.graph.input:

            def measure(range_: Range, limit: float, name: str = name) -> float:
                return trials.of_value(name, range_, bits, limit=limit)

            found[name], left[name] = _searched(found[name], left[name], measure)
    return found, left


def _searched(start: Range, noise: float, measure: Callable[[Range, float], float]) -> tuple[Range, float]:
    """The upper end, then the lower; both again where the lower moved, since a wide other end hides what is gained."""
    best, least = start, noise
    for _ in range(ROUNDS):
        low = best.low
        for shrink in (_high, _low):
            best, least = _drawn_in(best, least, shrink, measure)
        if best.low == low:
            break
    return best, least


def _drawn_in(
    best: Range, least: float, shrink: Callable[[Range], Range], measure: Callable[[Range, float], float]
) -> tuple[Range, float]:
    """One end, step by step, until some steps on end brought nothing."""
    tried, since = best, 0
    while since < PATIENCE and shrink(tried) != tried:  # an end at 0 stays
        tried = shrink(tried)
        found = measure(tried, LEAST_GAIN * least)
        since += 1
        if found < LEAST_GAIN * least:
            best, least, since = tried, found, 0
    return best, least


def _high(range_: Range) -> Range:
    return Range(range_.low, range_.high * STEP)


def _low(range_: Range) -> Range:
    return Range(range_.low * STEP, range_.high)

"""Files side by side: errors by stage, sizes, times."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mvit_deploy.html import charts, words
from mvit_deploy.html.exhibits import StageErrors, Timing
from mvit_deploy.report import Report, look_up

HEATS = 6  # shades of the style sheet, from 1e-6 upwards, one a power of ten
TARGETS = ("onnx", "coreml", "tflite")


@dataclass(frozen=True)
class Cell:
    """A stage's error. heat: 0 … HEATS."""

    text: str
    heat: int


@dataclass(frozen=True)
class Stages:
    """A table, rows of (stage, a cell for each file), and its chart."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    chart: charts.Lines


def stages(found: Sequence[StageErrors], names: dict[str, str]) -> Stages | None:
    """None where nothing is known of any stage of any file."""
    told = [each for each in found if any(rel_max is not None for _, rel_max in each.stages)]
    if not told:
        return None
    order = list(dict.fromkeys(stage for each in told for stage, _ in each.stages))
    called = tuple(names.get(each.path, each.path) for each in told)
    values = [dict(each.stages) for each in told]
    rows = tuple((stage, tuple(_cell(own.get(stage)) for own in values)) for stage in order)
    lines = [_line(name, own, order) for name, own in zip(called, values, strict=True)]
    largest = max(
        (value, name, stage) for name, own in zip(called, values, strict=True) for stage, value in _known(own)
    )
    chart = charts.categories(
        "Error by stage of the network",
        f"The largest is {largest[0]:.1e}, of {largest[1]} in {largest[2]}.",
        order,
        lines,
        x_label="stage, from the image to the output",
        y_label="rel_max",
    )
    return Stages(called, rows, chart)


def _known(values: dict[str, float | None]) -> list[tuple[str, float]]:
    return [(stage, value) for stage, value in values.items() if words.is_number(value)]


def _cell(value: float | None) -> Cell:
    if not words.is_number(value):
        return Cell("not told", 0)
    heat = 0 if value <= 0 else min(HEATS, max(0, math.floor(math.log10(value)) + 7))
    return Cell("0" if value == 0 else f"{value:.1e}", heat)


def _line(name: str, values: dict[str, float | None], order: list[str]) -> charts.Line:
    points = [(order.index(stage), value, f"{name}, {stage}: {value:.1e}") for stage, value in _known(values)]
    return charts.Line(name, tuple(points))


def sizes(results: Sequence[Report], names: dict[str, str]) -> charts.Bars | None:
    """The size of each file that was written, in the order of the reports."""
    values = []
    for result in results:
        size, target = look_up(result.content, "artifact", "size_bytes"), look_up(result.content, "artifact", "target")
        if words.is_number(size):
            text = words.megabytes(size)
            values.append(charts.Value(names[str(result.path)], size / 1e6, text, _style(target)))
    if not values:
        return None
    least = min(values, key=lambda value: value.value)
    return charts.bars("Size of each file", f"The smallest is {least.name} with {least.text}.", values)


def times(timing: Timing, results: Sequence[Report], names: dict[str, str]) -> charts.Bars | None:
    """The median time of each file that was timed, with its middle half."""
    targets = {str(r.path): look_up(r.content, "artifact", "target") for r in results}
    values = [
        charts.Value(
            names.get(time.path, time.path),
            time.median_ms,
            f"{time.median_ms:.2f} ms ({time.p25_ms:.2f} to {time.p75_ms:.2f}, n = {time.n})",
            _style(targets.get(time.path)),
            (time.p25_ms, time.p75_ms),
        )
        for time in timing.times
    ]
    if not values:
        return None
    least = min(values, key=lambda value: value.value)
    return charts.bars("Latency of one input", f"The fastest is {least.name} with {least.value:.2f} ms.", values)


def _style(target: object) -> int:
    return TARGETS.index(target) if target in TARGETS else len(TARGETS)

"""Where everything of a chart stands, in the units of an SVG's viewBox; the templates draw it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mvit_deploy.html.words import power_of_ten

WIDTH = 680.0
STYLES = 8  # ways in which the style sheet tells series apart
ROW, BAR = 34.0, 11.0  # of a bar chart: a row's height with its name above the bar, and the bar's
LINE_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 250.0, 52.0, 14.0, 12.0, 40.0
LETTER = 6.4  # the width of one, about, at the style sheet's 12 units


@dataclass(frozen=True)
class Mark:
    """A value's place. title: what it says when pointed at."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Series:
    """Values that belong together. style: 0 … STYLES - 1."""

    name: str
    style: int
    marks: tuple[Mark, ...]
    has_line: bool = True

    @property
    def points(self) -> str:
        """As an SVG polyline takes them."""
        return " ".join(f"{mark.x:g},{mark.y:g}" for mark in self.marks)


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Rule:
    """A horizontal line, such as a target, with its name."""

    y: float
    text: str


@dataclass(frozen=True)
class Lines:
    """A chart of series over two axes. summary: what is seen in it, for those who do not see it."""

    title: str
    summary: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    series: tuple[Series, ...]
    rules: tuple[Rule, ...] = ()
    width: float = WIDTH
    height: float = LINE_HEIGHT
    left: float = LEFT
    top: float = TOP

    @property
    def right(self) -> float:
        return self.width - RIGHT

    @property
    def bottom(self) -> float:
        return self.height - BOTTOM


@dataclass(frozen=True)
class Bar:
    """A row: its name above a bar that is length long; text behind it. whisker: from, to, in the same units. marks:
    places on the row with the style of each."""

    name: str
    text: str
    style: int
    y: float
    length: float
    whisker: tuple[float, float] | None = None
    marks: tuple[tuple[int, Mark], ...] = ()

    @property
    def text_at(self) -> float:
        ends = [self.length, *(self.whisker or ()), *(mark.x for _, mark in self.marks)]
        return round(max(ends) + 8, 1)


@dataclass(frozen=True)
class Bars:
    """A chart of horizontal bars from a common edge."""

    title: str
    summary: str
    bars: tuple[Bar, ...]
    width: float = WIDTH

    @property
    def height(self) -> float:
        return ROW * len(self.bars) + 4


@dataclass(frozen=True)
class Value:
    """A row of a bar chart before it has a place. spread: from, to. parts: other values of the row."""

    name: str
    value: float
    text: str
    style: int = 0
    spread: tuple[float, float] | None = None
    parts: tuple[float, ...] = ()


def bars(title: str, summary: str, values: Sequence[Value]) -> Bars:
    """Bars from 0 to each value, the largest of everything as long as the longest text leaves room for."""
    largest = max((max([v.value, *(v.spread or ()), *v.parts]) for v in values), default=0) or 1
    room = WIDTH - 16 - LETTER * max((len(v.text) for v in values), default=0)

    def place(value: float) -> float:
        return round(max(0.0, value) / largest * room, 1)

    rows = []
    for at, v in enumerate(values):
        y = ROW * at + 18
        whisker = None if v.spread is None else (place(v.spread[0]), place(v.spread[1]))
        marks = tuple((style, Mark(place(part), y + BAR / 2, "")) for style, part in enumerate(v.parts))
        rows.append(Bar(v.name, v.text, v.style % STYLES, y, place(v.value), whisker, marks))
    return Bars(title, summary, tuple(rows))


@dataclass(frozen=True)
class Line:
    """A series before it has a place. points: x, y and what each says."""

    name: str
    points: tuple[tuple[float, float, str], ...]
    has_line: bool = True


def categories(
    title: str, summary: str, names: Sequence[str], lines: Sequence[Line], *, x_label: str, y_label: str
) -> Lines:
    """Lines over named places 0, 1, …, y in powers of ten; a value of 0 stands at the bottom."""
    above = [y for line in lines for _, y, _ in line.points if y > 0]
    low = math.floor(math.log10(min(above, default=1e-1)))
    high = max(low + 1, math.ceil(math.log10(max(above, default=1.0))))
    left, right, bottom = LEFT, WIDTH - RIGHT, LINE_HEIGHT - BOTTOM
    step = (right - left) / max(1, len(names))

    def x_of(x: float) -> float:
        return round(left + step * (x + 0.5), 1)

    def y_of(y: float) -> float:
        exponent = math.log10(y) if y > 0 else low
        return _between(exponent, low, high, bottom, TOP)

    every = math.ceil((high - low) / 8)
    y_ticks = tuple(
        Tick(_between(e, low, high, bottom, TOP), power_of_ten(e))
        for e in range(low, high + 1)
        if (e - low) % every == 0
    )
    x_ticks = tuple(Tick(x_of(at), name) for at, name in enumerate(names))
    return Lines(title, summary, x_label, y_label, x_ticks, y_ticks, _placed(lines, x_of, y_of))


def plane(
    title: str, summary: str, lines: Sequence[Line], *, x_label: str, y_label: str, rules: Sequence[tuple[float, str]]
) -> Lines:
    """Lines over two linear axes, x from 0. rules: values of y with what they are."""
    xs = [x for line in lines for x, _, _ in line.points]
    ys = [y for line in lines for _, y, _ in line.points] + [y for y, _ in rules]
    x_steps, y_steps = steps(0, max(xs, default=1)), steps(min(ys), max(ys))
    left, right, bottom = LEFT, WIDTH - RIGHT, LINE_HEIGHT - BOTTOM

    def x_of(x: float) -> float:
        return _between(x, x_steps[0], x_steps[-1], left, right)

    def y_of(y: float) -> float:
        return _between(y, y_steps[0], y_steps[-1], bottom, TOP)

    return Lines(
        title,
        summary,
        x_label,
        y_label,
        tuple(Tick(x_of(x), f"{x:g}") for x in x_steps),
        tuple(Tick(y_of(y), f"{y:g}") for y in y_steps),
        _placed(lines, x_of, y_of),
        tuple(Rule(y_of(y), text) for y, text in rules),
    )


def steps(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers, evenly apart, from at or below low to at or above high."""
    extent = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(extent / most))
    step = next(power * m for m in (1, 2, 5, 10) if extent / (power * m) <= most)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(n * step, 10) for n in range(first, max(last, first + 1) + 1)]


def _placed(
    lines: Sequence[Line], x_of: Callable[[float], float], y_of: Callable[[float], float]
) -> tuple[Series, ...]:
    return tuple(
        Series(
            line.name,
            at % STYLES,
            tuple(Mark(x_of(x), y_of(y), title) for x, y, title in line.points),
            line.has_line,
        )
        for at, line in enumerate(lines)
    )


def _between(value: float, low: float, high: float, start: float, end: float) -> float:
    return round(start + (value - low) / (high - low) * (end - start), 1)

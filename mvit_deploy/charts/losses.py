"""The chart of a quantization: what each layer loses, and what layers in float cost and give."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mvit_deploy.charts.names import Point, name_points
from mvit_deploy.charts.style import COLORS, MARKERS, NOTE, write

PARTS = ("weights", "input", "output")
WIDTH_INCHES, ROW_INCHES, AROUND_INCHES, FRONTIER_INCHES, PAD_INCHES = 10.0, 0.165, 2.0, 5.0, 0.1
CLEAR_DB, WORST_DB = 80.0, -20.0  # marks beyond stand at the edge
LANE = 0.22  # of a row, between the marks of its parts, so that none hides another
ROOM_DB = 5.0  # beside the worst mark, and above and below a frontier
BAR, FLOAT_BAR, FLOAT_NAME, CURVE, TARGET = "0.9", "#ecd0e0", "#9b3f73", "0.45", "0.2"


@dataclass(frozen=True)
class Row:
    """A layer. parts_db: the output's SQNR when one of PARTS is quantized; sqnr_db: when all of them are."""

    name: str
    parts_db: tuple[float, float, float]
    sqnr_db: float
    stays_float: bool


@dataclass(frozen=True)
class Blame:
    """Layers from the network's input to its output, one or more; target_db: of the plan, None where it has none."""

    rows: tuple[Row, ...]
    target_db: float | None


@dataclass(frozen=True)
class Measured:
    """A plan that was made real. percent: of the multiply-accumulates, in float."""

    name: str
    percent: float
    predicted_db: float
    measured_db: float
    is_chosen: bool


@dataclass(frozen=True)
class Frontier:
    """Predicted SQNR in dB by percent of the multiply-accumulates in float, up to a limit; plans that were measured."""

    curve: tuple[tuple[float, float], ...]
    measured: tuple[Measured, ...]
    target_db: float
    limit: float


def save(blame: Blame, frontier: Frontier | None, path: Path, *, title: str, note: str) -> None:
    """Draw both, or blame alone, into a .png or .svg, put in place whole. Raises: OSError."""
    write(lambda: draw(blame, frontier, title, note), path)


def draw(blame: Blame, frontier: Frontier | None, title: str, note: str) -> Figure:
    """Blame, a row for each layer, and below it the frontier."""
    heights = [ROW_INCHES * len(blame.rows) + AROUND_INCHES, *([FRONTIER_INCHES] if frontier else [])]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=PAD_INCHES, h_pad=PAD_INCHES)
    figure.suptitle(title)
    figure.supxlabel(note, **NOTE)
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    _draw_blame(parts[0].subplots(), blame)
    if frontier:
        _draw_frontier(parts[1].subplots(), frontier)
    figure.draw_without_rendering()  # lays everything out: only then is it known where a name has room
    figure.set_layout_engine("none")
    if frontier:
        _name_measured(figure.axes[1], frontier)
    return figure


def _draw_blame(axes: Axes, blame: Blame) -> None:
    """From the left edge, where nothing is lost, a bar to what the layer loses in all, and a mark for each part."""
    places, worst = range(len(blame.rows)), min(row.sqnr_db for row in blame.rows)
    right = max(WORST_DB, min(worst, CLEAR_DB if blame.target_db is None else blame.target_db)) - ROOM_DB
    for place, row in zip(places, blame.rows, strict=True):
        end = within(row.sqnr_db, right)
        axes.barh(place, end - CLEAR_DB, left=CLEAR_DB, height=0.8, color=FLOAT_BAR if row.stays_float else BAR)
    for part, (name, color, marker) in enumerate(zip(PARTS, COLORS, MARKERS, strict=False)):
        values = [within(row.parts_db[part], right) for row in blame.rows]
        lanes = [place + LANE * (part - 1) for place in places]
        axes.plot(values, lanes, marker, color=color, markersize=4, label=name, clip_on=False)
    if blame.target_db is not None:
        _target(axes.axvline, blame.target_db)
    axes.set_xlim(CLEAR_DB, right)
    axes.set_ylim(len(blame.rows) - 0.4, -0.6)
    axes.set_xlabel("SQNR of the output in dB with one layer quantized: the longer, the more is lost")
    axes.set_yticks(places, [row.name for row in blame.rows], fontsize=7, parse_math=False)
    for label, row in zip(axes.get_yticklabels(), blame.rows, strict=True):
        label.set(color=FLOAT_NAME if row.stays_float else "0", fontweight="bold" if row.stays_float else "normal")
    axes.tick_params("y", length=0)
    axes.tick_params("x", labeltop=True)
    axes.grid(axis="x", color="0.85")
    axes.set_axisbelow(True)
    _blame_legend(axes, any_float=any(row.stays_float for row in blame.rows))


def _blame_legend(axes: Axes, *, any_float: bool) -> None:
    """Parts in one line, the rest below; matplotlib fills column after column."""
    lines = axes.get_legend_handles_labels()[0]
    below = [Patch(color=BAR, label="all three"), *lines[len(PARTS) :]]
    if any_float:
        below.insert(1, Patch(color=FLOAT_BAR, label="all three; the plan keeps the layer float"))
    handles = [handle for pair in zip_longest(lines[: len(PARTS)], below) for handle in pair if handle is not None]
    _legend(axes, handles, columns=len(PARTS))


def within(value_db: float, worst_db: float = WORST_DB) -> float:
    """Where a value is drawn."""
    return min(CLEAR_DB, max(worst_db, value_db))


def _draw_frontier(axes: Axes, frontier: Frontier) -> None:
    axes.plot(*zip(*frontier.curve, strict=True), ".-", color=CURVE, label="predicted from blame", clip_on=False)
    for point in frontier.measured:  # how far the prediction was off
        axes.plot([point.percent] * 2, (point.predicted_db, point.measured_db), ":", color=COLORS[1], clip_on=False)
    for is_chosen, marker, size, label in ((False, "s", 7, "measured"), (True, "*", 15, "measured, and chosen")):
        spots = [(p.percent, p.measured_db) for p in frontier.measured if p.is_chosen == is_chosen]
        if spots:
            axes.plot(*zip(*spots, strict=True), marker, color=COLORS[1], markersize=size, label=label, clip_on=False)
    _target(axes.axhline, frontier.target_db)
    values = [y for _, y in frontier.curve] + [p.measured_db for p in frontier.measured] + [frontier.target_db]
    axes.set_xlim(0, frontier.limit)
    axes.set_ylim(min(values) - ROOM_DB, max(values) + ROOM_DB)
    axes.set(xlabel="multiply-accumulates kept in float, %", ylabel="SQNR of the output, dB")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    handles = axes.get_legend_handles_labels()[0]
    _legend(axes, handles, columns=len(handles))


def _name_measured(axes: Axes, frontier: Frontier) -> None:
    chosen_first = sorted(frontier.measured, key=lambda point: not point.is_chosen)
    points = tuple(Point(p.name, "", p.percent, p.measured_db, (p.percent, p.percent)) for p in chosen_first)
    lines = [line for line in axes.lines if line.get_linestyle() != "None"]
    name_points(axes, points, {"": COLORS[1]}, lines)


def _target(line: Callable[..., Line2D], value_db: float) -> None:
    line(value_db, color=TARGET, linestyle="--", linewidth=1, label=f"target of the plan, {value_db:g} dB")


def _legend(axes: Axes, handles: list[Artist], *, columns: int) -> None:
    axes.figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False)

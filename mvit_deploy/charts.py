"""Scatter charts with every point named, as PNG or SVG."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

PANEL_INCHES = (6.6, 5.0)
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # of Okabe and Ito: told apart by all eyes
MARKERS = ("o", "s", "^", "D")
MARGIN, FLAT_MARGIN = 0.14, 0.02  # around the values, of their extent, or of the value that all of them have
# Where a name may stand: so far from its point, in so many degrees, the nearest and most usual first.
DISTANCES_PT, ANGLES = (8, 20, 34, 48, 64, 84), (0, 180, 90, 270, 25, 335, 155, 205, 50, 310, 130, 230)
MARKER_PT, GAP_PT, NEAR_PT = 9, 1.5, 6
STYLE = {"svg.hashsalt": "mvit-deploy", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
NAME_STYLE = {
    "textcoords": "offset points",
    "parse_math": False,  # a dollar in a file's name is a dollar
    "ha": "left",
    "va": "bottom",
    "fontsize": 8,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5},
}


@dataclass(frozen=True)
class Point:
    """A named point. x_range: the ends of a bar through it. Points of one group look the same."""

    name: str
    group: str
    x: float
    y: float
    x_range: tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """One chart, of at least one point. Its x axis begins at 0, so that twice as far is twice as much."""

    x_label: str
    y_label: str
    points: tuple[Point, ...]


def save(panels: list[Panel], path: Path, *, title: str, note: str) -> None:
    """Draw panels side by side into a .png or .svg, put in place whole. Raises: OSError."""
    partial = path.with_name(f".{path.name}.partial")
    form = path.suffix.removeprefix(".").lower()
    try:
        with rc_context(STYLE):
            draw(panels, title, note).savefig(partial, format=form, metadata={"Date": None} if form == "svg" else None)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def draw(panels: list[Panel], title: str, note: str) -> Figure:
    """Panels side by side, every point named."""
    figure = Figure(figsize=(PANEL_INCHES[0] * len(panels), PANEL_INCHES[1]), dpi=150, layout="constrained")
    figure.suptitle(title)
    figure.supxlabel(note, fontsize=8, color="0.35")
    groups = list(dict.fromkeys(point.group for panel in panels for point in panel.points))
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, panel, groups)
    figure.axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(groups), frameon=False)
    figure.draw_without_rendering()  # lays everything out: only then is it known where a name has room
    figure.set_layout_engine("none")
    for axes, panel in zip(figure.axes, panels, strict=True):
        _name_points(axes, panel.points, dict(zip(groups, cycle(COLORS))))
    return figure


def _draw(axes: Axes, panel: Panel, groups: list[str]) -> None:
    for group, color, marker in zip(groups, cycle(COLORS), cycle(MARKERS)):
        points = [point for point in panel.points if point.group == group]
        for point in points:
            axes.plot(point.x_range, (point.y, point.y), color=color, linewidth=1.5, alpha=0.5)
        axes.plot([p.x for p in points], [p.y for p in points], marker, color=color, markersize=7, label=group)
    low, high = min(point.y for point in panel.points), max(point.y for point in panel.points)
    room = MARGIN * (high - low) or FLAT_MARGIN * abs(high) or 1
    axes.set_xlim(0, max(point.x_range[1] for point in panel.points) * (1 + MARGIN))
    axes.set_ylim(low - room, high + room)
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)


def _name_points(axes: Axes, points: tuple[Point, ...], colors: dict[str, str]) -> None:
    """Write each name where it covers nothing and is not taken for another point's, as near to its point as can be."""
    scale = axes.figure.dpi / 72
    markers = [_marker(axes, point) for point in points]
    taken = list(markers)
    for point, own in zip(points, markers, strict=True):
        centre = axes.transData.transform((point.x, point.y))
        name = axes.annotate(point.name, (point.x, point.y), (0, 0), color=colors[point.group], **NAME_STYLE)
        size = name.get_window_extent().size + 2 * GAP_PT * scale
        boxes = [_box(centre + scale * shift, size, anchor) for shift, anchor in _places()]
        others = [marker for marker in markers if marker is not own]
        costs = [
            (_covered(box, taken) + _outside(box, axes.bbox), _covered(box.padded(NEAR_PT * scale), others))
            for box in boxes
        ]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        name.set_position((boxes[best].p0 - centre) / scale + GAP_PT)
        if best >= len(ANGLES) or costs[best][1] > 0:
            _lead(axes, centre, boxes[best])


def _marker(axes: Axes, point: Point) -> Bbox:
    """The box, in pixels, of a point's marker and bar."""
    ends = axes.transData.transform([(x, point.y) for x in (*point.x_range, point.x)])
    room = MARKER_PT / 2 * axes.figure.dpi / 72
    return Bbox([ends.min(axis=0) - room, ends.max(axis=0) + room])


def _lead(axes: Axes, centre: np.ndarray, box: Bbox) -> None:
    """A thin line from a point to the nearest edge of its name, behind everything else."""
    ends = axes.transData.inverted().transform([centre, np.clip(centre, box.p0, box.p1)])
    axes.plot(*ends.T, color="0.6", linewidth=0.7, zorder=1)


def _places() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shifts from a point in points, and which part of the name, from its left bottom to (1, 1), goes there."""
    for distance, angle in product(DISTANCES_PT, ANGLES):
        direction = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))]).round(3)
        yield distance * direction, (1 - np.sign(direction)) / 2


def _box(spot: np.ndarray, size: np.ndarray, anchor: np.ndarray) -> Bbox:
    """A box in pixels of which the part anchor lies on a spot."""
    corner = spot - size * anchor
    return Bbox([corner, corner + size])


def _covered(box: Bbox, others: list[Bbox]) -> float:
    """The area, in square pixels, on which a box covers others."""
    shared = [Bbox.intersection(box, other) for other in others]
    return sum(_area(each) for each in shared if each)


def _outside(box: Bbox, frame: Bbox) -> float:
    """The area, in square pixels, on which a box stands out of a frame."""
    return _area(box) - _covered(box, [frame])


def _area(box: Bbox) -> float:
    return box.width * box.height

"""Names beside points, each where it covers nothing."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

# Where a name may stand: so far from its point, in so many degrees, the nearest and most usual first.
DISTANCES_PT, ANGLES = (8, 20, 34, 48, 64, 84), (0, 180, 90, 270, 25, 335, 155, 205, 50, 310, 130, 230)
MARKER_PT, GAP_PT, NEAR_PT = 9, 1.5, 6
LINE_STEP_PX = 6
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


def name_points(axes: Axes, points: tuple[Point, ...], colors: Mapping[str, str], lines: Iterable[Line2D] = ()) -> None:
    """Write each name where it covers nothing and is not taken for another point's, as near to its point as can be.

    The figure has been laid out. lines: what is drawn beside the points and is not to be covered either.
    """
    scale = axes.figure.dpi / 72
    markers = [_marker(axes, point) for point in points]
    taken = markers + [box for line in lines for box in _boxes_along(line)]
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


def _boxes_along(line: Line2D) -> list[Bbox]:
    """Boxes, in pixels, that hold a line."""
    corners = line.get_transform().transform(line.get_xydata())
    steps = max(2, int(np.abs(np.diff(corners, axis=0)).sum() / LINE_STEP_PX))
    places, fine = np.arange(len(corners)), np.linspace(0, len(corners) - 1, steps)
    spots = np.stack([np.interp(fine, places, corners[:, axis]) for axis in (0, 1)], axis=1)
    return [Bbox([spot - LINE_STEP_PX / 2, spot + LINE_STEP_PX / 2]) for spot in spots]


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

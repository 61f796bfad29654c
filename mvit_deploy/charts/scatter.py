"""Scatter charts with every point named."""

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mvit_deploy.charts.names import Point, name_points
from mvit_deploy.charts.style import COLORS, MARKERS, NOTE, write

PANEL_INCHES = (6.6, 5.0)
MARGIN, FLAT_MARGIN = 0.14, 0.02  # around the values, of their extent, or of the value that all of them have


@dataclass(frozen=True)
class Panel:
    """One chart, of at least one point. Its x axis begins at 0, so that twice as far is twice as much."""

    x_label: str
    y_label: str
    points: tuple[Point, ...]


def save(panels: list[Panel], path: Path, *, title: str, note: str) -> None:
    """Draw panels side by side into a .png or .svg, put in place whole. Raises: OSError."""
    write(lambda: draw(panels, title, note), path)


def draw(panels: list[Panel], title: str, note: str) -> Figure:
    """Panels side by side, every point named."""
    figure = Figure(figsize=(PANEL_INCHES[0] * len(panels), PANEL_INCHES[1]), dpi=150, layout="constrained")
    figure.suptitle(title)
    figure.supxlabel(note, **NOTE)
    groups = list(dict.fromkeys(point.group for panel in panels for point in panel.points))
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, panel, groups)
    figure.axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(groups), frameon=False)
    figure.draw_without_rendering()  # lays everything out: only then is it known where a name has room
    figure.set_layout_engine("none")
    for axes, panel in zip(figure.axes, panels, strict=True):
        name_points(axes, panel.points, dict(zip(groups, cycle(COLORS))))
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

"""Blame and frontier of a quantization, drawn."""

from collections.abc import Sequence
from pathlib import Path

from mvit_deploy.charts import losses
from mvit_deploy.charts.losses import PARTS, Blame, Frontier, Measured, Row
from mvit_deploy.findings import Findings

# How far the frontier is drawn: so many times the largest share that was measured, and at least so many percent.
TIMES_MEASURED, LEAST_PERCENT = 2.0, 10.0
ROOM = 1.05  # behind its last point


def save(found: Findings, order: Sequence[str], path: Path) -> None:
    """Draw blame and, where plans were tried, the frontier. order: names of layers as the network has them.

    Raises: OSError.
    """
    frontier = _frontier(found) if found.frontier else None
    title = f"MobileViT {found.mode}: what each layer loses in 8 bits"
    title += f", and the plan of {found.precision}" if frontier else ""
    losses.save(_blame(found, order), frontier, path, title=title, note=_note(found, frontier))


def _blame(found: Findings, order: Sequence[str]) -> Blame:
    places = {name: place for place, name in enumerate(order)}
    layers = sorted(found.blame, key=lambda layer: places.get(layer["layer"], len(places)))
    rows = [
        Row(
            layer["layer"],
            tuple(layer[f"{part}_db"] for part in PARTS),
            layer["sqnr_db"],
            found.stays_float(layer["layer"]),
        )
        for layer in layers
    ]
    return Blame(tuple(rows), found.plan["target_db"] if found.frontier else None)


def _frontier(found: Findings) -> Frontier:
    points = [(100 * found.share(p["float_macs"]), losses.within(p["predicted_db"])) for p in found.frontier]
    measured = [_measured(found, p) for p in range(len(points)) if found.frontier[p]["measured_db"] is not None]
    limit = max([LEAST_PERCENT, *(TIMES_MEASURED * point.percent for point in measured)])
    limit = min(limit, ROOM * max(percent for percent, _ in points) or limit)
    curve = tuple(point for point in points[found.start :] if point[0] <= limit)
    return Frontier(curve, tuple(measured), found.plan["target_db"], limit)


def _measured(found: Findings, place: int) -> Measured:
    point, is_chosen = found.frontier[place], place == found.chosen
    count, percent = len(point["keep_float"]), 100 * found.share(point["float_macs"])
    what = f"{count} layer{'s' * (count > 1)} in float, {percent:.1f} %" if count else "nothing in float"
    name = f"{what}: {point['measured_db']:.1f} dB"
    if is_chosen:
        name = f"chosen by {found.plan['chosen_by']}: {name}"
    predicted_db, measured_db = losses.within(point["predicted_db"]), losses.within(point["measured_db"])
    return Measured(name, percent, predicted_db, measured_db, is_chosen)


def _note(found: Findings, frontier: Frontier | None) -> str:
    lines = [f"On calibration images. Marks at the left edge: {losses.CLEAR_DB:g} dB or more, next to nothing is lost."]
    left = len(found.frontier) - found.start - len(frontier.curve) if frontier else 0
    if left:
        lines.append(f"Points of the frontier with more in float, in the report: {left}.")
    return "\n".join(lines)

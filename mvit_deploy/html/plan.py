"""The quantization of a run in the rows and charts of a page: what is int8, the frontier, the blame of layers."""

from collections.abc import Sequence
from dataclasses import dataclass

from mvit_deploy.findings import Findings, of
from mvit_deploy.html import charts, words
from mvit_deploy.report import Report, look_up

PARTS = ("weights", "input", "output")
CLEAR_DB = 80.0  # where next to nothing is lost: a bar's beginning
WORST_LAYERS = 15
PAST_CHOSEN = 3
LEAST_PERCENT, TIMES_MEASURED = 10.0, 2.0  # how far the frontier is drawn


@dataclass(frozen=True)
class Integers:
    """What of one file really is int8."""

    name: str
    precision: str
    macs: str
    weights: str
    basis: str
    kept: tuple[str, ...]
    by: str
    target: str


@dataclass(frozen=True)
class Layer:
    """A row of blame: dB of the output when the layer alone, or a part of it, is quantized."""

    name: str
    macs: str
    decibels: tuple[str, ...]
    is_float: bool


@dataclass(frozen=True)
class Point:
    """A row of the frontier."""

    layers: int
    macs: str
    megabytes: str
    predicted: str
    measured: str
    agreement: str
    is_chosen: bool


@dataclass(frozen=True)
class Quantization:
    """The part of a page about int8; chart and points are empty where no plan was searched."""

    integers: tuple[Integers, ...]
    title: str = ""
    blame: charts.Bars | None = None
    layers: tuple[Layer, ...] = ()
    frontier: charts.Lines | None = None
    points: tuple[Point, ...] = ()
    points_left: int = 0


def quantization(results: Sequence[Report], names: dict[str, str]) -> Quantization | None:
    """None where nothing was quantized."""
    integers = tuple(_integers(r, names[str(r.path)]) for r in results if "quantization" in r.content)
    if not integers:
        return None
    found = of(results)
    if found is None:
        return Quantization(integers)
    points = found.frontier[: _shown(found)]
    return Quantization(
        integers,
        f"MobileViT {found.mode}, plan of {found.precision}",
        _blame(found),
        tuple(_layer(found, layer) for layer in found.blame),
        _frontier(found) if found.frontier else None,
        tuple(_point(found, at, point) for at, point in enumerate(points)),
        len(found.frontier) - len(points),
    )


def _integers(result: Report, name: str) -> Integers:
    int8, plan = look_up(result.content, "artifact", "int8"), look_up(result.content, "quantization", "plan")
    target, met = look_up(plan, "target_db"), look_up(plan, "target_met")
    kept = look_up(plan, "keep_float") or ()
    searched = look_up(plan, "frontier")
    return Integers(
        name=name,
        precision=str(look_up(result.content, "artifact", "precision")),
        macs=words.number(look_up(int8, "int8_macs_fraction"), ".1%"),
        weights=words.number(look_up(int8, "weight_fraction"), ".1%"),
        basis=str(look_up(int8, "basis") or look_up(int8, "reason") or ""),
        kept=tuple(map(str, kept)),
        by=str(look_up(plan, "chosen_by") or ""),
        target=f"{words.number(target, 'g')} dB {'met' if met else 'not met'}" if searched else words.NOTHING,
    )


def _layer(found: Findings, layer: dict[str, object]) -> Layer:
    values = (layer[f"{part}_db"] for part in ("weights", "input", "output", "sqnr", "caused", "left"))
    return Layer(
        layer["layer"],
        f"{found.share(layer['macs']):.2%}",
        tuple(map(words.decibels, values)),
        found.stays_float(layer["layer"]),
    )


def _blame(found: Findings) -> charts.Bars:
    """The layers that lose most: how far below CLEAR_DB each alone brings the output, in all and by its parts."""
    rows = sorted(found.blame, key=lambda layer: layer["sqnr_db"])[:WORST_LAYERS]
    values = [
        charts.Value(
            layer["layer"] + (" (float)" if found.stays_float(layer["layer"]) else ""),
            CLEAR_DB - layer["sqnr_db"],
            f"{words.decibels(layer['sqnr_db'])} dB",
            style=1 if found.stays_float(layer["layer"]) else 0,
            parts=tuple(CLEAR_DB - layer[f"{part}_db"] for part in PARTS),
        )
        for layer in rows
    ]
    summary = f"The worst is {rows[0]['layer']} with {words.decibels(rows[0]['sqnr_db'])} dB." if rows else ""
    title = (
        f"What the {words.plural(len(rows), 'worst layer')} lose, each quantized alone: the longer, the more is lost"
    )
    return charts.bars(title, summary, values)


def _frontier(found: Findings) -> charts.Lines:
    percents = [100 * found.share(point["float_macs"]) for point in found.frontier]
    both = list(zip(percents, found.frontier, strict=True))
    measured = [(percent, point) for percent, point in both if point["measured_db"] is not None]
    limit = max([LEAST_PERCENT, *(TIMES_MEASURED * percent for percent, _ in measured)])
    curve = [(percent, point) for percent, point in both[found.start :] if percent <= limit]
    chosen = found.chosen
    at_chosen = [] if chosen is None or found.frontier[chosen]["measured_db"] is None else [both[chosen]]
    others = [each for each in measured if each not in at_chosen]
    lines = [
        charts.Line("predicted from blame", tuple(_spot(*each, "predicted_db") for each in curve)),
        charts.Line("measured", tuple(_spot(*each, "measured_db") for each in others), has_line=False),
        charts.Line("chosen", tuple(_spot(*each, "measured_db") for each in at_chosen), has_line=False),
    ]
    target = found.plan["target_db"]
    summary = f"Target {target:g} dB, {'met' if found.plan['target_met'] else 'not met'}."
    if at_chosen:
        percent, point = at_chosen[0]
        summary += f" The chosen plan keeps {percent:.1f} % in float and gives {point['measured_db']:.1f} dB."
    return charts.plane(
        "SQNR by the share of the network that stays float",
        summary,
        [line for line in lines if line.points],
        x_label="multiply-accumulates kept in float, %",
        y_label="SQNR of the output, dB",
        rules=((target, f"target {target:g} dB"),),
    )


def _spot(percent: float, point: dict[str, object], key: str) -> tuple[float, float, str]:
    value = min(CLEAR_DB, point[key])
    said = f"{words.plural(len(point['keep_float']), 'layer')} in float, {percent:.1f} %: {value:.1f} dB"
    return percent, value, f"{said} {key.partition('_')[0]}"


def _shown(found: Findings) -> int:
    measured = [at for at, point in enumerate(found.frontier) if point["measured_db"] is not None]
    return min(len(found.frontier), max([found.chosen or 0, found.start, *measured]) + 1 + PAST_CHOSEN)


def _point(found: Findings, at: int, point: dict[str, object]) -> Point:
    return Point(
        layers=len(point["keep_float"]),
        macs=f"{found.share(point['float_macs']):.2%}",
        megabytes=f"{point['float_weights'] * 3 / 1e6:.3f}",  # a float weight takes 3 bytes more than an integer
        predicted=words.decibels(point["predicted_db"]),
        measured=words.decibels(point["measured_db"]),
        agreement=words.number(point["agreement"], ".1%"),
        is_chosen=at == found.chosen,
    )

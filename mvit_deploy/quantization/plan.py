"""Plans: which layers stay float, chosen by measured sensitivity at the least cost in multiply-accumulates.

Noise of quantized values adds up, to first order: blame predicts what a plan gives. A plan is then made real, measured
on calibration images that no weight was fitted on, and the prediction corrected, until the target is met.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from mvit_deploy.errors import UsageError
from mvit_deploy.hints import did_you_mean
from mvit_deploy.nn.quantized import Range
from mvit_deploy.quantization import network
from mvit_deploy.quantization import ranges as activations
from mvit_deploy.quantization.graph import Graph
from mvit_deploy.quantization.network import Quantized
from mvit_deploy.quantization.sensitivity import Sensitivity, decibels
from mvit_deploy.report import look_up

TARGET_DB = 27.0  # on calibration images: photos kept apart, which are to have 22, were seen to have two less
TARGET_AGREEMENT = 0.985  # or one photo less than all, where that is more than so few allow
MAX_ROUNDS = 4
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Point:
    """A point of the frontier: layers kept float, what that costs and gives; measured is None where only predicted."""

    keep_float: tuple[str, ...]
    float_macs: int
    float_weights: int
    predicted_db: float
    measured_db: float | None = None
    agreement: float | None = None
    checked: int = 0  # images that it was measured on

    @property
    def agrees(self) -> bool:
        """A class that changes on one photo alone may be a near tie, which no plan can hold."""
        if self.agreement is None:
            return True
        changed = round((1 - self.agreement) * self.checked)
        return changed <= max(1, (1 - TARGET_AGREEMENT) * self.checked)

    def to_json(self) -> dict[str, object]:
        return {**vars(self), "keep_float": list(self.keep_float)}


@dataclass(frozen=True)
class Plan:
    """What stays float, who decided so, and the frontier that it was chosen from."""

    keep_float: tuple[str, ...]
    chosen_by: str
    frontier: tuple[Point, ...]
    target_db: float = TARGET_DB
    met: bool = True

    def to_json(self) -> dict[str, object]:
        return {
            "schema_version": SCHEMA_VERSION,
            "keep_float": list(self.keep_float),
            "chosen_by": self.chosen_by,
            "target_db": self.target_db,
            "target_met": self.met,
            "frontier": [point.to_json() for point in self.frontier],
        }


def chosen(graph: Graph, fit: Tensor, check: Tensor, sensitivity: Sensitivity, *, bits: int) -> tuple[Plan, Quantized]:
    """Search: as few multiply-accumulates in float as the target allows.

    Shapes: fit and check (count, 3, H, W), apart from each other.
    """
    curve = frontier(graph, sensitivity)
    expected = graph.run(check)
    place, tried = 0, {}
    for _ in range(MAX_ROUNDS):
        tried[place] = _try(graph, curve[place], fit, check, expected, sensitivity.ranges, bits)
        point, _ = tried[place]
        if _meets(point) or place == len(curve) - 1:
            break
        place = _next(curve, place, point)
    best = next((p for p in sorted(tried) if _meets(tried[p][0])), max(tried, key=lambda p: tried[p][0].measured_db))
    point, found = tried[best]
    points = tuple(tried[p][0] if p in tried else other for p, other in enumerate(curve))
    return Plan(point.keep_float, "search", points, met=_meets(point)), found


def frontier(graph: Graph, sensitivity: Sensitivity) -> list[Point]:
    """From nothing in float to everything: at each step the layer, or two neighbours, that take away the most noise for
    their multiply-accumulates."""
    kept: list[str] = []
    points = [_point(graph, sensitivity, kept)]
    while len(kept) < len(graph.layers) and points[-1].predicted_db < 2 * TARGET_DB:
        kept = kept + _best_step(graph, sensitivity, kept)
        points.append(_point(graph, sensitivity, kept))
    return points


def _best_step(graph: Graph, sensitivity: Sensitivity, kept: list[str]) -> list[str]:
    left = [layer.name for layer in graph if layer.name not in kept]
    steps = [[name] for name in left] + [list(pair) for pair in pairwise(left)]
    before = predicted(graph, sensitivity, kept)

    def gain(step: list[str]) -> float:
        saved = before - predicted(graph, sensitivity, kept + step)
        return saved / sum(sensitivity.macs[name] for name in step)

    return max(steps, key=gain)


def predicted(graph: Graph, sensitivity: Sensitivity, keep_float: Collection[str]) -> float:
    """Relative noise of a plan: of every value that an integer layer reads or gives; fitted weights add little."""
    values = {name for layer in graph if layer.name not in keep_float for name in activations.values_of(graph, layer)}
    return sum(sensitivity.values[name] for name in values)


def _point(graph: Graph, sensitivity: Sensitivity, kept: list[str]) -> Point:
    macs = sum(sensitivity.macs[name] for name in kept)
    weights = sum(graph.parameters[graph.layers[name].weight].numel() for name in kept)
    return Point(tuple(kept), macs, weights, decibels(predicted(graph, sensitivity, kept)))


def _try(
    graph: Graph, point: Point, fit: Tensor, check: Tensor, expected: Tensor, ranges: Mapping[str, Range], bits: int
) -> tuple[Point, Quantized]:
    found = network.fitted(graph, fit, ranges, bits=bits, keep_float=point.keep_float)
    return measured(graph, point, found, check, expected), found


def measured(graph: Graph, point: Point, found: Quantized, check: Tensor, expected: Tensor) -> Point:
    """A point with what its network gives on images that it was not fitted on."""
    result = found.run(graph, check)
    noise = float(((result - expected).double() ** 2).sum() / (expected.double() ** 2).sum().clamp_min(1e-30))
    same = float((result.argmax(1) == expected.argmax(1)).float().mean()) if expected.ndim == 2 else None
    costs = (point.keep_float, point.float_macs, point.float_weights, point.predicted_db)
    return Point(*costs, decibels(noise), same, len(check))


def _meets(point: Point) -> bool:
    return point.measured_db >= TARGET_DB and point.agrees


def _next(curve: list[Point], place: int, point: Point) -> int:
    """The first later point whose prediction, corrected by how wrong it was here, meets the target."""
    error = point.predicted_db - point.measured_db
    wanted = TARGET_DB + max(error, 0.0)
    later = range(place + 1, len(curve))
    return next((p for p in later if curve[p].predicted_db >= wanted), len(curve) - 1)


def decided(
    graph: Graph,
    fit: Tensor,
    check: Tensor,
    sensitivity: Sensitivity,
    keep_float: Collection[str],
    said_by: str,
    *,
    bits: int,
) -> tuple[Plan, Quantized]:
    """A person's choice, measured as a searched plan is. Raises: UsageError for a layer that the network has not."""
    point = _point(graph, sensitivity, list(layers_named(graph, keep_float, said_by)))
    point, found = _try(graph, point, fit, check, graph.run(check), sensitivity.ranges, bits)
    return Plan(point.keep_float, said_by, (point, *frontier(graph, sensitivity)), met=_meets(point)), found


def layers_named(graph: Graph, words: Collection[str], said_by: str) -> tuple[str, ...]:
    """The layers with these names, or within parts of these names. Raises: UsageError for one that is not there."""
    known, kept = list(graph.layers), []
    for word in words:
        matches = [name for name in known if name == word or name.startswith(word + ".")]
        if not matches:
            raise UsageError(f"{said_by}: the network has no layer {word!r}{did_you_mean(word, _with_parts(known))}")
        kept += [name for name in matches if name not in kept]
    return tuple(kept)


def _with_parts(layers: list[str]) -> list[str]:
    """Layers, and the parts of the network that hold them."""
    found = dict.fromkeys(layers)
    for name in layers:
        steps = name.split(".")
        found |= dict.fromkeys(".".join(steps[:count]) for count in range(1, len(steps)))
    return list(found)


def read(path: Path, mode: str) -> tuple[str, ...]:
    """Names of the layers that a plan file keeps float: a plan of ours, or a report that holds one.

    Raises: UsageError for a file that is neither, and for the report on another mode of the network.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} is no quantization plan: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no quantization plan: it is not JSON ({error})") from error
    said = look_up(content, "model", "mode")
    if said is not None and said != mode:
        raise UsageError(f"{path} is the plan of a MobileViT {said}, this is {mode}")
    for key in ("quantization", "plan"):  # of a report
        content = content[key] if isinstance(content, dict) and isinstance(content.get(key), dict) else content
    kept = content.get("keep_float") if isinstance(content, dict) else None
    if not isinstance(kept, list) or not all(isinstance(name, str) for name in kept):
        raise UsageError(f'{path} is no quantization plan: it has no "keep_float", a list of names of layers')
    return tuple(kept)


def spread(images: Tensor) -> tuple[Tensor, Tensor]:
    """Images to fit on and images to check on: every fifth."""
    check = torch.zeros(len(images), dtype=torch.bool)
    check[4::5] = True
    return images[~check], images[check] if bool(check.any()) else images

"""Blame: for each layer, what is lost when it alone is quantized: its weights, its input, its output.

The float values of a few calibration images are kept, so that each trial runs the network from the changed value on
only. A value that leaves one layer and enters another is tried once. The cost: about half a forward pass for each
trial, three trials a layer at most, so it grows with layers squared and with images linearly.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from mvit_deploy.nn.quantized import Range
from mvit_deploy.quantization import ranges as activations
from mvit_deploy.quantization import rounding
from mvit_deploy.quantization.graph import Graph, Layer, Values

IMAGES = 8  # on which blame is measured: relative noise differs little from photo to photo
SQNR_CAP_DB = 300.0


@dataclass(frozen=True)
class Blame:
    """Noise of the output, relative to its power, when one part of one layer is quantized; all: the three added."""

    layer: str
    macs: int
    weights: float
    input: float
    output: float

    @property
    def total(self) -> float:
        return self.weights + self.input + self.output

    def to_json(self) -> dict[str, object]:
        """The same in dB, higher is better."""
        noises = {f"{k}_db": decibels(v) for k, v in asdict(self).items() if k in ("weights", "input", "output")}
        return {"layer": self.layer, "macs": self.macs, **noises, "sqnr_db": decibels(self.total)}


def decibels(noise: float) -> float:
    """SQNR of a relative noise power, capped at 300."""
    return min(SQNR_CAP_DB, -10 * math.log10(max(noise, 1e-30))) if math.isfinite(noise) else -SQNR_CAP_DB


@dataclass(frozen=True)
class Sensitivity:
    """Noise by value (held to 8 bits) and by layer (weights rounded to nearest), and multiply-accumulates."""

    values: Mapping[str, float]
    weights: Mapping[str, float]
    macs: Mapping[str, int]

    def blame(self, graph: Graph) -> list[Blame]:
        """The layers, the worst first."""
        found = []
        for layer in graph:
            source, result = activations.values_of(graph, layer)
            noises = (self.weights[layer.name], self.values[source], self.values[result])
            found.append(Blame(layer.name, self.macs[layer.name], *noises))
        return sorted(found, key=lambda blame: -blame.total)


def measure(graph: Graph, photos: Tensor, ranges: Mapping[str, Range], *, bits: int = 8) -> Sensitivity:
    """Quantize one thing after the other. Shapes: photos (count, 3, H, W), the first 8 are used."""
    exact = graph.everything(photos[:IMAGES])
    expected = exact[graph.output].double()
    change = activations.simulation(ranges, bits)
    by_value, by_weight = {}, {}
    nodes = {graph.input: graph.image} | {node.name: node for node in graph.nodes}
    for name in ranges:
        held = change(nodes[name], exact[name])
        by_value[name] = _noise(graph, exact, {name: held}, graph.parameters, graph.place(name) + 1, expected)
    for layer in graph:
        weight = torch.from_numpy(rounding.nearest(graph.parameters[layer.weight]).values)
        changed = graph.parameters | {layer.weight: weight}
        by_weight[layer.name] = _noise(graph, exact, {}, changed, graph.place(layer.node.name), expected)
    return Sensitivity(by_value, by_weight, {layer.name: macs_of(graph, layer, exact) for layer in graph})


def _noise(graph: Graph, exact: Values, changed: Values, parameters: Values, first: int, expected: Tensor) -> float:
    found = graph.resume(exact, changed, parameters, first).double()
    noise = float(((found - expected) ** 2).sum() / (expected**2).sum().clamp_min(1e-30))
    return noise if math.isfinite(noise) else math.inf


def macs_of(graph: Graph, layer: Layer, values: Values) -> int:
    """Multiply-accumulates of a layer for one image."""
    result, weight = values[layer.node.name], graph.parameters[layer.weight]
    rows = result[0].numel() if layer.is_conv else result.numel() // len(values[graph.input])
    return rows * weight[0].numel()

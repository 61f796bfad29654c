"""Blame: for each layer, what is lost when it alone is quantized: its weights, its input, its output.

A value that leaves one layer and enters another is tried once. The cost: three trials a layer at most, and those that
narrow ranges, so it grows with layers squared and with images linearly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mvit_deploy.nn.quantized import Range
from mvit_deploy.quantization import clipping
from mvit_deploy.quantization import ranges as activations
from mvit_deploy.quantization.graph import Graph
from mvit_deploy.quantization.trials import Trials

IMAGES = 16  # on which blame is measured: a few photos lose far more than the rest, 8 were too few to have some
SQNR_CAP_DB = 300.0


@dataclass(frozen=True)
class Blame:
    """Noise of the output, relative to its power, when one part of one layer is quantized within the observed ranges.

    caused: by what the layer itself brings in, its weights and the values that are made of its output; a layer behind
    it that has to read such a value is not to blame for it. left: of that, when ranges are narrowed.
    """

    layer: str
    macs: int
    weights: float
    input: float
    output: float
    caused: float
    left: float

    @property
    def total(self) -> float:
        """Of the layer quantized alone."""
        return self.weights + self.input + self.output

    def to_json(self) -> dict[str, object]:
        """The same in dB, higher is better."""
        noises = {f"{k}_db": decibels(getattr(self, k)) for k in ("weights", "input", "output", "caused", "left")}
        return {"layer": self.layer, "macs": self.macs, **noises, "sqnr_db": decibels(self.total)}


def decibels(noise: float) -> float:
    """SQNR of a relative noise power, capped at 300."""
    return min(SQNR_CAP_DB, -10 * math.log10(max(noise, 1e-30))) if math.isfinite(noise) else -SQNR_CAP_DB


@dataclass(frozen=True)
class Sensitivity:
    """Noise by value, held to 8 bits within observed ranges and within narrowed ones, and by layer (weights rounded to
    nearest); multiply-accumulates; the narrowed ranges."""

    observed: Mapping[str, float]
    values: Mapping[str, float]
    weights: Mapping[str, float]
    macs: Mapping[str, int]
    ranges: Mapping[str, Range]

    def blame(self, graph: Graph) -> list[Blame]:
        """The layers, those that cause most first."""
        owners = graph.owners()
        found = []
        for layer in graph:
            name, weights = layer.name, self.weights[layer.name]
            source, result = activations.values_of(graph, layer)
            own = [value for value in self.values if owners[value] == name]
            caused, left = (weights + sum(noises[v] for v in own) for noises in (self.observed, self.values))
            parts = (weights, self.observed[source], self.observed[result], caused, left)
            found.append(Blame(name, self.macs[name], *parts))
        return sorted(found, key=lambda blame: -blame.caused)


def measure(graph: Graph, photos: Tensor, observed: Mapping[str, Range], *, bits: int = 8) -> Sensitivity:
    """Quantize one thing after the other, within observed ranges and within those narrowed where that helps.

    Shapes: photos (count, 3, H, W), of which 16, spread evenly, are used.
    """
    count = min(IMAGES, len(photos))
    trials = Trials(graph, photos[[place * len(photos) // count for place in range(count)]])
    before = {name: trials.of_value(name, range_, bits) for name, range_ in observed.items()}
    ranges, after = clipping.narrowed(trials, observed, before, bits=bits)
    weights = {layer.name: trials.of_weight(layer) for layer in graph}
    macs = {layer.name: trials.macs_of(layer) for layer in graph}
    return Sensitivity(before, after, weights, macs, ranges)

"""Ranges of activations: what is observed on the calibration images, and the simulation of integers within them."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, fx

from mvit_deploy.nn.quantized import Affine, LayerRanges, Range
from mvit_deploy.quantization.equalization import DEAD
from mvit_deploy.quantization.graph import Change, Graph, Layer

IMAGE = Range(0.0, 1.0)


def observed(graph: Graph, photos: Tensor, layers: Iterable[Layer], equalized: frozenset[str]) -> dict[str, Range]:
    """The range of every value that enters or leaves one of the layers, by the value's name.

    What SiLU takes is cut at -8, where SiLU is dead, what ReLU takes at 0; an equalized layer's output lies in [-1, 1].
    """
    lows, highs = {graph.input: IMAGE.low}, {graph.input: IMAGE.high}
    chosen = list(layers)
    wanted = dict.fromkeys(name for layer in chosen for name in values_of(graph, layer))  # in order

    def watch(node: fx.Node, value: Tensor) -> Tensor:
        if node.name in wanted and node.name != graph.input:
            lows[node.name] = min(lows.get(node.name, 0.0), float(value.min()))
            highs[node.name] = max(highs.get(node.name, 0.0), float(value.max()))
        return value

    graph.run(photos, watch)
    for layer in chosen:
        name = layer.node.name
        if layer.name in equalized:
            lows[name], highs[name] = max(lows[name], -1.0), min(highs[name], 1.0)
        elif layer.activation:
            lows[name] = max(lows[name], -DEAD)
        elif layer.is_rectified:
            lows[name] = 0.0
    return {name: Range(lows[name], highs[name]) for name in wanted}


def spanned(chunks: Iterable[Tensor]) -> Range:
    """From the lowest to the highest of all values and zero."""
    ends = [(float(chunk.min()), float(chunk.max())) for chunk in chunks]
    return Range(min(0.0, *(low for low, _ in ends)), max(0.0, *(high for _, high in ends)))


def values_of(graph: Graph, layer: Layer) -> tuple[str, str]:
    """Names of the values that enter (before layout operators) and leave a layer."""
    return graph.producer(layer.node.args[0]), layer.node.name


def of_layers(graph: Graph, layers: Iterable[Layer], ranges: Mapping[str, Range]) -> dict[str, LayerRanges]:
    """The same by layer, for exporters."""
    pairs = {layer.name: values_of(graph, layer) for layer in layers}
    return {name: LayerRanges(ranges[source], ranges[result]) for name, (source, result) in pairs.items()}


def held(values: Tensor, code: Affine, bits: int, *, signed: bool = False) -> Tensor:
    """Values as integers tell them apart: rounded to a level, clipped to the ends."""
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    levels = torch.round(values / code.scale).add_(code.zero_point).clamp_(-top if signed else 0, top)
    return levels.sub_(code.zero_point).mul_(code.scale)


def simulation(ranges: Mapping[str, Range], bits: int) -> Change:
    """For Graph.run: every value with a range is held to its levels. 16 bits are symmetric, as TFLite has them."""
    signed = bits == 16
    codes = {name: r.symmetric(bits) if signed else r.unsigned(bits) for name, r in ranges.items()}

    def change(node: fx.Node, value: Tensor) -> Tensor:
        return held(value, codes[node.name], bits, signed=signed) if node.name in codes else value

    return change

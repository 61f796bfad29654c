"""A whole network brought to integers, layer after layer, each fitted to what the quantized layers before it give."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from mvit_deploy.nn.quantized import QuantizedForm, QuantizedWeight, Range
from mvit_deploy.quantization import ranges as activations
from mvit_deploy.quantization import rounding
from mvit_deploy.quantization.graph import CHUNK, Change, Graph, Layer, Values


@dataclass(frozen=True)
class Quantized:
    """The integers of a network.

    parameters: what stands in their place in the graph; ranges: by value, bits: of activations (0 for float ones);
    integer: the layers whose arithmetic is integer; output: range of what comes out in the end, None without photos.
    """

    weights: Mapping[str, QuantizedWeight]
    parameters: Values
    ranges: Mapping[str, Range]
    bits: int
    integer: tuple[Layer, ...] = field(repr=False)
    output: Range | None = None

    def run(self, graph: Graph, images: Tensor) -> Tensor:
        """The simulated output. Shapes: (count, 3, H, W) -> as the module."""
        return graph.run(images, activations.simulation(self.ranges, self.bits), self.parameters)

    def form(self, module: nn.Module, graph: Graph) -> QuantizedForm:
        """The module, changed in place to these weights, for exporters."""
        with torch.no_grad():
            for layer in graph:
                part = module.get_submodule(layer.name)
                part.weight.copy_(self.parameters[layer.weight])
                if layer.bias is not None:
                    part.bias.copy_(self.parameters[layer.bias])
        ranges = activations.of_layers(graph, self.integer, self.ranges)
        return QuantizedForm(module, self.weights, ranges, self.output)


def without_data(graph: Graph) -> Quantized:
    """Weights rounded to the nearest level, activations float."""
    weights = {layer.name: rounding.nearest(graph.parameters[layer.weight]) for layer in graph}
    changed = {layer.weight: torch.from_numpy(weights[layer.name].values) for layer in graph}
    return Quantized(weights, graph.parameters | changed, {}, 0, ())


def fitted(
    graph: Graph, photos: Tensor, ranges: Mapping[str, Range], *, bits: int, keep_float: Collection[str] = ()
) -> Quantized:
    """Weights fitted on calibration photos, with activations held to ranges in all layers but those kept float.

    The float network and the quantized one go through the operators side by side, once. With bits 0 activations stay
    float and keep_float names layers whose weights do. Shapes: photos (count, 3, H, W).
    """
    integer = tuple(layer for layer in graph if bits and layer.name not in keep_float)
    used = {name for layer in integer for name in activations.values_of(graph, layer)}
    held = {name: ranges[name] for name in used}
    change = activations.simulation(held, bits)
    parameters, weights = dict(graph.parameters), {}
    layers = {layer.node: layer for layer in graph}
    exact = [{graph.input: chunk} for chunk in photos.split(CHUNK)]
    rough = [{graph.input: change(graph.image, chunk)} for chunk in photos.split(CHUNK)]

    def step(node: fx.Node) -> None:
        for values in exact:
            values[node.name] = graph.compute(node, values, graph.parameters)
        layer = layers.get(node)
        if layer is not None:
            keep = layer.name in keep_float
            _fit(graph, layer, exact, rough, parameters, None if keep else weights)
        _compute(graph, node, rough, parameters, change)

    graph.lockstep([exact, rough], step)
    output = ranges.get(graph.output) or activations.spanned(values[graph.output] for values in exact)
    return Quantized(weights, parameters, held, bits, integer, output)


def _fit(
    graph: Graph,
    layer: Layer,
    exact: list[Values],
    rough: list[Values],
    parameters: Values,
    weights: dict[str, QuantizedWeight] | None,
) -> None:
    """Give a layer its integers, or, where weights is None, let it be."""
    if weights is None:
        return
    source, result = layer.node.args[0].name, layer.node.name
    inputs, outputs = [values[source] for values in rough], [values[result] for values in exact]
    weight, bias = rounding.fitted(layer, graph.parameters[layer.weight], inputs, outputs)
    weights[layer.name] = weight
    parameters[layer.weight] = torch.from_numpy(weight.values)
    if layer.bias is not None:
        parameters[layer.bias] = bias


def _compute(graph: Graph, node: fx.Node, chunks: list[Values], parameters: Values, change: Change) -> None:
    for values in chunks:
        values[node.name] = change(node, graph.compute(node, values, parameters))

"""Trials: what the network loses on a few photos when one value or one weight is quantized, all else in float.

The float values of the photos are kept, so that a trial runs the network from the changed value on only: half a forward
pass on average, linear in the photos.
"""

import math

import torch
from torch import Tensor

from mvit_deploy.nn.quantized import Range
from mvit_deploy.quantization import ranges as activations
from mvit_deploy.quantization import rounding
from mvit_deploy.quantization.graph import CHUNK, Graph, Layer, Values


class Trials:
    """A network with its float values on some photos, which stay in memory. Shapes: photos (count, 3, H, W)."""

    def __init__(self, graph: Graph, photos: Tensor) -> None:
        self.graph = graph
        self._exact = [graph.everything(chunk) for chunk in photos.split(CHUNK)]
        self._nodes = {graph.input: graph.image} | {node.name: node for node in graph.nodes}
        self._power = sum(float((values[graph.output].double() ** 2).sum()) for values in self._exact)

    def of_value(self, name: str, range_: Range, bits: int, *, limit: float = math.inf) -> float:
        """Noise of the output, relative to its power, when one value is held to the levels of a range; once it is
        above the limit the rest of the photos is left out."""
        change = activations.simulation({name: range_}, bits)
        changed = [{name: change(self._nodes[name], values[name])} for values in self._exact]
        return self._noise(changed, self.graph.parameters, self.graph.place(name) + 1, limit)

    def of_weight(self, layer: Layer) -> float:
        """The same when the weight of one layer is rounded to the nearest levels."""
        weight = torch.from_numpy(rounding.nearest(self.graph.parameters[layer.weight]).values)
        parameters = self.graph.parameters | {layer.weight: weight}
        return self._noise([{} for _ in self._exact], parameters, self.graph.place(layer.node.name))

    def _noise(self, changed: list[Values], parameters: Values, first: int, limit: float = math.inf) -> float:
        total, power = 0.0, max(self._power, 1e-30)
        for exact, change in zip(self._exact, changed, strict=True):
            found = self.graph.resume(exact, change, parameters, first).double()
            total += float(((found - exact[self.graph.output]) ** 2).sum())
            if total > limit * power:
                break
        return total / power if math.isfinite(total) else math.inf

    def macs_of(self, layer: Layer) -> int:
        """Multiply-accumulates of a layer for one image."""
        values, weight = self._exact[0], self.graph.parameters[layer.weight]
        result = values[layer.node.name]
        rows = result[0].numel() if layer.is_conv else result.numel() // len(values[self.graph.input])
        return rows * weight[0].numel()

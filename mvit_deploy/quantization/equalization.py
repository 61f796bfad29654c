"""Algebra before floats: channels of very different ranges made alike through SiLU, exactly.

Between the expand convolution of an inverted residual and its depthwise convolution a few channels reach far beyond
the rest, so that one 8-bit scale leaves nothing of the others. The rows of the first are divided by the channel's
range, the depthwise weights multiplied by it, and SiLU takes the factor in its sigmoid: x * sigmoid(s * x).
Source: Nagel et al., arXiv 1906.04721, section 4.1, carried through SiLU.
"""

import copy

import torch
from torch import Tensor, nn

from mvit_deploy.nn.quantized import ScaledSiLU
from mvit_deploy.quantization.graph import Graph, Layer

DEAD = 8.0  # SiLU is within 3e-3 of 0 below -8: what lies there need not be told apart
LEAST_SCALE = 0.5  # a nearly silent channel is not blown up


def equalized(module: nn.Module, graph: Graph, photos: Tensor) -> tuple[nn.Module, frozenset[str]]:
    """A copy of a module, equal in float, and the names of the layers whose outputs now lie in [-1, 1] (below -1 only
    where SiLU is dead). Shapes: photos (count, 3, H, W)."""
    pairs = _pairs(graph)
    found = copy.deepcopy(module)
    for (layer, depthwise), (low, high) in zip(pairs, _channel_ranges(graph, pairs, photos), strict=True):
        scale = torch.maximum(high, (-low).clamp(max=DEAD)).clamp_min(LEAST_SCALE)
        first, second = found.get_submodule(layer.name), found.get_submodule(depthwise.name)
        with torch.no_grad():
            first.weight /= scale[:, None, None, None]
            first.bias /= scale
            second.weight *= scale[:, None, None, None]
        holder, _, name = layer.activation.rpartition(".")
        setattr(found.get_submodule(holder), name, ScaledSiLU(scale))
    return found, frozenset(layer.name for layer, _ in pairs)


def _pairs(graph: Graph) -> list[tuple[Layer, Layer]]:
    """Each convolution whose SiLU is read by one depthwise convolution alone."""
    by_node = {layer.node: layer for layer in graph}
    pairs = []
    for layer in graph:
        if not layer.is_conv or not layer.activation or layer.bias is None:
            continue
        readers = list(next(iter(layer.node.users)).users)
        depthwise = by_node.get(readers[0]) if len(readers) == 1 else None
        if depthwise is not None and depthwise.groups == len(graph.parameters[layer.weight]):
            pairs.append((layer, depthwise))
    return pairs


def _channel_ranges(graph: Graph, pairs: list[tuple[Layer, Layer]], photos: Tensor) -> list[tuple[Tensor, Tensor]]:
    found: dict[str, tuple[Tensor, Tensor]] = {}
    wanted = {layer.node.name for layer, _ in pairs}

    def watch(node: object, value: Tensor) -> Tensor:
        if node.name in wanted:
            low, high = value.amin((0, 2, 3)), value.amax((0, 2, 3))
            before = found.get(node.name, (low, high))
            found[node.name] = torch.minimum(low, before[0]), torch.maximum(high, before[1])
        return value

    graph.run(photos, watch)
    return [found[layer.node.name] for layer, _ in pairs]

"""Quantized forms of a network without the project's own quantization: nearest levels, ranges of one run."""

import numpy as np
import torch
from torch import Tensor, nn

from mvit_deploy.nn.quantized import LayerRanges, QuantizedWeight, Range


def layers_of(module: nn.Module) -> dict[str, nn.Module]:
    return {name: part for name, part in module.named_modules() if isinstance(part, (nn.Conv2d, nn.Linear))}


def rounded(layer: nn.Module) -> QuantizedWeight:
    """Round a layer's weight to the nearest levels, in place."""
    weight = layer.weight.detach().numpy()
    scale = (np.abs(weight).reshape(len(weight), -1).max(1).clip(1e-12) / 127).astype(np.float32)
    levels = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
    made = QuantizedWeight(levels, scale)
    layer.weight.data = torch.from_numpy(made.values)
    return made


def ranges_of(module: nn.Module, image: Tensor) -> dict[str, LayerRanges]:
    """What enters and leaves each layer on an image."""
    found, hooks = {}, []
    for name, layer in layers_of(module).items():

        def look(_: nn.Module, inputs: tuple[Tensor], output: Tensor, name: str = name) -> None:
            pairs = [Range(min(0.0, float(t.min())), max(0.0, float(t.max()))) for t in (inputs[0], output)]
            found[name] = LayerRanges(*pairs)

        hooks.append(layer.register_forward_hook(look))
    module(image)
    for hook in hooks:
        hook.remove()
    return found

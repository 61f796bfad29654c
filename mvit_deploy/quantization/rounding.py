"""int8 weights that make up for what they lose: least squares on the layer's own inputs, then rounding with memory.

A layer gets the weights that, from the inputs it will see (already quantized), come nearest to the float layer's
outputs; each is rounded in turn and its error is laid on those not yet rounded. The bias takes the mean that is left.
Source: Frantar et al., GPTQ (arXiv 2210.17323), algorithm 1 with the order of descending diagonals; Nagel et al.,
Data-free quantization through weight equalization and bias correction (arXiv 1906.04721), section 4.2.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mvit_deploy.nn.quantized import WEIGHT_LEVELS, QuantizedWeight
from mvit_deploy.quantization.graph import Layer

MAX_SAMPLES = 24_000  # positions of all images together that a layer is fitted on
RIDGE = 1e-2  # pulls the fit towards the float weights, in units of the mean input power
DAMPING = 1e-2
_BLOCK = 64


def nearest(weight: Tensor) -> QuantizedWeight:
    """Every weight rounded to the nearest level, without data. Shapes: (out, …)."""
    rows = weight.reshape(1, len(weight), -1)
    scale = _scales(rows)
    return _packed(torch.round(rows / scale[..., None]).clamp(-WEIGHT_LEVELS, WEIGHT_LEVELS), scale, weight)


def fitted(layer: Layer, weight: Tensor, inputs: list[Tensor], outputs: list[Tensor]) -> tuple[QuantizedWeight, Tensor]:
    """The integers and the bias of a layer.

    Args: inputs as the quantized network gives them, outputs as the float one does, in the same chunks of images.
    Shapes: weight (out, in/groups, kh, kw) or (out, in) -> the same; bias (out,).
    """
    x, y = samples(layer, weight, inputs), _positions(layer, outputs)
    groups = layer.groups
    mean_x, mean_y = x.mean(0), y.mean(0)  # (G, K), (out,)
    centred_x = (x - mean_x).transpose(0, 1)  # (G, S, K)
    centred_y = (y - mean_y).reshape(len(y), groups, -1).transpose(0, 1)  # (G, S, R)
    power = (centred_x.mT @ centred_x).double()  # (G, K, K)
    rows = weight.reshape(groups, -1, power.shape[-1]).double()  # (G, R, K)
    wanted = _least_squares(power, (centred_x.mT @ centred_y).double(), rows, count=len(y))
    scale = _scales(wanted).float().double()
    levels = _rounded(wanted, power, scale)
    found = levels * scale[..., None]
    bias = mean_y.double() - (found @ mean_x.double()[..., None])[..., 0].reshape(-1)
    return _packed(levels, scale, weight), bias.float()


def samples(layer: Layer, weight: Tensor, inputs: list[Tensor]) -> Tensor:
    """Rows that a layer multiplies its weight with. Shapes: -> (samples, groups, in/groups * kh * kw)."""
    if not layer.is_conv:
        return _thinned([x.reshape(len(x), -1, x.shape[-1]) for x in inputs])[:, None, :]
    kernel, stride = tuple(weight.shape[2:]), layer.option(3, [1, 1])
    padding, dilation = layer.option(4, [0, 0]), layer.option(5, [1, 1])
    rows = [F.unfold(x, kernel, tuple(dilation), tuple(padding), tuple(stride)).mT for x in inputs]
    flat = _thinned(rows)
    return flat.reshape(len(flat), layer.groups, -1)


def _positions(layer: Layer, outputs: list[Tensor]) -> Tensor:
    """The outputs at the same positions. Shapes: -> (samples, out)."""
    if layer.is_conv:
        return _thinned([y.flatten(2).mT for y in outputs])
    return _thinned([y.reshape(len(y), -1, y.shape[-1]) for y in outputs])


def _thinned(chunks: list[Tensor]) -> Tensor:
    """The same random positions for tensors of the same shape. Shapes: (B, L, K) each -> (samples, K)."""
    keep = max(1, MAX_SAMPLES // sum(len(chunk) for chunk in chunks))
    draw = torch.Generator().manual_seed(0)
    found = []
    for chunk in chunks:
        count, length, width = chunk.shape
        rows = chunk
        if length > keep:
            places = torch.stack([torch.randperm(length, generator=draw)[:keep] for _ in range(count)])
            rows = chunk.gather(1, places[..., None].expand(-1, -1, width))
        found.append(rows.reshape(-1, width))
    return torch.cat(found)


def _least_squares(power: Tensor, cross: Tensor, rows: Tensor, *, count: int) -> Tensor:
    """Ridge regression around the float weights, which few samples hardly move.

    Shapes: (G, K, K), (G, K, R), (G, R, K) -> (G, R, K); count: samples.
    """
    pull = _scaled_identity(power, RIDGE + rows.shape[-1] / count)
    return torch.linalg.solve(power + pull, cross + pull @ rows.mT).mT


def _rounded(rows: Tensor, power: Tensor, scale: Tensor) -> Tensor:
    """Levels, column after column, the error of each spread over the columns behind it. Shapes: (G, R, K) -> same."""
    power = power + _scaled_identity(power, DAMPING)
    order = torch.argsort(torch.diagonal(power, dim1=1, dim2=2), dim=1, descending=True)  # (G, K)
    work = rows.gather(2, order[:, None, :].expand_as(rows)).clone()
    power = power.gather(1, order[:, :, None].expand_as(power)).gather(2, order[:, None, :].expand_as(power))
    spread = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(power)), upper=True)
    levels = torch.zeros_like(work)
    for start in range(0, work.shape[2], _BLOCK):
        end = min(start + _BLOCK, work.shape[2])
        errors = torch.zeros_like(work[..., start:end])
        for column in range(start, end):
            value = work[..., column]
            level = torch.round(value / scale).clamp(-WEIGHT_LEVELS, WEIGHT_LEVELS)
            levels[..., column] = level
            error = (value - level * scale) / spread[:, column, column, None]
            work[..., column:end] -= error[..., None] * spread[:, None, column, column:end]
            errors[..., column - start] = error
        work[..., end:] -= errors @ spread[:, start:end, end:]
    return levels.gather(2, torch.argsort(order, dim=1)[:, None, :].expand_as(levels))


def _scaled_identity(power: Tensor, factor: float) -> Tensor:
    mean = torch.diagonal(power, dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    return torch.eye(power.shape[-1], dtype=power.dtype) * (factor * mean)[:, None, None]


def _scales(rows: Tensor) -> Tensor:
    return rows.abs().amax(-1).clamp_min(1e-12) / WEIGHT_LEVELS


def _packed(levels: Tensor, scale: Tensor, weight: Tensor) -> QuantizedWeight:
    return QuantizedWeight(
        levels.reshape(weight.shape).numpy().astype(np.int8), scale.reshape(-1).numpy().astype(np.float32)
    )

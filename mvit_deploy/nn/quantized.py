"""The quantized form of a network: which integers stand for its weights, which ranges its activations are held to.

A plan is found once, on the PyTorch module; every exporter writes the same integers and the same ranges.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mvit_deploy.errors import ConversionError
from mvit_deploy.spec import QUANTIZED

WEIGHT_LEVELS = 127  # int8 without -128: the products of two extremes stay symmetric, as every runtime wants it


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight, levels * scale row by row. levels: int8 in its shape, in [-127, 127]; scale: float32 (out,)."""

    levels: np.ndarray
    scale: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """The float32 weight that the levels stand for."""
        return self.levels.astype(np.float32) * self.scale.reshape(-1, *[1] * (self.levels.ndim - 1))


@dataclass(frozen=True)
class Affine:
    """An integer code: value = scale * (level - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Range:
    """What a tensor is clipped to, low <= 0 <= high."""

    low: float
    high: float

    def unsigned(self, bits: int) -> Affine:
        """Levels 0 … 2^bits - 1, both ends and zero representable (zero exactly). int8's zero point is 128 less."""
        top = 2**bits - 1
        scale = max((self.high - self.low) / top, 1e-12)
        return Affine(scale, min(max(round(-self.low / scale), 0), top))

    def symmetric(self, bits: int) -> Affine:
        """Levels -(2^(bits-1) - 1) … 2^(bits-1) - 1 around a zero point of 0."""
        return Affine(max(-self.low, self.high, 1e-12) / (2 ** (bits - 1) - 1), 0)


@dataclass(frozen=True)
class LayerRanges:
    """Ranges of what enters a layer and of what leaves it (before an activation function)."""

    input: Range
    output: Range


class ScaledSiLU(nn.Module):
    """SiLU of a map whose channels have been divided by scale, itself divided by it: x * sigmoid(scale * x).

    With x = z / scale it is SiLU(z) / scale exactly, so per-channel ranges can be made alike on both sides of it.
    Shapes: (B, C, H, W), scale (C,) -> (B, C, H, W).
    """

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        # Four axes: with three, converters to channels-last guess which is which where sides and channels agree.
        self.register_buffer("scale", scale.reshape(1, -1, 1, 1).float())

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x * self.scale)


class QuantizedForm(nn.Module):
    """A deployment form and how it is quantized, as exporters take it.

    module: the deployment form (fuse), its weights replaced by the values that their levels stand for. weights: by the
    name of the layer in the module; a layer that is missing keeps its weights in float. ranges: the layers whose
    arithmetic is integer (8 bits for w8a8, 16 for w8a16), none for w8. output: the range of what the network gives, for
    files whose output is an integer and comes from a float layer; None where nothing was observed.
    Shapes: as the module.
    """

    def __init__(
        self,
        module: nn.Module,
        weights: Mapping[str, QuantizedWeight],
        ranges: Mapping[str, LayerRanges],
        output: Range | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.weights = dict(weights)
        self.ranges = dict(ranges)
        self.output = output

    def forward(self, image: Tensor) -> Tensor:
        return self.module(image)


def check_form(module: nn.Module | None, precision: str) -> None:
    """Raises: ConversionError when a quantized precision is asked of a module that says no integers."""
    if precision in QUANTIZED and not isinstance(module, QuantizedForm):
        raise ConversionError(f"{precision} needs a QuantizedForm, which says the integers; a float module was lowered")

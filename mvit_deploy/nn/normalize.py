"""Mean and deviation of the channels in front of a network, as part of it."""

import copy

import torch
from torch import Tensor, nn

from mvit_deploy.spec import Normalization


class Normalize(nn.Module):
    """(image - mean) / std. Shapes: (B, 3, H, W) -> the same. Its numbers are settings, no weights of a checkpoint."""

    def __init__(self, normalization: Normalization) -> None:
        super().__init__()
        for name in ("mean", "std"):
            values = torch.tensor(getattr(normalization, name), dtype=torch.float32)
            self.register_buffer(name, values[None, :, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


class Centre(nn.Module):
    """image - mean: what is left of Normalize when the next convolution divides. That one pads with 0, which stands
    for the mean, so the mean cannot go into its bias: the borders would be wrong."""

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return image - self.mean


def normalized(module: nn.Module, normalization: Normalization) -> nn.Module:
    """A copy of a network that normalizes its image first: inside the backbone of one of ours, so that layers keep
    their names, and around any other."""
    copied = copy.deepcopy(module)
    backbone = getattr(copied, "backbone", copied)
    if hasattr(backbone, "normalize"):
        backbone.normalize = Normalize(normalization)
        return copied
    return nn.Sequential(Normalize(normalization), copied)

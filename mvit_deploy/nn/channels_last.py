"""The deployment form for runtimes that lay maps out channels-last (TFLite): fewer operators, numerically equal.

Tokens keep the channels last throughout, so that unfold and fold cost two transposes each where the other form costs
three, and no permutation moves the first axis (converters guess layouts wrongly there). Where everything that is added
to the tokens comes out of a linear layer, the mean that LayerNorm subtracts is taken out of those layers' weights
instead, which leaves a root mean square: five operators where such a runtime has no LayerNorm of its own and takes ten.
"""

import copy

import torch
from torch import Tensor, nn

from mvit_deploy.nn.fuse import DeployAttention, DeployBlock
from mvit_deploy.nn.patches import fold_channels_last, resize, round_up, static_size, unfold_channels_last


def channels_last(fused: nn.Module) -> nn.Module:
    """A copy of what fuse() or centred() made, its blocks channels-last. The given module is not modified."""
    return _converted(copy.deepcopy(fused)).requires_grad_(False)


def centred(fused: nn.Module) -> nn.Module:
    """A copy of what fuse() made, equal in function, whose tokens have a mean of 0 as the channels-last form needs it.

    Weights that are quantized afterwards are then the same integers for every target.
    """
    copied = copy.deepcopy(fused)
    for block in [part for part in copied.modules() if isinstance(part, DeployBlock)]:
        if isinstance(block.local_proj, nn.Conv2d):
            _centre_tokens(block)
            block.is_centred = True
    return copied.requires_grad_(False)


def _converted(module: nn.Module) -> nn.Module:
    if isinstance(module, DeployBlock):
        return ChannelsLastBlock(module)
    for name, child in module.named_children():
        setattr(module, name, _converted(child))
    return module


class RootMeanSquareNorm(nn.Module):
    """LayerNorm without affine of rows whose mean is 0 already. Shapes: (…, d) -> (…, d)."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x / ((x * x).mean(dim=-1, keepdim=True) + self.eps).sqrt()


class ChannelsLastAttention(nn.Module):
    """Shapes: (B, P, N, d) -> (B, P, N, d)."""

    def __init__(self, attention: DeployAttention) -> None:
        super().__init__()
        self.heads, self.head_dim = attention.heads, attention.head_dim
        self.qkv, self.out = attention.qkv, attention.out

    def forward(self, x: Tensor) -> Tensor:
        offsets, count = int(x.shape[1]), int(x.shape[2])
        qkv = self.qkv(x).reshape(-1, count, 3 * self.heads, self.head_dim).transpose(1, 2)  # (B*P, 3h, N, c)
        q, k, v = qkv.split((self.heads,) * 3, dim=1)  # (B*P, h, N, c)
        weights = (q @ k.transpose(-2, -1)).softmax(dim=-1)  # (B*P, h, N, N)
        y = (weights @ v).transpose(1, 2)  # (B*P, N, h, c)
        return self.out(y.reshape(-1, offsets, count, self.heads * self.head_dim))  # (B, P, N, d)


class ChannelsLastBlock(nn.Module):
    """Shapes: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, block: DeployBlock) -> None:
        super().__init__()
        self.patch, self.global_first = block.patch, block.global_first
        self.local_conv, self.local_proj = block.local_conv, block.local_proj
        self.transformer = block.transformer
        for layer in self.transformer:  # all but attention takes tokens of any rank
            layer.attention = ChannelsLastAttention(layer.attention)
        self.norm, self.proj, self.fusion = block.norm, block.proj, block.fusion
        if isinstance(self.local_proj, nn.Conv2d):  # Kornia's network has an activation there, which has no mean of 0
            if not block.is_centred:
                _centre_tokens(self)
            _use_root_mean_square(self)

    def forward(self, x: Tensor) -> Tensor:
        size = static_size(x)[1:]
        even = round_up(size, self.patch)
        y = resize(self.local_proj(self.local_conv(x)), even)
        y = self.norm(self.transformer(unfold_channels_last(y, self.patch)))
        y = self.proj(resize(fold_channels_last(y, even, self.patch), size))
        return self.fusion(torch.cat((y, x) if self.global_first else (x, y), dim=1))


def _centre_tokens(block: "ChannelsLastBlock | DeployBlock") -> None:
    """Centre the outputs of every layer that is added to the tokens; a sum of rows of mean 0 has mean 0, a bilinear
    resize keeps it, and LayerNorm gives the same for a row and for the row less its mean."""
    _centre(block.local_proj)
    for layer in block.transformer:
        _centre(layer.attention.out)
        _centre(layer.ffn.fc2)


def _use_root_mean_square(block: ChannelsLastBlock) -> None:
    for layer in block.transformer:
        layer.norm1, layer.norm2 = RootMeanSquareNorm(layer.norm1.eps), RootMeanSquareNorm(layer.norm2.eps)
    if isinstance(block.norm, nn.LayerNorm):
        block.norm = RootMeanSquareNorm(block.norm.eps)


def _centre(layer: nn.Conv2d | nn.Linear) -> None:
    """Take the mean over the output channels out of weight and bias, in float64."""
    weight = layer.weight.double()
    layer.weight = nn.Parameter((weight - weight.mean(dim=0, keepdim=True)).float())
    if layer.bias is not None:
        bias = layer.bias.double()
        layer.bias = nn.Parameter((bias - bias.mean()).float())

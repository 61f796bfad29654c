"""The deployment form: a new module that computes the same with fewer operators.

BatchNorm folds into its convolution, the q scale and the affine of LayerNorm into the linear layer behind them, the
block's last LayerNorm affine into the 1x1 convolution behind fold, and q, k and v are transposed together. All folding
is done in float64 and rounded once. The original is never modified.
"""

import copy

import torch
from torch import Tensor, nn

from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.encoder import Attention, FeedForward, MobileViTBlock, TransformerLayer
from mvit_deploy.nn.heads.segmentation import SegmentationHead
from mvit_deploy.nn.layers import ConvNorm
from mvit_deploy.nn.normalize import Centre, Normalize
from mvit_deploy.nn.patches import fold, resize, round_up, static_size, unfold


def fuse(model: nn.Module) -> nn.Module:
    """A copy of a model in which every part of ours has its deployment form, in eval mode, numerically equal.

    Works on the backbone, the classifier and on a module of the user's own that contains them; parts that are not ours
    are copied as they are. Parameters of the copy need no gradient.
    """
    fused = _fused(copy.deepcopy(model).eval())
    return fused.requires_grad_(False).eval()


def _fused(module: nn.Module) -> nn.Module:
    if type(module) in _FORMS:
        return _FORMS[type(module)](module)
    for name, child in module.named_children():
        setattr(module, name, _fused(child))
    if isinstance(module, MobileViT) and isinstance(module.normalize, Normalize):
        _absorb_deviation(module)
    return module


def _absorb_deviation(network: MobileViT) -> None:
    """Divide the weights of the first convolution, not its bias, instead of the image."""
    mean, std = network.normalize.mean, network.normalize.std
    conv = network.stem[0]
    conv.weight = nn.Parameter((conv.weight.double() / std.double()).float())
    network.normalize = Centre(mean) if mean.any() else nn.Identity()


def fold_norm(module: ConvNorm) -> nn.Sequential:
    """Conv + BN (+ act) as one convolution with a bias (+ act)."""
    conv, bn = module.conv, module.bn
    gain = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
    weight = conv.weight.double() * gain[:, None, None, None]
    bias = bn.bias.double() - bn.running_mean.double() * gain
    folded = _convolution(conv, weight, bias)
    return folded if isinstance(module.act, nn.Identity) else nn.Sequential(folded, module.act)


class DeployAttention(nn.Module):
    """Attention with the q scale and the preceding LayerNorm's affine inside qkv. Shapes: (B', N, d) -> (B', N, d)."""

    def __init__(self, attention: Attention, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.heads, self.head_dim = attention.heads, attention.head_dim
        weight, bias = _absorb_affine(attention.qkv, norm)
        rows = torch.ones(len(bias), dtype=torch.float64)
        rows[: len(bias) // 3] = attention.scale
        self.qkv = _linear(weight * rows[:, None], bias * rows)
        self.out = attention.out

    def forward(self, x: Tensor) -> Tensor:
        count = int(x.shape[1])
        qkv = self.qkv(x).reshape(-1, count, 3 * self.heads, self.head_dim).transpose(1, 2)  # (B', 3h, N, c)
        q, k, v = qkv.split((self.heads,) * 3, dim=1)  # (B', h, N, c)
        weights = (q @ k.transpose(-2, -1)).softmax(dim=-1)  # (B', h, N, N)
        y = (weights @ v).transpose(1, 2).reshape(-1, count, self.heads * self.head_dim)  # (B', N, h*c)
        return self.out(y)


class DeployLayer(nn.Module):
    """TransformerLayer without affines and dropout. Shapes: (B', N, d) -> (B', N, d)."""

    def __init__(self, layer: TransformerLayer) -> None:
        super().__init__()
        self.norm1 = _bare(layer.norm1)
        self.attention = DeployAttention(layer.attention, layer.norm1)
        self.norm2 = _bare(layer.norm2)
        self.ffn = FeedForward(layer.ffn.fc1.in_features, layer.ffn.fc1.out_features)
        self.ffn.fc1 = _linear(*_absorb_affine(layer.ffn.fc1, layer.norm2))
        self.ffn.fc2 = layer.ffn.fc2

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class DeployBlock(nn.Module):
    """MobileViTBlock of deployment forms. Shapes: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, block: MobileViTBlock) -> None:
        super().__init__()
        self.patch, self.global_first = block.patch, block.global_first
        self.is_centred = False  # whether the tokens have a mean of 0 (channels_last.centred)
        self.local_conv = fold_norm(block.local_conv)
        self.local_proj = _fused(block.local_proj)
        self.transformer = nn.Sequential(*(DeployLayer(layer) for layer in block.transformer))
        has_norm = isinstance(block.norm, nn.LayerNorm)
        self.norm = _bare(block.norm) if has_norm else nn.Identity()
        proj = fold_norm(block.proj)
        self.proj = _absorb_affine_into_1x1(proj, block.norm) if has_norm else proj
        self.fusion = fold_norm(block.fusion)

    def forward(self, x: Tensor) -> Tensor:
        size = static_size(x)[1:]
        even = round_up(size, self.patch)
        y = resize(self.local_proj(self.local_conv(x)), even)
        y = self.norm(self.transformer(unfold(y, self.patch)))
        y = self.proj(resize(fold(y, even, self.patch), size))
        return self.fusion(torch.cat((y, x) if self.global_first else (x, y), dim=1))


class DeploySegmentationHead(nn.Module):
    """SegmentationHead whose pooled branch is projected as the single point that it is, and added everywhere.

    Shapes: (B, C, H, W) -> (B, num_classes, H, W).
    """

    def __init__(self, head: SegmentationHead) -> None:
        super().__init__()
        self.aspp = nn.ModuleList(fold_norm(conv) for conv in head.aspp)
        self.pool_conv = fold_norm(head.pool_conv)
        project, self.act = fold_norm(head.project)
        count = project.in_channels - head.pool_conv.conv.out_channels
        weight = project.weight.double()
        self.project = _convolution(project, weight[:, :count], project.bias.double())
        self.project_pooled = _convolution(project, weight[:, count:], torch.zeros_like(project.bias).double())
        self.classify = head.classify

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.project_pooled(self.pool_conv(x.mean(dim=(2, 3), keepdim=True)))
        joined = torch.cat([conv(x) for conv in self.aspp], dim=1)
        return self.classify(self.act(self.project(joined) + pooled))


_FORMS = {ConvNorm: fold_norm, MobileViTBlock: DeployBlock, SegmentationHead: DeploySegmentationHead}


def _absorb_affine(linear: nn.Linear, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias, in float64, of linear(norm) when the norm before it has lost its affine."""
    weight = linear.weight.double()
    shift = weight @ norm.bias.double()
    return weight * norm.weight.double(), shift if linear.bias is None else linear.bias.double() + shift


def _absorb_affine_into_1x1(proj: nn.Sequential, norm: nn.LayerNorm) -> nn.Sequential:
    """The same for the 1x1 convolution behind fold; a bilinear resize between them keeps constants, so it commutes."""
    conv, act = proj
    weight = conv.weight.double()
    bias = conv.bias.double() + weight[:, :, 0, 0] @ norm.bias.double()
    return nn.Sequential(_convolution(conv, weight * norm.weight.double()[None, :, None, None], bias), act)


def _bare(norm: nn.LayerNorm) -> nn.LayerNorm:
    return nn.LayerNorm(norm.normalized_shape, eps=norm.eps, elementwise_affine=False)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight = nn.Parameter(weight.float())
    linear.bias = nn.Parameter(bias.float())
    return linear


def _convolution(like: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    in_channels, form = weight.shape[1] * like.groups, (like.stride, like.padding, like.dilation, like.groups)
    conv = nn.Conv2d(in_channels, len(weight), like.kernel_size, *form)
    conv.weight = nn.Parameter(weight.float())
    conv.bias = nn.Parameter(bias.float())
    return conv

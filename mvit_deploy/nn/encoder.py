"""The transformer layers and the MobileViT block around them."""

import torch
from torch import Tensor, nn

from mvit_deploy.nn.config import HEADS, NORM_EPS, TransformerStage
from mvit_deploy.nn.layers import ConvNorm
from mvit_deploy.nn.patches import fold, resize, round_up, static_size, unfold


class Attention(nn.Module):
    """Multi-head self-attention over N, written out as matmul, softmax, matmul (no fused operator).

    The rows of qkv are [q of all heads | k | v], each head-major; q is scaled by head_dim^-0.5 before the product.
    Shapes: (B', N, d) -> (B', N, d).
    Source: apple/ml-cvnets v0.1 layers/multi_head_attention.py.
    """

    def __init__(self, dim: int, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = dim // heads
        self.scale = self.head_dim**-0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        count, dim = int(x.shape[1]), int(x.shape[2])
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (t.reshape(-1, count, self.heads, self.head_dim).transpose(1, 2) for t in (q, k, v))  # (B', h, N, c)
        weights = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)  # (B', h, N, N)
        y = (weights @ v).transpose(1, 2).reshape(-1, count, dim)  # (B', N, d)
        return self.out(y)


class FeedForward(nn.Module):
    """Linear to 2d, SiLU, Linear back. Shapes: (B', N, d) -> (B', N, d)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 2 * dim)
        self.act = nn.SiLU()
        self.fc2 = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class TransformerLayer(nn.Module):
    """Pre-norm attention and feed-forward, each with dropout and a residual. Shapes: (B', N, d) -> (B', N, d)."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attention = Attention(dim)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.ffn = FeedForward(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.ffn(self.norm2(x)))


class MobileViTBlock(nn.Module):
    """Local convolutions, unfold, transformer layers, fold, and fusion with the block's input.

    A map that the patch does not divide is resized bilinearly before unfold and back after fold.
    Shapes: (B, C, H, W) -> (B, C, H, W).
    Source: arXiv 2110.02178 fig. 1b; apple/ml-cvnets v0.1 modules/mobilevit_block.py.
    """

    def __init__(self, stage: TransformerStage, patch: tuple[int, int], dropout: float) -> None:
        super().__init__()
        self.patch = patch
        self.local_conv = ConvNorm(stage.channels, stage.channels, 3)
        self.local_proj = nn.Conv2d(stage.channels, stage.dim, 1, bias=False)
        self.transformer = nn.Sequential(*(TransformerLayer(stage.dim, dropout) for _ in range(stage.depth)))
        self.norm = nn.LayerNorm(stage.dim, eps=NORM_EPS)
        self.proj = ConvNorm(stage.dim, stage.channels, 1)
        self.fusion = ConvNorm(2 * stage.channels, stage.channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        size = static_size(x)[1:]
        even = round_up(size, self.patch)
        y = resize(self.local_proj(self.local_conv(x)), even)
        y = self.norm(self.transformer(unfold(y, self.patch)))
        y = self.proj(resize(fold(y, even, self.patch), size))
        return self.fusion(torch.cat((x, y), dim=1))  # the shortcut comes first

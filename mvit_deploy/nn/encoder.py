"""The transformer layers and the MobileViT block around them."""

import torch
from torch import Tensor, nn

from mvit_deploy.nn.config import HEADS, NORM_EPS, TransformerStage
from mvit_deploy.nn.layers import ConvNorm
from mvit_deploy.nn.patches import fold, resize, round_up, static_size, unfold


class Attention(nn.Module):
    """Multi-head self-attention over N, written out as matmul, softmax, matmul (no fused operator).

    The rows of qkv are [q of all heads | k | v], each head-major. The scale, head_dim^-0.5, is on q, or with
    scales_scores on the product, as in Kornia's network.
    Shapes: (B', N, d) -> (B', N, d); the heads are c wide, together h*c.
    Source: apple/ml-cvnets v0.1 layers/multi_head_attention.py.
    """

    def __init__(
        self, dim: int, head_dim: int, *, heads: int = HEADS, qkv_bias: bool = True, scales_scores: bool = False
    ) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = head_dim
        self.scale = head_dim**-0.5
        self.scales_scores = scales_scores
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=qkv_bias)
        self.out = nn.Linear(heads * head_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        count = int(x.shape[1])
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (t.reshape(-1, count, self.heads, self.head_dim).transpose(1, 2) for t in (q, k, v))  # (B', h, N, c)
        k = k.transpose(-2, -1)
        scores = (q @ k) * self.scale if self.scales_scores else (q * self.scale) @ k  # (B', h, N, N)
        y = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(-1, count, self.heads * self.head_dim)  # (B', N, h*c)
        return self.out(y)


class FeedForward(nn.Module):
    """Linear to width, SiLU, Linear back. Shapes: (B', N, d) -> (B', N, d)."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, width)
        self.act = nn.SiLU()
        self.fc2 = nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class TransformerLayer(nn.Module):
    """Pre-norm attention and feed-forward, each with dropout and a residual. Shapes: (B', N, d) -> (B', N, d)."""

    def __init__(self, stage: TransformerStage, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(stage.dim, eps=NORM_EPS)
        self.attention = Attention(
            stage.dim, stage.head_dim, qkv_bias=stage.qkv_bias, scales_scores=stage.scales_scores
        )
        self.norm2 = nn.LayerNorm(stage.dim, eps=NORM_EPS)
        self.ffn = FeedForward(stage.dim, stage.ffn_width)
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
        self.global_first = stage.global_first
        self.local_conv = ConvNorm(stage.channels, stage.channels, 3)
        self.local_proj = (
            ConvNorm(stage.channels, stage.dim, 1)
            if stage.norm_after_local_proj
            else nn.Conv2d(stage.channels, stage.dim, 1, bias=False)
        )
        self.transformer = nn.Sequential(*(TransformerLayer(stage, dropout) for _ in range(stage.depth)))
        self.norm = nn.LayerNorm(stage.dim, eps=NORM_EPS) if stage.norm_after_transformer else nn.Identity()
        self.proj = ConvNorm(stage.dim, stage.channels, 1)
        self.fusion = ConvNorm(2 * stage.channels, stage.channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        size = static_size(x)[1:]
        even = round_up(size, self.patch)
        y = resize(self.local_proj(self.local_conv(x)), even)
        y = self.norm(self.transformer(unfold(y, self.patch)))
        y = self.proj(resize(fold(y, even, self.patch), size))
        return self.fusion(torch.cat((y, x) if self.global_first else (x, y), dim=1))

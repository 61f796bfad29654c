"""unfold and fold: feature map to tokens and back, by reshape and permute alone.

Every size is a Python int taken from the input's static shape and the one free size, the batch, is written -1, so
no trace and no export contains an operator that asks for a shape, and every tensor stays at rank 4 or below.
"""

import torch.nn.functional as F
from torch import Tensor

from mvit_deploy.errors import ShapeError


def static_size(x: Tensor) -> tuple[int, int, int]:
    """Channels, height and width of an NCHW tensor as plain ints (a tracer would hand out tensors)."""
    return int(x.shape[1]), int(x.shape[2]), int(x.shape[3])


def unfold(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """Rearrange a feature map into tokens, pixel-major.

    Row p*B + b of the result holds the pixel at offset p of every patch of image b. So attention, which runs along N,
    mixes the same offset of all patches and never two offsets.

    Shapes: x (B, C, H, W) -> (P*B, N, C), P = ph*pw, N = (H/ph)*(W/pw).
    Raises: ShapeError if the patch does not divide H and W.
    Source: arXiv 2110.02178 s3.1; with batch 1 equal to apple/ml-cvnets unfolding(), which puts B before P.
    """
    ph, pw = patch
    channels, height, width = static_size(x)
    _check_divides(height, width, patch)
    nh, nw = height // ph, width // pw
    x = x.reshape(-1, ph, nw, pw)  # (B*C*nh, ph, nw, pw)
    x = x.permute(1, 3, 0, 2)  # (ph, pw, B*C*nh, nw)
    x = x.reshape(-1, channels, nh * nw)  # (P*B, C, N)
    return x.transpose(1, 2)  # (P*B, N, C)


def fold(tokens: Tensor, size: tuple[int, int], patch: tuple[int, int]) -> Tensor:
    """Put tokens back into a feature map: the exact inverse of unfold.

    Shapes: tokens (P*B, N, C) -> (B, C, H, W) with size = (H, W).
    Raises: ShapeError if the patch does not divide H and W or N does not fit them.
    """
    ph, pw = patch
    height, width = size
    _check_divides(height, width, patch)
    nw = width // pw
    count, channels = int(tokens.shape[1]), int(tokens.shape[2])
    _check_fills(count, size, patch)
    x = tokens.transpose(1, 2)  # (P*B, C, N)
    x = x.reshape(ph, pw, -1, nw)  # (ph, pw, B*C*nh, nw)
    x = x.permute(2, 0, 3, 1)  # (B*C*nh, ph, nw, pw)
    return x.reshape(-1, channels, height, width)  # (B, C, H, W)


def unfold_channels_last(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """unfold for runtimes with channels-last maps: the first permutation costs nothing there, two transposes remain.

    Shapes: x (B, C, H, W) -> (B, P, N, C); [b, p] is row p*B + b of unfold.
    Raises: ShapeError if the patch does not divide H and W.
    """
    ph, pw = patch
    channels, height, width = static_size(x)
    _check_divides(height, width, patch)
    nh, nw = height // ph, width // pw
    x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
    x = x.reshape(-1, ph, nw, pw * channels).transpose(1, 2)  # (B*nh, nw, ph, pw*C)
    return x.reshape(-1, nh * nw, ph * pw, channels).transpose(1, 2)  # (B, P, N, C)


def fold_channels_last(tokens: Tensor, size: tuple[int, int], patch: tuple[int, int]) -> Tensor:
    """The exact inverse of unfold_channels_last.

    Shapes: tokens (B, P, N, C) -> (B, C, H, W) with size = (H, W).
    Raises: ShapeError if the patch does not divide H and W or N does not fit them.
    """
    ph, pw = patch
    height, width = size
    _check_divides(height, width, patch)
    _check_fills(int(tokens.shape[2]), size, patch)
    channels = int(tokens.shape[3])
    x = tokens.transpose(1, 2)  # (B, N, P, C)
    x = x.reshape(-1, width // pw, ph, pw * channels).transpose(1, 2)  # (B*nh, ph, nw, pw*C)
    return x.reshape(-1, height, width, channels).permute(0, 3, 1, 2)  # (B, C, H, W)


def round_up(size: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    """The smallest height and width that the patch divides and that are not below size."""
    return tuple(-(-side // step) * step for side, step in zip(size, patch, strict=True))


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a map bilinearly (half-pixel centres, no antialiasing), or return it as it is when the size fits.

    Shapes: x (B, C, H, W) -> (B, C, *size).
    Source: apple/ml-cvnets v0.1 modules/mobilevit_block.py, which does so where a patch does not divide a map.
    """
    if static_size(x)[1:] == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def _check_fills(count: int, size: tuple[int, int], patch: tuple[int, int]) -> None:
    (height, width), (ph, pw) = size, patch
    if count != (height // ph) * (width // pw):
        raise ShapeError(f"{count} tokens do not fill a {height}x{width} map with patches of {ph}x{pw}")


def _check_divides(height: int, width: int, patch: tuple[int, int]) -> None:
    ph, pw = patch
    if ph < 1 or pw < 1 or height % ph or width % pw:
        raise ShapeError(f"a {height}x{width} map cannot be cut into patches of {ph}x{pw}")

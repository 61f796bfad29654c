"""Pools, resizing and rearranging of maps (N, C, *spatial). Source: coremltools' pool.py, image_resizing.py,
tensor_transformation.py, whose docstrings give the sampling grids."""

import math

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml import kernels
from mvit_deploy.runtimes.coreml.errors import UnknownFormError
from mvit_deploy.runtimes.coreml.ops.linear import padding

_LONGEST_AXIS = 2**20  # samples of a resized axis: no picture has a million rows


def max_pool(x, kernel_sizes, pad_type, strides=None, pad=None, ceil_mode=False):
    kernel, strides, pads = _window(x, kernel_sizes, pad_type, strides, pad)
    pads = _ceil(x, kernel, strides, pads) if ceil_mode else pads
    _check_windows(x, kernel, strides, pads)
    return kernels.max_pool(x, kernel=kernel, strides=strides, pads=pads)


def avg_pool(x, kernel_sizes, pad_type, strides=None, pad=None, exclude_padding_from_average=False, ceil_mode=False):
    kernel, strides, pads = _window(x, kernel_sizes, pad_type, strides, pad)
    wider = _ceil(x, kernel, strides, pads) if ceil_mode else pads
    if wider != pads and not exclude_padding_from_average:
        raise UnknownFormError("avg_pool with ceil_mode that counts samples beyond the padding")
    if exclude_padding_from_average:
        _check_windows(x, kernel, strides, wider)
    return kernels.average_pool(
        x, kernel=kernel, strides=strides, pads=wider, exclude_padding=bool(exclude_padding_from_average)
    )


def upsample_nearest_neighbor(x, scale_factor_height=1, scale_factor_width=1):
    rows, columns = float(scale_factor_height), float(scale_factor_width)
    if not (rows.is_integer() and columns.is_integer() and rows >= 1 and columns >= 1):
        raise UnknownFormError(f"upsample_nearest_neighbor by {rows:g} and {columns:g}, which is not documented")
    return _repeat(x, int(rows), int(columns))


def resize_nearest_neighbor(x, target_size_height, target_size_width):
    height, width = int(target_size_height), int(target_size_width)
    if height % x.shape[-2] or width % x.shape[-1]:
        raise UnknownFormError(f"resize_nearest_neighbor from {x.shape[-2:]} to {(height, width)}: not a multiple")
    return _repeat(x, height // x.shape[-2], width // x.shape[-1])


def upsample_bilinear(x, scale_factor_height=1, scale_factor_width=1, align_corners=True, half_pixel_centers=None):
    """The output has floor(side * factor) samples; the spacing is then recomputed from the sizes."""
    half_pixel_centers = not align_corners if half_pixel_centers is None else bool(half_pixel_centers)
    if align_corners and half_pixel_centers:
        raise UnknownFormError("upsample_bilinear with align_corners and half_pixel_centers")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half_pixel_centers else "DEFAULT"
    height, width = _scaled(x.shape[-2], scale_factor_height), _scaled(x.shape[-1], scale_factor_width)
    return _bilinear(x, height, width, mode)


def _scaled(side: int, scale: np.ndarray) -> int:
    """floor(side * scale) where float32 and float64 agree; which of them is meant is not documented."""
    single, double = np.float32(side) * np.float32(scale), float(side) * float(np.float32(scale))
    if math.floor(single) != math.floor(double):
        raise UnknownFormError(
            f"upsample_bilinear of {side} samples by {double / side!r}: {single} or {double} samples"
        )
    return math.floor(single)


def resize_bilinear(x, target_size_height=1, target_size_width=1, sampling_mode="DEFAULT"):
    return _bilinear(x, int(target_size_height), int(target_size_width), sampling_mode)


def resize(x, shape, resized_dims, interpolation_mode="LINEAR", sampling_mode="DEFAULT"):
    count = int(resized_dims)
    if count > min(len(shape), x.ndim) or interpolation_mode != "LINEAR":
        raise UnknownFormError(f"resize of {count} axes with interpolation_mode {interpolation_mode!r}")
    if x.dtype.kind != "f":
        raise UnknownFormError("resize of integers")
    for axis, side in zip(range(x.ndim - count, x.ndim), shape[len(shape) - count :], strict=True):
        x = kernels.interpolate(x, axis, grid(x.shape[axis], int(side) or x.shape[axis], sampling_mode))
    return x


def crop(x, crop_height, crop_width):
    """Shapes: x (N, C, H, W); crop_height and crop_width: how much goes on either side."""
    (top, bottom), (left, right) = (int(v) for v in crop_height), (int(v) for v in crop_width)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def pixel_shuffle(x, upscale_factor):
    """Shapes: (N, C*f*f, H, W) -> (N, C, H*f, W*f), as torch.nn.PixelShuffle."""
    n, channels, height, width = x.shape
    f = int(upscale_factor)
    parts = x.reshape(n, channels // (f * f), f, f, height, width).transpose(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, channels // (f * f), height * f, width * f)


def pixel_unshuffle(x, downscale_factor):
    """Shapes: (N, C, H*f, W*f) -> (N, C*f*f, H, W), as torch.nn.PixelUnshuffle."""
    n, channels, height, width = x.shape
    f = int(downscale_factor)
    parts = x.reshape(n, channels, height // f, f, width // f, f).transpose(0, 1, 3, 5, 2, 4)
    return parts.reshape(n, channels * f * f, height // f, width // f)


def grid(size: int, wanted: int, mode: str) -> np.ndarray:
    """Source positions of the samples of a resized axis, as resize_bilinear documents each sampling_mode."""
    if min(size, wanted) < 1 or wanted > _LONGEST_AXIS:
        raise DamagedFileError(f"an axis of {size} resized to {wanted}")
    index = np.arange(wanted, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if wanted == 1:
            return np.array([(size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0])
        return index * (size - 1) / (wanted - 1)
    if mode == "DEFAULT":
        return index * (size / wanted)
    if mode == "UNALIGN_CORNERS":
        return (index + 0.5) * (size / wanted) - 0.5
    if mode == "OFFSET_CORNERS":
        return (index + 0.5) * (max(1, size - 1) / wanted)
    raise UnknownFormError(f"sampling_mode {mode!r}")


def _bilinear(x: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    rows = kernels.interpolate(x, x.ndim - 2, grid(x.shape[-2], height, mode))
    return kernels.interpolate(rows, x.ndim - 1, grid(x.shape[-1], width, mode))


def _repeat(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    kernels.check_size((*x.shape[:-2], x.shape[-2] * rows, x.shape[-1] * columns))
    return x.repeat(rows, axis=-2).repeat(columns, axis=-1)


def _window(x, kernel_sizes, pad_type, strides, pad):
    kernel = [int(size) for size in kernel_sizes]
    strides = [1] * len(kernel) if strides is None else [int(stride) for stride in strides]
    return kernel, strides, padding(pad_type, pad, x.shape[2:], kernel, strides, [1] * len(kernel))


def _check_windows(x, kernel, strides, pads):
    """Refuse windows that hold no sample at all: what is their largest value, or their mean, is not documented."""
    for side, size, stride, (before, after) in zip(x.shape[2:], kernel, strides, pads, strict=True):
        last = (side + before + after - size) // stride * stride - before
        if before >= size or last >= side:
            raise UnknownFormError(f"a pool whose windows of {size} lie in the padding {before, after} alone")


def _ceil(x, kernel, strides, pads):
    """Padding behind so that the last window is whole; a window must begin inside the map or the padding before it."""
    if any(before != after for before, after in pads):
        raise DamagedFileError(f"ceil_mode with the asymmetric padding {pads}")
    wider = []
    for side, size, stride, (before, after) in zip(x.shape[2:], kernel, strides, pads, strict=True):
        count = math.ceil((side + before + after - size) / stride) + 1
        if (count - 1) * stride >= side + before and before + after > 0:
            count -= 1
        wider.append((before, max(after, (count - 1) * stride + size - side - before)))
    return wider

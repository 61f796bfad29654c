"""Compressed constants (constexpr_…) and quantized activations. Source: coremltools' iOS16/constexpr_ops.py,
iOS18/compression.py, iOS17/quantization_ops.py."""

import math

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml import kernels
from mvit_deploy.runtimes.coreml.blob import decode
from mvit_deploy.runtimes.coreml.errors import UnknownFormError

_LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}
_BITS_OF_PALETTE = {2: 1, 4: 2, 16: 4, 64: 6, 256: 8}


def quantize(input, scale, output_dtype, zero_point=None, axis=None):
    """clip(round(input / scale) + zero_point); ties go to even."""
    if output_dtype not in _LIMITS:
        raise UnknownFormError(f"quantize to {output_dtype!r}")
    levels = np.rint(input / _along(scale, input, axis))
    if zero_point is not None:
        levels = levels + _along(zero_point, input, axis).astype(np.float32)
    return np.clip(levels, *_LIMITS[output_dtype]).astype(output_dtype)


def dequantize(input, scale, zero_point=None, axis=None):
    """scale * (input - zero_point)"""
    levels = input.astype(np.float32)
    if zero_point is not None:
        levels = levels - _along(zero_point, input, axis).astype(np.float32)
    return _along(scale, input, axis) * levels


def constexpr_affine_dequantize(quantized_data, zero_point, scale, axis):
    """scale * (quantized_data - zero_point), both scalars or one for each slice along an axis."""
    return dequantize(quantized_data, scale, zero_point, axis)


def constexpr_cast(source_val, output_dtype):
    if output_dtype != "fp32":
        raise UnknownFormError(f"constexpr_cast to {output_dtype!r}")
    return source_val


def constexpr_blockwise_shift_scale(data, scale, offset=None):
    """scale * (data - offset), each scale and offset for a block of data.shape / scale.shape elements."""
    levels = data.astype(np.float32)
    if offset is not None:
        levels = levels - _spread(offset, data.shape).astype(np.float32)
    return _spread(scale, data.shape) * levels


def constexpr_lut_to_dense(indices, lut, shape=None, vector_axis=None):
    """Values from a palette. Up to iOS 17 the indices are packed bits and shape is given; from iOS 18 on they are a
    tensor, a palette may serve a group of them, and an entry may be a vector along vector_axis."""
    if shape is not None:
        bits = _palette_bits(lut.size)
        flat = decode(indices.tobytes(), f"uint{bits}", (_volume(shape),))
        return lut[flat].reshape([int(side) for side in shape])
    return _look_up(indices, lut, vector_axis)


def constexpr_sparse_to_dense(nonzero_data, mask, shape=None):
    """Values where the mask is set, zeros elsewhere. Up to iOS 17 the mask is packed bits and shape is given."""
    if shape is not None:
        mask = decode(mask.tobytes(), "uint1", (_volume(shape),)).reshape([int(side) for side in shape])
    return _scatter(nonzero_data, mask)


def constexpr_lut_to_sparse(indices_mask, indices_nonzero_data, lut, vector_axis=None):
    """The mask and the values of a palettized sparse tensor, both still sparse."""
    dense = _look_up(_scatter(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask = indices_mask
    if vector_axis is not None:
        mask = np.repeat(mask, lut.shape[-1], axis=int(vector_axis))
    return [mask, dense[mask != 0]]


def constexpr_sparse_blockwise_shift_scale(data_mask, nonzero_data, scale, offset=None):
    """The mask and the values of a quantized sparse tensor, both still sparse."""
    dense = constexpr_blockwise_shift_scale(_scatter(nonzero_data, data_mask), scale, offset)
    return [data_mask, dense[data_mask != 0]]


def _look_up(indices: np.ndarray, lut: np.ndarray, vector_axis: np.ndarray | None) -> np.ndarray:
    """Shapes: indices (*D), lut (*groups, palette, vector) -> (*D) with vector_axis times vector."""
    if lut.ndim != indices.ndim + 2 or (lut.shape[-1] > 1 and vector_axis is None):
        raise DamagedFileError(f"a palette of shape {lut.shape} for indices of shape {indices.shape}")
    groups = [_block_index(side, count) for side, count in zip(indices.shape, lut.shape[:-2], strict=True)]
    found = lut[(*np.ix_(*groups), indices)]  # (*D, vector)
    if lut.shape[-1] == 1:
        return found[..., 0]
    axis = int(vector_axis) % indices.ndim
    sides = [side * (lut.shape[-1] if a == axis else 1) for a, side in enumerate(indices.shape)]
    return np.moveaxis(found, -1, axis + 1).reshape(sides)


def _scatter(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if np.count_nonzero(mask) != values.size:
        raise DamagedFileError(f"{values.size} values for a mask of {np.count_nonzero(mask)}")
    dense = np.zeros(mask.shape, values.dtype)
    dense[mask != 0] = values
    return dense


def _along(values: np.ndarray, x: np.ndarray, axis: np.ndarray | None) -> np.ndarray:
    """A scalar as it is, a vector along an axis of x."""
    if np.ndim(values) == 0:
        return values
    if axis is None or values.shape != (x.shape[int(axis)],):
        raise DamagedFileError(f"{values.shape} scales or zero points along axis {axis} of {x.shape}")
    sides = [1] * x.ndim
    sides[int(axis)] = -1
    return values.reshape(sides)


def _spread(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Each value repeated over its block of a shape."""
    if values.ndim != len(shape):
        raise DamagedFileError(f"scales of shape {values.shape} for data of shape {shape}")
    return values[np.ix_(*(_block_index(side, count) for side, count in zip(shape, values.shape, strict=True)))]


def _block_index(side: int, count: int) -> np.ndarray:
    if count < 1 or side % count:
        raise DamagedFileError(f"{count} blocks in a side of {side}")
    return np.arange(side) // (side // count)


def _palette_bits(size: int) -> int:
    if size not in _BITS_OF_PALETTE:
        raise DamagedFileError(f"a palette of {size} values")
    return _BITS_OF_PALETTE[size]


def _volume(shape: np.ndarray) -> int:
    kernels.check_size(shape)
    return math.prod(int(side) for side in shape)

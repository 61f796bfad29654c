"""The arithmetic of convolutions, pools and resizing, in numpy. Both Core ML evaluators rest on it.

Layouts are Core ML's: maps (N, C, *spatial), convolution weights (O, C/groups, *kernel). Padding is given as one
(before, after) pair for each spatial axis.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product

import numpy as np

from mvit_deploy.errors import DamagedFileError

MAX_ELEMENTS = 2**28  # 1 GiB of float32: far beyond any phone's network, and what a damaged file may not exceed
MAX_BYTES = 4 * 4 * MAX_ELEMENTS  # of all tensors that are held at a time
MAX_TAPS = 2**18  # of a window: a mean over a map of 512x512 has as many
_BLOCK_BYTES = 1 << 20  # of one slice that a depthwise convolution works on, so that it stays in the processor's cache
Pairs = Sequence[tuple[int, int]]
MatMul = Callable[[np.ndarray, np.ndarray], np.ndarray]


def check_size(shape: Sequence[int]) -> None:
    """Raises: DamagedFileError for a shape with more elements than any network here could need."""
    if math.prod(max(1, int(side)) for side in shape) > MAX_ELEMENTS:
        raise DamagedFileError(f"a tensor of shape {tuple(int(s) for s in shape)} is implausibly large")


def check_total(tensors: Iterable[object]) -> None:
    """Raises: DamagedFileError for tensors that take more memory together than any network here could need."""
    total = sum(tensor.nbytes for tensor in tensors if isinstance(tensor, np.ndarray))
    if total > MAX_BYTES:
        raise DamagedFileError(f"with it {total} bytes of tensors are held at a time, which is implausible")


def pad(x: np.ndarray, pads: Pairs, *, mode: str = "constant", value: float = 0.0) -> np.ndarray:
    """Pad the last len(pads) axes. mode: constant, reflect (without the edge) or edge. Raises: DamagedFileError."""
    if not any(before or after for before, after in pads):
        return x
    if any(before < 0 or after < 0 for before, after in pads):
        raise DamagedFileError(f"negative padding {tuple(pads)}")
    full = [(0, 0)] * (x.ndim - len(pads)) + [(int(before), int(after)) for before, after in pads]
    check_size([side + before + after for side, (before, after) in zip(x.shape, full, strict=True)])
    return np.pad(x, full, mode=mode, **({"constant_values": value} if mode == "constant" else {}))


def same_padding(size: int, kernel: int, stride: int, dilation: int, *, lower: bool = False) -> tuple[int, int]:
    """Padding for which the output has ceil(size / stride) samples; an odd rest goes behind, with lower in front."""
    total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def output_size(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Samples of a window sliding over an already padded axis. Raises: DamagedFileError where it does not fit."""
    if min(size, kernel, stride, dilation) < 1:
        raise DamagedFileError(f"a window of {kernel} with stride {stride} and dilation {dilation} makes no sense")
    count = (size - (kernel - 1) * dilation - 1) // stride + 1
    if count < 1:
        raise DamagedFileError(f"a window of {kernel} (dilation {dilation}) does not fit into {size} samples")
    return count


def conv(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    strides: Sequence[int],
    pads: Pairs,
    dilations: Sequence[int],
    groups: int,
    matmul: MatMul = np.matmul,
) -> np.ndarray:
    """Cross-correlation, as every framework calls convolution.

    Shapes: x (N, C, *spatial), weight (O, C/groups, *kernel), bias (O,) -> (N, O, *spatial').
    Raises: DamagedFileError when they do not fit each other.
    """
    _check_conv(x, weight, groups)
    out_channels, per_group, *kernel = weight.shape
    padded = pad(x, pads)
    spatial = [output_size(*each) for each in zip(padded.shape[2:], kernel, strides, dilations, strict=True)]
    check_size((x.shape[0], out_channels, *spatial))
    if groups == x.shape[1] and per_group == 1 and matmul is np.matmul:
        result = _depthwise(padded, weight, spatial, strides, dilations)
    else:
        result = _grouped(padded, weight, spatial, strides, dilations, groups, matmul)
    return _add_bias(result, bias)


def _check_conv(x: np.ndarray, weight: np.ndarray, groups: int) -> None:
    fits = (
        x.ndim == weight.ndim
        and x.ndim >= 3
        and groups >= 1
        and weight.shape[0] % groups == 0
        and x.shape[1] == weight.shape[1] * groups
    )
    if not fits:
        raise DamagedFileError(f"a weight of shape {weight.shape} in {groups} groups does not fit input {x.shape}")


def _add_bias(result: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    if bias is None:
        return result
    if bias.shape != result.shape[1:2]:
        raise DamagedFileError(f"a bias of shape {bias.shape} for {result.shape[1]} channels")
    result += bias.reshape(-1, *[1] * (result.ndim - 2))
    return result


def _window(
    padded: np.ndarray, offset: Sequence[int], spatial: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> np.ndarray:
    """The samples that one tap of the kernel meets. Shapes: -> (N, C, *spatial), a view."""
    slices = [
        slice(o * d, o * d + (n - 1) * s + 1, s) for o, n, s, d in zip(offset, spatial, strides, dilations, strict=True)
    ]
    return padded[(slice(None), slice(None), *slices)]


def _offsets(kernel: Sequence[int]) -> Iterator[tuple[int, ...]]:
    if math.prod(kernel) > MAX_TAPS:
        raise DamagedFileError(f"a window of {tuple(kernel)} is implausibly large")
    return product(*(range(size) for size in kernel))


def _grouped(
    padded: np.ndarray,
    weight: np.ndarray,
    spatial: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
    matmul: MatMul,
) -> np.ndarray:
    """Columns of all taps, then one matrix product for each group."""
    batch, channels = padded.shape[:2]
    out_channels, per_group, *kernel = weight.shape
    taps = math.prod(kernel)
    check_size((batch, channels, taps, *spatial))
    columns = np.empty((batch, channels, taps, *spatial), dtype=padded.dtype)
    for tap, offset in enumerate(_offsets(kernel)):
        columns[:, :, tap] = _window(padded, offset, spatial, strides, dilations)
    columns = columns.reshape(batch, groups, per_group * taps, -1)
    rows = weight.reshape(groups, out_channels // groups, per_group * taps)
    return matmul(rows, columns).reshape(batch, out_channels, *spatial)


def _depthwise(
    padded: np.ndarray, weight: np.ndarray, spatial: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> np.ndarray:
    """One multiplication and addition for each tap, over blocks of channels that fit into the cache."""
    batch, channels = padded.shape[:2]
    multiplier = weight.shape[0] // channels
    result = np.zeros((batch, channels, multiplier, *spatial), dtype=padded.dtype)
    taps = weight.reshape(channels, multiplier, *weight.shape[2:])
    block = max(1, _BLOCK_BYTES // max(1, 4 * batch * multiplier * math.prod(spatial)))
    for start in range(0, channels, block):
        part = slice(start, start + block)
        source, target = padded[:, part], result[:, part]
        product_ = np.empty_like(target)
        for offset in _offsets(weight.shape[2:]):
            gain = taps[(part, slice(None), *offset)].reshape(-1, multiplier, *[1] * len(spatial))
            np.multiply(_window(source, offset, spatial, strides, dilations)[:, :, None], gain, out=product_)
            target += product_
    return result.reshape(batch, -1, *spatial)


def conv_transpose(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    strides: Sequence[int],
    pads: Pairs,
    dilations: Sequence[int],
    groups: int,
    output_spatial: Sequence[int] | None = None,
    matmul: MatMul = np.matmul,
) -> np.ndarray:
    """The adjoint of conv: each sample spreads over the window that it would have been made from.

    Shapes: x (N, C, *spatial), weight (C, O/groups, *kernel), bias (O,) -> (N, O, *spatial'), cropped by pads, extended
    with zeros behind where output_spatial asks for more.
    Raises: DamagedFileError when they do not fit each other.
    """
    batch, channels, *spatial = x.shape
    if x.ndim != weight.ndim or weight.shape[0] != channels or groups < 1 or channels % groups:
        raise DamagedFileError(f"a weight of shape {weight.shape} in {groups} groups does not fit input {x.shape}")
    kernel, per_group = weight.shape[2:], weight.shape[1]
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(spatial, strides, kernel, dilations, strict=True)]
    wanted = list(output_spatial or [f - before - after for f, (before, after) in zip(full, pads, strict=True)])
    canvas = [max(f, w + before) for f, w, (before, _) in zip(full, wanted, pads, strict=True)]
    if min(wanted, default=1) < 1:
        raise DamagedFileError(f"a transposed convolution with an output of {wanted}")
    check_size((batch, per_group * groups, *canvas))
    rows = weight.reshape(groups, channels // groups, -1).transpose(0, 2, 1)  # (groups, O/groups * taps, C/groups)
    spread = matmul(rows, x.reshape(batch, groups, channels // groups, -1))
    spread = spread.reshape(batch, groups * per_group, math.prod(kernel), *spatial)
    result = np.zeros((batch, groups * per_group, *canvas), dtype=x.dtype)
    for tap, offset in enumerate(_offsets(kernel)):
        _window(result, offset, spatial, strides, dilations)[...] += spread[:, :, tap]
    crop = tuple(slice(before, before + w) for (before, _), w in zip(pads, wanted, strict=True))
    return _add_bias(np.ascontiguousarray(result[(slice(None), slice(None), *crop)]), bias)


def max_pool(
    x: np.ndarray, *, kernel: Sequence[int], strides: Sequence[int], pads: Pairs, dilations: Sequence[int] | None = None
) -> np.ndarray:
    """The largest value of each window; padding never wins. Shapes: (N, C, *spatial) -> (N, C, *spatial')."""
    padded, spatial, dilations = _pool_geometry(x, kernel, strides, pads, dilations, fill=-np.inf)
    result = np.full((*x.shape[:2], *spatial), -np.inf, dtype=x.dtype)
    for offset in _offsets(kernel):
        np.maximum(result, _window(padded, offset, spatial, strides, dilations), out=result)
    return result


def average_pool(
    x: np.ndarray, *, kernel: Sequence[int], strides: Sequence[int], pads: Pairs, exclude_padding: bool
) -> np.ndarray:
    """The mean of each window, over the samples inside the map alone or with the padding's zeros.

    Shapes: (N, C, *spatial) -> (N, C, *spatial').
    """
    padded, spatial, dilations = _pool_geometry(x, kernel, strides, pads, None, fill=0.0)
    total = np.zeros((*x.shape[:2], *spatial), dtype=x.dtype)
    for offset in _offsets(kernel):
        total += _window(padded, offset, spatial, strides, dilations)
    if not exclude_padding:
        return total / np.float32(math.prod(kernel))
    inside, _, _ = _pool_geometry(np.ones((1, 1, *x.shape[2:]), x.dtype), kernel, strides, pads, None, fill=0.0)
    count = sum(_window(inside, offset, spatial, strides, dilations) for offset in _offsets(kernel))
    return total / count


def _pool_geometry(
    x: np.ndarray,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Pairs,
    dilations: Sequence[int] | None,
    fill: float,
) -> tuple[np.ndarray, list[int], Sequence[int]]:
    dilations = dilations or [1] * len(kernel)
    if not (x.ndim - 2 == len(kernel) == len(strides) == len(pads)):
        raise DamagedFileError(f"a pool of {len(kernel)} axes does not fit input {x.shape}")
    padded = pad(x, pads, value=fill)
    spatial = [output_size(*each) for each in zip(padded.shape[2:], kernel, strides, dilations, strict=True)]
    return padded, spatial, dilations


def interpolate(x: np.ndarray, axis: int, positions: np.ndarray) -> np.ndarray:
    """Linear interpolation along one axis at fractional positions; those outside take the edge's value.

    Shapes: (..., n, ...) -> (..., len(positions), ...). positions: in samples, 0 the first one's centre.
    """
    last = x.shape[axis] - 1
    check_size([*x.shape[:axis], len(positions), *x.shape[axis + 1 :]])
    where = np.clip(positions, 0, last)
    low = np.floor(where).astype(np.int64)
    high = np.minimum(low + 1, last)
    share = (where - low).astype(np.float32).reshape(-1, *[1] * (x.ndim - 1 - axis))
    lower, upper = np.take(x, low, axis=axis), np.take(x, high, axis=axis)
    return lower + (upper - lower) * share


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """exp(x - max) over its sum along an axis."""
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    powers /= powers.sum(axis=axis, keepdims=True)
    return powers


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, np.float32(1), small) / (1 + small)


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x)."""
    with np.errstate(over="ignore"):  # exp(-x) may be infinite: the quotient is then the right -0
        result = np.negative(x, out=np.empty_like(x))  # an array, also where x has no axes
        np.exp(result, out=result)
        result += 1
        return np.divide(x, result, out=result)


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, in float32 with an error of one or two units in the last place."""
    flat = x.astype(np.float64).ravel()
    return np.fromiter(map(math.erf, flat), np.float64, flat.size).reshape(x.shape).astype(np.float32)

"""Layers of the classic format on maps: convolution, pooling and resizing. Source: NeuralNetwork.proto.

Each function takes the Layer and its input and returns the output. Maps are (..., C, H, W): "the leading dimensions,
starting from 0 to -4 (inclusive), are all treated as batch".
"""

from collections.abc import Callable

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml import kernels
from mvit_deploy.runtimes.coreml.errors import UnknownFormError
from mvit_deploy.runtimes.coreml.kernels import check_size
from mvit_deploy.runtimes.coreml.network_shapes import borders
from mvit_deploy.runtimes.coreml.network_weights import Layer, need_rank, pair

_EXCESS = 1e-3  # coremltools stores (wanted + 1e-4) / have as the factor, so that rounding down gives what is wanted
Pads = list[tuple[int, int]]


def convolution(layer: Layer, x: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """ConvolutionLayerParams. Shapes: (..., C, H, W) -> (..., outputChannels, H', W')."""
    need_rank(x, 4)
    if weights is not None:
        raise UnknownFormError("weights as an input")
    maps = x.reshape(-1, *x.shape[-3:])
    result = _deconvolve(layer, maps) if layer.params.isDeconvolution else _convolve(layer, maps)
    return result.reshape(*x.shape[:-3], *result.shape[1:])


def _convolve(layer: Layer, x: np.ndarray) -> np.ndarray:
    p = layer.params
    kernel, strides, dilations = pair(p.kernelSize, 3), pair(p.stride, 1), pair(p.dilationFactor, 1)
    effective = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = _window_pads(layer, "ConvolutionPaddingType", x, effective, strides)
    weight = layer.weight("weights", (p.outputChannels, p.kernelChannels, *kernel))
    groups = p.nGroups or 1
    return kernels.conv(x, weight, _bias(layer), strides=strides, pads=pads, dilations=dilations, groups=groups)


def _window_pads(layer: Layer, oneof: str, x: np.ndarray, kernel: list[int], strides: tuple[int, int]) -> Pads:
    """ValidPadding or SamePadding of a sliding window. kernel: with dilation."""
    kind = layer.params.WhichOneof(oneof)
    if kind == "valid":
        return _valid_pads(layer)
    if kind != "same":
        raise UnknownFormError(f"padding type {kind}")
    if min(strides) < 1:
        raise DamagedFileError(f"stride {strides}")
    lower = layer.mode("asymmetryMode", layer.params.same) == "TOP_LEFT_HEAVY"
    sizes = zip(x.shape[-2:], kernel, strides, strict=True)
    return [kernels.same_padding(size, k, stride, 1, lower=lower) for size, k, stride in sizes]


def _valid_pads(layer: Layer) -> Pads:
    amounts = layer.params.valid.paddingAmounts
    return borders(amounts) if amounts.borderAmounts else [(0, 0), (0, 0)]


def _bias(layer: Layer) -> np.ndarray | None:
    return layer.weight("bias", (layer.params.outputChannels,)) if layer.params.hasBias else None


def _deconvolve(layer: Layer, x: np.ndarray) -> np.ndarray:
    """The transposed convolution; dilationFactor "is ignored if isDeconvolution == true"."""
    p, groups = layer.params, layer.params.nGroups or 1
    kernel, strides = pair(p.kernelSize, 3), pair(p.stride, 1)
    if groups > 1 and len(p.weights.quantization.linearQuantization.scale) > 1:
        raise UnknownFormError("grouped weights with a scale for each channel")
    weight = layer.weight("weights", (p.kernelChannels, p.outputChannels // groups, *kernel), channel_axis=1)
    full = [(side - 1) * stride + k for side, stride, k in zip(x.shape[-2:], strides, kernel, strict=True)]
    pads = _deconvolution_pads(layer, full, [side * stride for side, stride in zip(x.shape[-2:], strides, strict=True)])
    return kernels.conv_transpose(x, weight, _bias(layer), strides=strides, pads=pads, dilations=(1, 1), groups=groups)


def _deconvolution_pads(layer: Layer, full: list[int], same: list[int]) -> Pads:
    """What to crop from the full result. An asked shape only says how much, so that it has to be even."""
    p, kind = layer.params, layer.params.WhichOneof("ConvolutionPaddingType")
    explicit = _valid_pads(layer) if kind == "valid" else None
    if not p.outputShape and explicit is not None:
        return explicit
    if not p.outputShape and kind is None:
        raise UnknownFormError("isDeconvolution and no padding type")
    wanted = pair(p.outputShape, 1) if p.outputShape else same
    crops = [have - want for have, want in zip(full, wanted, strict=True)]
    pads = [(crop // 2, crop // 2) for crop in crops]
    contradicted = explicit is not None and any(map(any, explicit)) and explicit != pads
    if contradicted or any(crop < 0 or crop % 2 for crop in crops):
        raise UnknownFormError(f"isDeconvolution, {kind} padding and an output of {wanted} out of {full}")
    return pads


def pooling(layer: Layer, x: np.ndarray) -> np.ndarray:
    """PoolingLayerParams: the largest or the mean value of windows, or of the whole map."""
    need_rank(x, 4)
    p, mode = layer.params, layer.mode("type")
    if mode not in ("MAX", "AVERAGE"):
        raise UnknownFormError(f"type {mode}")
    if p.globalPooling:
        return _pool_globally(layer, x, mode)
    kernel, strides = pair(p.kernelSize, 3), pair(p.stride, 1)
    maps = x.reshape(-1, *x.shape[-3:])
    pads = _pool_pads(layer, maps, kernel, strides, mode)
    if mode == "MAX":
        result = kernels.max_pool(maps, kernel=kernel, strides=strides, pads=pads)
    else:
        exclude = p.avgPoolExcludePadding
        result = kernels.average_pool(maps, kernel=kernel, strides=strides, pads=pads, exclude_padding=exclude)
    return result.reshape(*x.shape[:-3], *result.shape[1:])


def _pool_globally(layer: Layer, x: np.ndarray, mode: str) -> np.ndarray:
    if layer.params.WhichOneof("PoolingPaddingType") == "valid" and any(map(any, _valid_pads(layer))):
        raise UnknownFormError("globalPooling and padding")
    return (x.max if mode == "MAX" else x.mean)(axis=(-2, -1), keepdims=True)


def _pool_pads(layer: Layer, x: np.ndarray, kernel: tuple[int, int], strides: tuple[int, int], mode: str) -> Pads:
    p = layer.params
    if p.WhichOneof("PoolingPaddingType") != "includeLastPixel":
        return _window_pads(layer, "PoolingPaddingType", x, list(kernel), strides)
    amounts = pair(p.includeLastPixel.paddingAmounts, 0)
    sizes = zip(x.shape[-2:], kernel, strides, amounts, strict=True)
    pads = [(amount, _pad_behind(*size, padded=any(amounts))) for amount, size in zip(amounts, sizes, strict=True)]
    # Whether the samples beyond the asked padding count in the mean is not said.
    overhang = any(after > before for before, after in pads)
    if mode == "AVERAGE" and overhang and not p.avgPoolExcludePadding:
        raise UnknownFormError("includeLastPixel and an average that counts padding")
    return pads


def _pad_behind(size: int, kernel: int, stride: int, amount: int, *, padded: bool) -> int:
    """ValidCompletePadding: as many samples behind as the last window reaches over the map."""
    if stride < 1:
        raise DamagedFileError(f"stride {stride}")
    windows = -(-(size + 2 * amount - kernel) // stride) + 1
    starts_behind = (windows - 1) * stride >= size + amount
    if padded and starts_behind:
        windows -= 1
    elif starts_behind:
        raise UnknownFormError("includeLastPixel and a window that lies behind the map")
    return max(0, (windows - 1) * stride + kernel - size - amount)


def upsample(layer: Layer, x: np.ndarray) -> np.ndarray:
    """UpsampleLayerParams: height and width times a factor, which may be fractional for bilinear."""
    need_rank(x, 3)
    p, mode = layer.params, layer.mode("mode")
    if p.fractionalScalingFactor and (p.scalingFactor or mode != "BILINEAR"):
        raise UnknownFormError(f"fractionalScalingFactor with mode {mode}")
    factors = p.fractionalScalingFactor or pair(p.scalingFactor, 1)
    sizes = [_whole(side, factor) for side, factor in zip(x.shape[-2:], factors, strict=True)]
    check_size([*x.shape[:-2], *sizes])
    if mode == "NN":
        return x.repeat(sizes[0] // x.shape[-2], axis=-2).repeat(sizes[1] // x.shape[-1], axis=-1)
    grid = _UPSAMPLE_GRIDS[layer.mode("linearUpsampleMode")]
    return _resize(x, [grid(side, size) for side, size in zip(x.shape[-2:], sizes, strict=True)])


def _whole(side: int, factor: float) -> int:
    """The side times the factor. How a fraction would be rounded is not said."""
    size = float(np.float32(side) * np.float32(factor))
    if not (0.5 < size < 2**31 and -1e-6 * size <= size - round(size) <= _EXCESS):
        raise UnknownFormError(f"a side of {size:.6g} samples")
    return round(size)


def _resize(x: np.ndarray, grids: list[np.ndarray]) -> np.ndarray:
    rows = kernels.interpolate(x, x.ndim - 2, grids[0])
    return kernels.interpolate(rows, x.ndim - 1, grids[1])


# Positions in the source, by the number of samples there and the number wanted. Those outside are clipped by _resize.
# Source: coremltools' NeuralNetworkBuilder.add_upsample; SamplingMode in NeuralNetwork.proto.
_UPSAMPLE_GRIDS: dict[str, Callable[[int, int], np.ndarray]] = {
    "DEFAULT": lambda have, want: np.linspace(0, have - have / want, want),
    "ALIGN_CORNERS_TRUE": lambda have, want: np.linspace(0, have - 1, want),
    "ALIGN_CORNERS_FALSE": lambda have, want: (np.arange(want) + 0.5) * (have / want) - 0.5,
}
_SAMPLING_GRIDS: dict[str, Callable[[int, int], np.ndarray]] = {
    "STRICT_ALIGN_ENDPOINTS_MODE": lambda have, want: np.linspace(0, have - 1, want),
    "ALIGN_ENDPOINTS_MODE": lambda have, want: (
        np.linspace(0, have - 1, want) if want > 1 else np.array([(have - 1) / 2])
    ),
    "UPSAMPLE_MODE": lambda have, want: np.linspace(0, have - have / want, want),
    "ROI_ALIGN_MODE": lambda have, want: (np.arange(want) + 0.5) * (max(1, have - 1) / want),
}


def resize_bilinear(layer: Layer, x: np.ndarray) -> np.ndarray:
    """ResizeBilinearLayerParams: to targetSize, sampled as the mode says."""
    need_rank(x, 3)
    sizes = pair(layer.params.targetSize, 1)
    if min(sizes) < 1:
        raise DamagedFileError(f"targetSize {sizes}")
    check_size([*x.shape[:-2], *sizes])
    grid = _SAMPLING_GRIDS[layer.mode("samplingMethod", layer.params.mode)]
    return _resize(x, [grid(side, size) for side, size in zip(x.shape[-2:], sizes, strict=True)])


WINDOWS: dict[str, Callable[..., np.ndarray]] = {
    "convolution": convolution,
    "pooling": pooling,
    "upsample": upsample,
    "resizeBilinear": resize_bilinear,
}

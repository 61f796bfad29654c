"""Every layer of the classic format that the evaluator knows, and here those that mix elements: products,
normalizations, constants. Source: NeuralNetwork.proto.

Each function takes the Layer and its inputs and returns the output, all float32.
"""

from collections.abc import Callable

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml.errors import UnknownFormError
from mvit_deploy.runtimes.coreml.kernels import check_size, softmax
from mvit_deploy.runtimes.coreml.network_elementwise import ELEMENTWISE
from mvit_deploy.runtimes.coreml.network_reductions import REDUCING
from mvit_deploy.runtimes.coreml.network_shapes import SHAPES
from mvit_deploy.runtimes.coreml.network_weights import Layer, need_rank
from mvit_deploy.runtimes.coreml.network_windows import WINDOWS


def inner_product(layer: Layer, x: np.ndarray) -> np.ndarray:
    """InnerProductLayerParams. Shapes: (..., C_in) -> (..., C_out) up to rank 3, and for ranks 4 and 5
    (..., c, h, w) with c*h*w = C_in -> (..., C_out, 1, 1)."""
    p = layer.params
    _refuse_int8(layer)
    if x.ndim > 5:
        raise DamagedFileError(f"an input of shape {x.shape}")
    rows = x if x.ndim <= 3 else x.reshape(*x.shape[:-3], -1)
    result = np.matmul(rows, layer.weight("weights", (p.outputChannels, p.inputChannels)).T)
    result = result + layer.weight("bias", (p.outputChannels,)) if p.hasBias else result
    return result if x.ndim <= 3 else result[..., None, None]


def batched_matmul(layer: Layer, a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """BatchedMatMulLayerParams: of two inputs, or of one and a matrix (X1, X2) "stored in column major order"."""
    p = layer.params
    _refuse_int8(layer)
    if b is not None:
        return _matmul_inputs(layer, a, b)
    stored = layer.weight("weights", (p.weightMatrixSecondDimension, p.weightMatrixFirstDimension))
    result = np.matmul(a, stored.T)
    return result + layer.weight("bias", (p.weightMatrixSecondDimension,)) if p.hasBias else result


def _matmul_inputs(layer: Layer, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    p = layer.params
    if (p.transposeA and a.ndim == 1) or (p.transposeB and b.ndim == 1):
        raise UnknownFormError("a transposed vector")
    a = a[None, :] if a.ndim == 1 else a
    b = b[:, None] if b.ndim == 1 else b
    a = a.swapaxes(-2, -1) if p.transposeA else a
    b = b.swapaxes(-2, -1) if p.transposeB else b
    check_size([*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]])
    return np.matmul(a, b)


def _refuse_int8(layer: Layer) -> None:
    if layer.params.int8DynamicQuantize:
        raise UnknownFormError("int8DynamicQuantize")


def batchnorm(layer: Layer, x: np.ndarray) -> np.ndarray:
    """BatchnormLayerParams: along the channels, with stored statistics, or those of each map or of the batch."""
    need_rank(x, 3)
    p = layer.params
    shape = (p.channels, 1, 1)
    if x.shape[-3] != p.channels:
        raise DamagedFileError(f"{p.channels} channels, but an input of shape {x.shape}")
    if p.computeMeanVar:
        maps = (-2, -1) if p.instanceNormalization else tuple(axis for axis in range(x.ndim) if axis != x.ndim - 3)
        mean, variance = x.mean(axis=maps, keepdims=True), x.var(axis=maps, keepdims=True)
    else:
        mean, variance = layer.weight("mean", shape), layer.weight("variance", shape)
    centred = (x - mean) / np.sqrt(variance + np.float32(p.epsilon or 1e-5))
    return layer.weight("gamma", shape) * centred + layer.weight("beta", shape)


def mvn(layer: Layer, x: np.ndarray) -> np.ndarray:
    """MeanVarianceNormalizeLayerParams: over height and width, or over the channels too."""
    need_rank(x, 3)
    p = layer.params
    axes = (-3, -2, -1) if p.acrossChannels else (-2, -1)
    if p.normalizeVariance:
        return _normalize(x, axes, p.epsilon or 1e-6)
    return x - x.mean(axis=axes, keepdims=True)


def layer_normalization(layer: Layer, x: np.ndarray) -> np.ndarray:
    """LayerNormalizationLayerParams: over the last axes, whose sizes are normalizedShape."""
    p, shape = layer.params, tuple(layer.params.normalizedShape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise DamagedFileError(f"normalizedShape {shape} for an input of shape {x.shape}")
    result = _normalize(x, tuple(range(-len(shape), 0)), p.eps)
    return result * layer.weight("gamma", shape) + layer.weight("beta", shape)


def _normalize(x: np.ndarray, axes: tuple[int, ...], epsilon: float) -> np.ndarray:
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = np.square(centred).mean(axis=axes, keepdims=True)
    return centred / np.sqrt(variance + np.float32(epsilon))


def l2_normalize(layer: Layer, x: np.ndarray) -> np.ndarray:
    """L2NormalizeLayerParams: x / sqrt(sum(x^2) + epsilon) over the last three axes."""
    need_rank(x, 3)
    return x / np.sqrt(np.square(x).sum(axis=(-3, -2, -1), keepdims=True) + np.float32(layer.params.epsilon or 1e-6))


def scale(layer: Layer, x: np.ndarray) -> np.ndarray:
    """ScaleLayerParams: times a scale, plus a bias, each of shape [1], [C], [1, H, W] or [C, H, W]."""
    p = layer.params
    result = x * _over_map(layer, "scale", p.shapeScale, x)
    return result + _over_map(layer, "bias", p.shapeBias, x) if p.hasBias else result


def bias_(layer: Layer, x: np.ndarray) -> np.ndarray:
    """BiasLayerParams: plus a bias, of a shape as in scale."""
    return x + _over_map(layer, "bias", layer.params.shape, x)


def _over_map(layer: Layer, name: str, shape: object, x: np.ndarray) -> np.ndarray:
    need_rank(x, 3)
    channels, *spatial = x.shape[-3:]
    full = (*shape, 1, 1) if len(shape) == 1 else tuple(shape)
    if full not in {(1, 1, 1), (channels, 1, 1), (1, *spatial), (channels, *spatial)}:
        raise DamagedFileError(f"a {name} of shape {list(shape)} for an input of shape {x.shape}")
    return layer.weight(name, full)


def softmax_channels(_: Layer, x: np.ndarray) -> np.ndarray:
    """SoftmaxLayerParams: along the channels."""
    need_rank(x, 3)
    return softmax(x, -3)


def softmax_nd(layer: Layer, x: np.ndarray) -> np.ndarray:
    """SoftmaxNDLayerParams."""
    return softmax(x, layer.params.axis)


def load_constant(layer: Layer) -> np.ndarray:
    """LoadConstantLayerParams. Shapes: [C, H, W] -> (1, 1, C, H, W)."""
    if len(layer.params.shape) != 3:
        raise DamagedFileError(f"a constant of shape {list(layer.params.shape)}")
    return layer.weight("data", (1, 1, *layer.params.shape))


def load_constant_nd(layer: Layer) -> np.ndarray:
    """LoadConstantNDLayerParams."""
    if not layer.params.shape:
        raise DamagedFileError("a constant without a shape")
    return layer.weight("data", tuple(layer.params.shape))


LAYERS: dict[str, Callable[..., np.ndarray | tuple[np.ndarray, ...]]] = {
    **ELEMENTWISE,
    **SHAPES,
    **REDUCING,
    **WINDOWS,
    "innerProduct": inner_product,
    "batchedMatmul": batched_matmul,
    "batchnorm": batchnorm,
    "mvn": mvn,
    "layerNormalization": layer_normalization,
    "l2normalize": l2_normalize,
    "scale": scale,
    "bias": bias_,
    "softmax": softmax_channels,
    "softmaxND": softmax_nd,
    "loadConstant": load_constant,
    "loadConstantND": load_constant_nd,
}

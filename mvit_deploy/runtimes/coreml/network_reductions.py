"""Layers of the classic format that reduce axes or search along them. Source: NeuralNetwork.proto.

Each function takes the Layer and its inputs and returns the output, or a tuple of outputs.
"""

from collections.abc import Callable

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml.errors import UnknownFormError
from mvit_deploy.runtimes.coreml.network_weights import Layer, need_rank

_REDUCE_AXES = {"CHW": (-3, -2, -1), "HW": (-2, -1), "C": (-3,), "H": (-2,), "W": (-1,)}
Function = Callable[..., np.ndarray | tuple[np.ndarray, ...]]


def arg_max(layer: Layer, x: np.ndarray) -> np.ndarray:
    """ArgMaxLayerParams."""
    return _arg(np.argmax, layer, x)


def arg_min(layer: Layer, x: np.ndarray) -> np.ndarray:
    """ArgMinLayerParams."""
    return _arg(np.argmin, layer, x)


def _arg(function: Callable[..., np.ndarray], layer: Layer, x: np.ndarray) -> np.ndarray:
    keep = not layer.params.removeDim or x.ndim == 1
    return function(x, axis=layer.params.axis, keepdims=keep)


def top_k(layer: Layer, x: np.ndarray, number: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """TopKLayerParams: the K largest (or smallest) values, the most extreme first, and their indices."""
    p = layer.params
    k = p.K if number is None else int(number.item())
    if not 1 <= k <= x.shape[p.axis]:
        raise DamagedFileError(f"the top {k} of an input of shape {x.shape}, axis {p.axis}")
    order = np.argsort(x if p.useBottomK else -x, axis=p.axis, kind="stable")
    indices = np.take(order, range(k), axis=p.axis)
    return np.take_along_axis(x, indices, axis=p.axis), indices


def reduce_(layer: Layer, x: np.ndarray) -> np.ndarray:
    """ReduceLayerParams: over some of the last three axes, which stay with a length of 1."""
    axes, mode = _REDUCE_AXES[layer.mode("axis")], layer.mode("mode")
    need_rank(x, -min(axes))
    if mode == "ARGMAX":
        if len(axes) > 1:
            raise DamagedFileError("ARGMAX over more than one axis")
        return x.argmax(axis=axes[0], keepdims=True)
    if mode == "LOGSUM":
        return np.log(x + np.float32(layer.params.epsilon or 1e-6)).sum(axis=axes, keepdims=True)
    return REDUCTIONS[mode](x, axes, True)


def _reduce_over(function: Callable[[np.ndarray, tuple[int, ...] | None, bool], np.ndarray]) -> Function:
    """The layers reduceSum, ...: over `axes`, or over all; what would have no axis left has the shape (1,)."""

    def layer_function(layer: Layer, x: np.ndarray) -> np.ndarray:
        p = layer.params
        if not p.axes and not p.reduceAll:
            raise UnknownFormError("no axes")
        axes = tuple(range(x.ndim)) if p.reduceAll else tuple(p.axes)
        result = function(x, axes, p.keepDims)
        return result.reshape(result.shape or (1,))

    return layer_function


def _log_sum_exp(x: np.ndarray, axes: tuple[int, ...], keep: bool) -> np.ndarray:
    largest = x.max(axis=axes, keepdims=True)
    result = np.log(np.exp(x - largest).sum(axis=axes, keepdims=True)) + largest
    return result if keep else result.squeeze(axis=axes)


REDUCTIONS: dict[str, Callable[[np.ndarray, tuple[int, ...], bool], np.ndarray]] = {
    "SUM": lambda x, axes, keep: x.sum(axis=axes, keepdims=keep),
    "AVG": lambda x, axes, keep: x.mean(axis=axes, keepdims=keep),
    "PROD": lambda x, axes, keep: x.prod(axis=axes, keepdims=keep),
    "SUMSQUARE": lambda x, axes, keep: np.square(x).sum(axis=axes, keepdims=keep),
    "L1": lambda x, axes, keep: np.abs(x).sum(axis=axes, keepdims=keep),
    "L2": lambda x, axes, keep: np.sqrt(np.square(x).sum(axis=axes, keepdims=keep)),
    "MAX": lambda x, axes, keep: x.max(axis=axes, keepdims=keep),
    "MIN": lambda x, axes, keep: x.min(axis=axes, keepdims=keep),
}

REDUCING: dict[str, Function] = {
    "argMax": arg_max,
    "argMin": arg_min,
    "topK": top_k,
    "reduce": reduce_,
    "reduceSum": _reduce_over(REDUCTIONS["SUM"]),
    "reduceMean": _reduce_over(REDUCTIONS["AVG"]),
    "reduceProd": _reduce_over(REDUCTIONS["PROD"]),
    "reduceSumSquare": _reduce_over(REDUCTIONS["SUMSQUARE"]),
    "reduceL1": _reduce_over(REDUCTIONS["L1"]),
    "reduceL2": _reduce_over(REDUCTIONS["L2"]),
    "reduceMax": _reduce_over(REDUCTIONS["MAX"]),
    "reduceMin": _reduce_over(REDUCTIONS["MIN"]),
    "reduceLogSum": _reduce_over(lambda x, axes, keep: np.log(x.sum(axis=axes, keepdims=keep))),
    "reduceLogSumExp": _reduce_over(_log_sum_exp),
}

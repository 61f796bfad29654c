"""Reductions of MIL. axes None means all; the default keeps no axis. Source: coremltools' reduction.py."""

import numpy as np

from mvit_deploy.runtimes.coreml.arithmetic import Arithmetic
from mvit_deploy.runtimes.coreml.errors import UnknownFormError


def _axes(x: np.ndarray, axes: np.ndarray | None) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axes is None else tuple(int(axis) for axis in axes)


def _fraction(x: np.ndarray) -> None:
    """Refuse integers where the result, declared an integer too, is a fraction: how it is rounded is not documented."""
    if x.dtype.kind != "f":
        raise UnknownFormError("a mean, norm or logarithm of integers")


def reduce_sum(x, axes=None, keep_dims=False, *, math: Arithmetic):
    return math.sum(x, _axes(x, axes), keep_dims=bool(keep_dims))


def reduce_mean(x, axes=None, keep_dims=False, *, math: Arithmetic):
    _fraction(x)
    return math.mean(x, _axes(x, axes), keep_dims=bool(keep_dims))


def reduce_sum_square(x, axes=None, keep_dims=False, *, math: Arithmetic):
    return math.sum(math.step(x * x), _axes(x, axes), keep_dims=bool(keep_dims))


def reduce_l1_norm(x, axes=None, keep_dims=False, *, math: Arithmetic):
    return math.sum(np.abs(x), _axes(x, axes), keep_dims=bool(keep_dims))


def reduce_l2_norm(x, axes=None, keep_dims=False, *, math: Arithmetic):
    _fraction(x)
    return np.sqrt(math.sum(math.step(x * x), _axes(x, axes), keep_dims=bool(keep_dims)))


def reduce_log_sum(x, axes=None, keep_dims=False, *, math: Arithmetic):
    _fraction(x)
    return np.log(math.sum(x, _axes(x, axes), keep_dims=bool(keep_dims)))


def reduce_log_sum_exp(x, axes=None, keep_dims=False, *, math: Arithmetic):
    _fraction(x)
    axes = _axes(x, axes)
    largest = x.max(axis=axes, keepdims=True)
    total = math.sum(math.step(np.exp(x - largest)), axes, keep_dims=True)
    result = np.log(total) + largest
    return result if keep_dims else np.squeeze(result, axis=axes)


def reduce_max(x, axes=None, keep_dims=False):
    return x.max(axis=_axes(x, axes), keepdims=bool(keep_dims))


def reduce_min(x, axes=None, keep_dims=False):
    return x.min(axis=_axes(x, axes), keepdims=bool(keep_dims))


def reduce_prod(x, axes=None, keep_dims=False):
    return x.prod(axis=_axes(x, axes), keepdims=bool(keep_dims), dtype=x.dtype)


def reduce_argmax(x, axis=-1, keep_dims=False, output_dtype="int32"):
    """The first index of the largest value."""
    return x.argmax(axis=int(axis), keepdims=bool(keep_dims)).astype(output_dtype)


def reduce_argmin(x, axis=-1, keep_dims=False, output_dtype="int32"):
    """The first index of the smallest value."""
    return x.argmin(axis=int(axis), keepdims=bool(keep_dims)).astype(output_dtype)

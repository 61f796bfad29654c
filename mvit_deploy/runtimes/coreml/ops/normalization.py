"""Normalizations of MIL. Source: coremltools' normalization.py."""

import numpy as np

from mvit_deploy.runtimes.coreml.arithmetic import Arithmetic
from mvit_deploy.runtimes.coreml.errors import UnknownFormError


def layer_norm(x, axes=None, gamma=None, beta=None, epsilon=np.float32(1e-5), *, math: Arithmetic):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, mean and variance over axes."""
    axes = tuple(range(x.ndim)) if axes is None else tuple(int(axis) % x.ndim for axis in axes)
    shape = [side if axis in axes else 1 for axis, side in enumerate(x.shape)]
    return _affine(_standardised(x, axes, epsilon, math), gamma, beta, shape, math)


def instance_norm(x, gamma=None, beta=None, epsilon=np.float32(1e-5), *, math: Arithmetic):
    """Each channel of each image by its own mean and variance. Shapes: x (N, C, *spatial), gamma, beta (C,)."""
    shape = [1, x.shape[1], *[1] * (x.ndim - 2)]
    return _affine(_standardised(x, tuple(range(2, x.ndim)), epsilon, math), gamma, beta, shape, math)


def batch_norm(x, mean, variance, gamma=None, beta=None, epsilon=np.float32(1e-5), *, math: Arithmetic):
    """Each channel by the mean and variance given. Shapes: x (N, C, *spatial), all others (C,)."""
    shape = [1, x.shape[1], *[1] * (x.ndim - 2)]
    deviation = math.step(np.sqrt(math.step(variance.reshape(shape) + epsilon)))
    return _affine(math.step(x - mean.reshape(shape)) / deviation, gamma, beta, shape, math)


def l2_norm(x, epsilon=np.float32(1e-6), *, math: Arithmetic):
    """x / sqrt(sum of squares + epsilon), the sum over the last three axes."""
    return x / math.step(np.sqrt(math.sum(math.step(x * x), (-3, -2, -1)) + epsilon))


def local_response_norm(x, size, alpha=np.float32(1e-4), beta=np.float32(0.75), k=np.float32(1.0)):
    """x / (k + alpha / size * sum of squares of the size channels around) ** beta. Shapes: x (N, C, *spatial)."""
    size = int(size)
    if size % 2 == 0:
        raise UnknownFormError(f"local_response_norm over {size} channels: which side has one more is not documented")
    reach = min(size // 2, x.shape[1] - 1)  # beyond lie zeros alone
    squares = np.pad(x * x, [(0, 0), (reach, reach), *[(0, 0)] * (x.ndim - 2)])
    total = sum(squares[:, offset : offset + x.shape[1]] for offset in range(2 * reach + 1))
    return x / (k + alpha / np.float32(size) * total) ** beta


def _standardised(x: np.ndarray, axes: tuple[int, ...], epsilon: np.ndarray, math: Arithmetic) -> np.ndarray:
    centred = math.step(x - math.mean(x, axes))
    variance = math.mean(math.step(centred * centred), axes)
    return math.step(centred / math.step(np.sqrt(math.step(variance + epsilon))))


def _affine(
    x: np.ndarray, gamma: np.ndarray | None, beta: np.ndarray | None, shape: list[int], math: Arithmetic
) -> np.ndarray:
    if gamma is not None:
        x = math.step(x * gamma.reshape(shape))
    return x if beta is None else x + beta.reshape(shape)

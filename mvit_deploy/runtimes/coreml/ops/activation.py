"""Activations of MIL. Parameters and formulas: coremltools' activation.py."""

import math

import numpy as np

from mvit_deploy.runtimes.coreml import kernels
from mvit_deploy.runtimes.coreml.arithmetic import Arithmetic
from mvit_deploy.runtimes.coreml.errors import UnknownFormError


def relu(x):
    return np.maximum(x, np.float32(0))


def relu6(x):
    return np.clip(x, np.float32(0), np.float32(6))


def clamped_relu(x, alpha, beta):
    return np.minimum(beta, np.where(x >= 0, x, alpha * x))


def leaky_relu(x, alpha):
    return np.where(x >= 0, x, alpha * x)


def prelu(x, alpha):
    return np.where(x > 0, x, _per_channel(alpha, x) * x)


def thresholded_relu(x, alpha):
    return np.where(x >= alpha, x, np.float32(0))


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def linear_activation(x, alpha, beta):
    return x * alpha + beta


def sigmoid(x):
    return kernels.sigmoid(x)


def sigmoid_hard(x, alpha, beta):
    return np.clip(alpha * x + beta, np.float32(0), np.float32(1))


def silu(x):
    return kernels.silu(x)


def scaled_tanh(x, alpha, beta):
    return alpha * np.tanh(beta * x)


def softplus(x):
    return np.logaddexp(x, np.float32(0))


def softplus_parametric(x, alpha, beta):
    return _per_channel(alpha, x) * np.logaddexp(_per_channel(beta, x) * x, np.float32(0))


def softsign(x):
    return x / (1 + np.abs(x))


def gelu(x, mode="EXACT"):
    if mode == "EXACT":
        return 0.5 * x * (1 + kernels.erf(x * np.float32(1 / math.sqrt(2))))
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)))
    if mode == "SIGMOID_APPROXIMATION":
        return x * kernels.sigmoid(np.float32(1.702) * x)
    raise UnknownFormError(f"gelu with mode {mode!r}")


def softmax(x, axis=-1, *, math: Arithmetic):
    powers = math.step(np.exp(math.step(x - x.max(axis=int(axis), keepdims=True))))
    return powers / math.sum(powers, (int(axis),))


def _per_channel(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """One value for each channel of x (B, C, ...)."""
    return np.reshape(values, (-1, *[1] * (x.ndim - 2)))

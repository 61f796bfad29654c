"""Operations of MIL that act on each element. Source: coremltools' elementwise_unary.py, elementwise_binary.py."""

import numpy as np

from mvit_deploy.runtimes.coreml import kernels
from mvit_deploy.runtimes.coreml.errors import UnknownFormError


def _broadcast(*arrays: np.ndarray) -> None:
    """Refuse operands whose common shape would be absurd. Raises: ValueError where there is none."""
    kernels.check_size(np.broadcast_shapes(*(np.shape(array) for array in arrays)))


def add(x, y):
    _broadcast(x, y)
    return x + y


def sub(x, y):
    _broadcast(x, y)
    return x - y


def mul(x, y):
    _broadcast(x, y)
    return x * y


def real_div(x, y):
    _broadcast(x, y)
    if np.asarray(x).dtype.kind != "f":
        raise UnknownFormError("real_div of integers")
    return x / y


def floor_div(x, y):
    _broadcast(x, y)
    return np.floor_divide(x, y)


def mod(x, y):
    _broadcast(x, y)
    return np.mod(x, y)


def pow(x, y):
    _broadcast(x, y)
    return np.power(x, y)


def maximum(x, y):
    _broadcast(x, y)
    return np.maximum(x, y)


def minimum(x, y):
    _broadcast(x, y)
    return np.minimum(x, y)


def equal(x, y):
    _broadcast(x, y)
    return x == y


def not_equal(x, y):
    _broadcast(x, y)
    return x != y


def greater(x, y):
    _broadcast(x, y)
    return x > y


def greater_equal(x, y):
    _broadcast(x, y)
    return x >= y


def less(x, y):
    _broadcast(x, y)
    return x < y


def less_equal(x, y):
    _broadcast(x, y)
    return x <= y


def logical_and(x, y):
    _broadcast(x, y)
    return np.logical_and(x, y)


def logical_or(x, y):
    _broadcast(x, y)
    return np.logical_or(x, y)


def logical_xor(x, y):
    _broadcast(x, y)
    return np.logical_xor(x, y)


def logical_not(x):
    return np.logical_not(x)


def select(cond, a, b):
    _broadcast(cond, a, b)
    return np.where(cond, a, b)


def identity(x):
    return x


def abs(x):
    return np.abs(x)


def acos(x):
    return np.arccos(x)


def asin(x):
    return np.arcsin(x)


def atan(x):
    return np.arctan(x)


def atanh(x):
    return np.arctanh(x)


def ceil(x):
    return np.ceil(x)


def clip(x, alpha, beta):
    return np.clip(x, alpha, beta)


def cos(x):
    return np.cos(x)


def cosh(x):
    return np.cosh(x)


def erf(x):
    return kernels.erf(x)


def exp(x):
    return np.exp(x)


def exp2(x):
    if np.asarray(x).dtype.kind != "f":
        raise UnknownFormError("exp2 of integers")
    return np.exp2(x)


def floor(x):
    return np.floor(x)


def inverse(x, epsilon=np.float32(1e-4)):
    return 1 / (x + epsilon)


def log(x, epsilon=np.float32(1e-45)):
    return np.log(x + epsilon)


def round(x):
    """To the nearest integer; 0.5 becomes 0."""
    return np.rint(x)


def rsqrt(x, epsilon=np.float32(1e-12)):
    return 1 / np.sqrt(x + epsilon)


def sign(x):
    return np.sign(x)


def sin(x):
    return np.sin(x)


def sinh(x):
    return np.sinh(x)


def sqrt(x):
    return np.sqrt(x)


def square(x):
    return x * x


def tan(x):
    return np.tan(x)


def tanh(x):
    return np.tanh(x)


def threshold(x, alpha):
    return np.maximum(x, alpha)

"""Layers of the classic format that work on each element alone. Source: NeuralNetwork.proto.

Each function takes the Layer and its inputs and returns the output, all float32.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml.errors import UnknownFormError
from mvit_deploy.runtimes.coreml.kernels import check_size, erf, sigmoid
from mvit_deploy.runtimes.coreml.network_weights import Layer, count, decode, need_rank

_DEFAULT_EPSILON = 1e-6  # "Defaults to 1e-6 if not set or set to 0"
_NEGLIGIBLE_EPSILON = 1e-30
Function = Callable[..., np.ndarray]


def activation(layer: Layer, x: np.ndarray) -> np.ndarray:
    """ActivationParams: one of the nonlinearities in ACTIVATIONS."""
    kind = layer.params.WhichOneof("NonlinearityType")
    if kind not in ACTIVATIONS:
        raise UnknownFormError(f"nonlinearity {kind}")
    return ACTIVATIONS[kind](getattr(layer.params, kind), x)


def _prelu(p: Any, x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, x, _each_channel(p.alpha, x) * x)


def _parametric_softplus(p: Any, x: np.ndarray) -> np.ndarray:
    return _each_channel(p.alpha, x) * np.logaddexp(0, _each_channel(p.beta, x) * x)


def _each_channel(weights: Any, x: np.ndarray) -> np.ndarray:
    """A vector "of length C or 1" along axis -3."""
    need_rank(x, 3)
    length = count(weights)
    if length not in (1, x.shape[-3]):
        raise DamagedFileError(f"{length} values for {x.shape[-3]} channels")
    return decode(weights, (length, 1, 1))


ACTIVATIONS: dict[str, Function] = {
    "linear": lambda p, x: p.alpha * x + p.beta,
    "ReLU": lambda p, x: np.maximum(x, 0),
    "leakyReLU": lambda p, x: np.where(x >= 0, x, p.alpha * x),
    "thresholdedReLU": lambda p, x: np.where(x >= p.alpha, x, 0),
    "PReLU": _prelu,
    "tanh": lambda p, x: np.tanh(x),
    "scaledTanh": lambda p, x: p.alpha * np.tanh(p.beta * x),
    "sigmoid": lambda p, x: sigmoid(x),
    "sigmoidHard": lambda p, x: np.clip(p.alpha * x + p.beta, 0, 1),
    "ELU": lambda p, x: np.where(x >= 0, x, p.alpha * np.expm1(np.minimum(x, 0))),
    "softsign": lambda p, x: x / (1 + np.abs(x)),
    "softplus": lambda p, x: np.logaddexp(0, x),  # log(1 + e^x) without overflow
    "parametricSoftplus": _parametric_softplus,
}


def unary(layer: Layer, x: np.ndarray) -> np.ndarray:
    """UnaryFunctionLayerParams: f(scale * x + shift), where a scale of 0 stands for 1."""
    p = layer.params
    x = np.float32(p.scale or 1) * x + np.float32(p.shift)
    return UNARY[layer.mode("type")](x, np.float32(p.alpha), np.float32(p.epsilon or _DEFAULT_EPSILON))


def _log(x: np.ndarray, epsilon: np.float32) -> np.ndarray:
    # The formula is log(x), yet converters take care to store an epsilon of 1e-45: whether it is added is not said.
    if epsilon > _NEGLIGIBLE_EPSILON:
        raise UnknownFormError(f"type LOG and epsilon {epsilon}")
    return np.log(x)


UNARY: dict[str, Function] = {
    "SQRT": lambda x, alpha, epsilon: np.sqrt(x),
    "RSQRT": lambda x, alpha, epsilon: 1 / np.sqrt(x + epsilon),
    "INVERSE": lambda x, alpha, epsilon: 1 / (x + epsilon),
    "POWER": lambda x, alpha, epsilon: np.power(x, alpha),
    "EXP": lambda x, alpha, epsilon: np.exp(x),
    "LOG": lambda x, alpha, epsilon: _log(x, epsilon),
    "ABS": lambda x, alpha, epsilon: np.abs(x),
    "THRESHOLD": lambda x, alpha, epsilon: np.maximum(x, alpha),
}


def clip(layer: Layer, x: np.ndarray) -> np.ndarray:
    """ClipLayerParams: min(max(x, minVal), maxVal)."""
    return np.minimum(np.maximum(x, np.float32(layer.params.minVal)), np.float32(layer.params.maxVal))


def clamped_relu(layer: Layer, x: np.ndarray) -> np.ndarray:
    """ClampedReLULayerParams: min(x if x >= 0 else alpha * x, beta)."""
    return np.minimum(np.where(x >= 0, x, layer.params.alpha * x), np.float32(layer.params.beta))


def gelu(layer: Layer, x: np.ndarray) -> np.ndarray:
    """GeluLayerParams; the approximations are Hendrycks and Gimpel's, arXiv 1606.08415."""
    match layer.mode("mode"):
        case "EXACT":
            return np.float32(0.5) * x * (1 + erf(x * np.float32(0.5**0.5)))
        case "TANH_APPROXIMATION":
            inner = np.float32((2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x * x * x)
            return np.float32(0.5) * x * (1 + np.tanh(inner))
        case "SIGMOID_APPROXIMATION":
            return x * sigmoid(np.float32(1.702) * x)
        case other:
            raise UnknownFormError(f"mode {other}")


def copy(_: Layer, x: np.ndarray) -> np.ndarray:
    """CopyLayerParams."""
    return x


def _each(function: Callable[[np.ndarray], np.ndarray]) -> Function:
    return lambda layer, x: function(x)


def _broadcastable(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Function:
    """Two inputs with "conventional numpy like broadcasting"."""

    def layer_function(_: Layer, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        check_size(np.broadcast_shapes(a.shape, b.shape))
        return function(a, b)

    return layer_function


def _compare(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Function:
    """1 where it holds, else 0, for two inputs or one input and alpha."""

    def layer_function(layer: Layer, a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        other = np.float32(layer.params.alpha) if b is None else b
        check_size(np.broadcast_shapes(a.shape, other.shape))
        return function(a, other)

    return layer_function


def _alike(inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The inputs of a layer with "limited broadcasting support": the same rank, or a single value."""
    if len({x.ndim for x in inputs if x.size > 1}) > 1:
        raise UnknownFormError(f"inputs of shapes {', '.join(str(x.shape) for x in inputs)}")
    check_size(np.broadcast_shapes(*(x.shape for x in inputs)))
    return inputs


def add(layer: Layer, first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """AddLayerParams: the sum, or one input plus alpha."""
    return reduce(np.add, _alike((first, *others))) if others else first + np.float32(layer.params.alpha)


def multiply(layer: Layer, first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """MultiplyLayerParams: the product, or one input times alpha."""
    return reduce(np.multiply, _alike((first, *others))) if others else first * np.float32(layer.params.alpha)


def average(_: Layer, first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """AverageLayerParams."""
    return reduce(np.add, _alike((first, *others))) / np.float32(1 + len(others))


def maximum(_: Layer, first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """MaxLayerParams."""
    return reduce(np.maximum, _alike((first, *others)))


def minimum(_: Layer, first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """MinLayerParams."""
    return reduce(np.minimum, _alike((first, *others)))


_FUNCTIONS = ("ceil", "floor", "sign", "exp2", "sin", "cos", "tan", "sinh", "cosh", "tanh")
_INVERSES = {f"a{name}": getattr(np, f"arc{name}") for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")}
_BINARY = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
}
_COMPARISONS = {
    "equal": np.equal,
    "notEqual": np.not_equal,
    "lessThan": np.less,
    "lessEqual": np.less_equal,
    "greaterThan": np.greater,
    "greaterEqual": np.greater_equal,
}

ELEMENTWISE: dict[str, Function] = {
    "activation": activation,
    "unary": unary,
    "clip": clip,
    "clampedReLU": clamped_relu,
    "gelu": gelu,
    "erf": _each(erf),
    "copy": copy,
    "add": add,
    "multiply": multiply,
    "average": average,
    "max": maximum,
    "min": minimum,
    **{name: _each(getattr(np, name)) for name in _FUNCTIONS},
    **{name: _each(function) for name, function in _INVERSES.items()},
    **{f"{name}Broadcastable": _broadcastable(function) for name, function in _BINARY.items()},
    **{name: _compare(function) for name, function in _COMPARISONS.items()},
}

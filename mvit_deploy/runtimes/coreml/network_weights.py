"""What a layer of the classic neural network format holds: its parameters and its weights.

Weights are stored as float32, as float16, or in 1 to 8 bits with a rule to decode them.
Source: NeuralNetwork.proto, messages NeuralNetworkLayer, WeightParams and QuantizationParams.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml.errors import UnknownFormError
from mvit_deploy.runtimes.coreml.kernels import check_size

_STORAGES = ("floatValue", "float16Value", "rawValue", "int8RawValue")


@dataclass(frozen=True)
class Layer:
    """What a layer's function is given besides its inputs: parameters, number of outputs, decoded weights."""

    params: Any
    output_count: int
    _decoded: dict[str, np.ndarray] = field(default_factory=dict)

    def weight(self, name: str, shape: Sequence[int], *, channel_axis: int = 0) -> np.ndarray:
        """The weights in the field `name`, decoded once. channel_axis: the axis of output channels."""
        if name not in self._decoded:
            self._decoded[name] = decode(getattr(self.params, name), shape, channel_axis=channel_axis)
        return self._decoded[name]

    def mode(self, name: str, params: Any = None) -> str:
        """The name of the value of an enum field, by default the layer's own."""
        params = self.params if params is None else params
        value, known = getattr(params, name), params.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number
        if value not in known:
            raise UnknownFormError(f"{name} {value}")
        return known[value].name

    @property
    def decoded_elements(self) -> int:
        """How many weights have been decoded so far."""
        return sum(weights.size for weights in self._decoded.values())


def need_rank(x: np.ndarray, rank: int) -> None:
    """Raises: DamagedFileError for an input with fewer axes than the layer's documentation asks for."""
    if x.ndim < rank:
        raise DamagedFileError(f"an input of shape {x.shape}, where at least {rank} axes are needed")


def pair(values: Sequence[int], default: int) -> tuple[int, int]:
    """A field "of length 2 in the order [H, W]; if not set, the default is used". Raises: DamagedFileError."""
    if len(values) not in (0, 2):
        raise DamagedFileError(f"{len(values)} values {list(values)} for height and width")
    return (int(values[0]), int(values[1])) if values else (default, default)


def decode(weights: Any, shape: Sequence[int], *, channel_axis: int = 0) -> np.ndarray:
    """WeightParams as float32 in the given shape, row-major as stored.

    channel_axis: the axis along which a quantization may have one scale and bias for each output channel.
    Raises: DamagedFileError when the count is another; UnknownFormError for int8RawValue and custom layers' bytes.
    """
    check_size(shape)
    storage = _storage(weights)
    if storage == "int8RawValue":
        raise UnknownFormError("weights in int8RawValue")
    if storage == "rawValue":
        return _dequantize(weights, tuple(shape), channel_axis)
    if storage == "float16Value":
        flat = _float16(weights.float16Value)
    else:
        flat = np.asarray(weights.floatValue, dtype=np.float32)
    return _shaped(flat, shape)


def count(weights: Any) -> int:
    """How many values are stored, for layers that take a vector or a scalar."""
    storage = _storage(weights)
    if storage == "floatValue":
        return len(weights.floatValue)
    if storage == "float16Value":
        return len(weights.float16Value) // 2
    bits = weights.quantization.numberOfBits
    return len(weights.rawValue) * 8 // bits if bits else len(weights.rawValue)


def _storage(weights: Any) -> str:
    used = [name for name in _STORAGES if len(getattr(weights, name))]
    if len(used) != 1:
        raise DamagedFileError(f"weights stored in {' and '.join(used)}" if used else "its weights are missing")
    return used[0]


def _shaped(flat: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    if flat.size != math.prod(shape):
        raise DamagedFileError(f"{flat.size} weights are stored where the shape {tuple(shape)} asks {math.prod(shape)}")
    return flat.reshape(shape)


def _float16(stored: bytes) -> np.ndarray:
    if len(stored) % 2:
        raise DamagedFileError(f"{len(stored)} bytes are no float16 values")
    return np.frombuffer(stored, dtype="<f2").astype(np.float32)


def _dequantize(weights: Any, shape: tuple[int, ...], channel_axis: int) -> np.ndarray:
    """scale * code + bias, or table[code]. Source: QuantizationParams, and coremltools' quantization_utils."""
    quantization = weights.quantization
    rule = quantization.WhichOneof("QuantizationType")
    if rule is None:
        raise UnknownFormError("raw weights without a quantization")
    codes = _shaped(_unpack(weights.rawValue, quantization.numberOfBits, math.prod(shape)), shape)
    if rule == "lookupTableQuantization":
        return _look_up(quantization.lookupTableQuantization.floatValue, codes, quantization.numberOfBits)
    linear = quantization.linearQuantization
    scale = _per_channel(linear.scale, shape, channel_axis)
    return scale * codes.astype(np.float32) + _per_channel(linear.bias, shape, channel_axis)


def _unpack(stored: bytes, bits: int, total: int) -> np.ndarray:
    """Unsigned codes packed without gaps, the highest bit first; only the last byte may have bits left over."""
    if not 1 <= bits <= 8:
        raise UnknownFormError(f"weights of {bits} bits")
    if len(stored) != math.ceil(total * bits / 8):
        raise DamagedFileError(f"{len(stored)} bytes are stored for {total} weights of {bits} bits")
    packed = np.frombuffer(stored, dtype=np.uint8)
    if bits == 8:
        return packed
    digits = np.unpackbits(packed, count=total * bits).reshape(total, bits)
    return digits @ (1 << np.arange(bits - 1, -1, -1, dtype=np.uint8))


def _look_up(table: Sequence[float], codes: np.ndarray, bits: int) -> np.ndarray:
    if len(table) != 1 << bits:
        raise DamagedFileError(f"a lookup table of {len(table)} values for {bits} bits")
    return np.asarray(table, dtype=np.float32)[codes]


def _per_channel(values: Sequence[float], shape: tuple[int, ...], channel_axis: int) -> np.ndarray:
    """One value for all, or one for each output channel, ready to be broadcast against the weights."""
    channels = shape[channel_axis]
    if len(values) not in (1, channels):
        raise DamagedFileError(f"{len(values)} quantization scales or biases for {channels} output channels")
    spread = [1] * len(shape)
    spread[channel_axis] = len(values)
    return np.asarray(values, dtype=np.float32).reshape(spread)

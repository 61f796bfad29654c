"""Quantized forms in Core ML: int8 levels as compressed constants, integer activations as quantize/dequantize pairs."""

import copy
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from mvit_deploy.errors import ConversionError
from mvit_deploy.nn.quantized import Affine, QuantizedForm, QuantizedWeight, Range

_QUANTIZATION = 3  # coremltools' CompressionType
_METADATA_VERSION = 3
_DATA_OF = {"constexpr_affine_dequantize": "quantized_data", "constexpr_blockwise_shift_scale": "data"}
_CLASSIC_LAYERS = ("convolution", "innerProduct", "batchedMatmul")
_MIDDLE = 128  # the classic format's codes are unsigned: level + 128


def half_affine(given: Range) -> Affine:
    """Range.unsigned(8) with the scale rounded up to an fp16 number: the range still fits, and a file that computes
    in fp16 has the very scale that was chosen."""
    exact = given.unsigned(8).scale
    scale = np.float16(exact)
    if float(scale) < exact:
        scale = np.nextafter(scale, np.float16(np.inf))
    return Affine(float(scale), min(max(round(-given.low / float(scale)), 0), 255))


def marked(form: QuantizedForm, compress: bool) -> nn.Module:
    """A copy of the form's module as it is to be traced: activations quantized, and with compress the buffers in which
    coremltools' frontend looks for the scales of compressed weights.

    Raises: ConversionError for a layer that the module does not have.
    """
    module = copy.deepcopy(form.module)
    for name, weight in form.weights.items():
        layer = _layer(module, name)
        if not np.array_equal(layer.weight.detach().numpy(), weight.values):
            raise ConversionError(f"the weight of {name} is not what its levels stand for")
        if compress:
            _mark_weight(layer, weight)
    if compress:
        module.register_buffer("_COREML_/metadata_version", torch.tensor(_METADATA_VERSION))
    _Pairs(module).around({name: (_layer(module, name), ranges) for name, ranges in form.ranges.items()})
    return module


def check_levels(program: object, form: QuantizedForm) -> None:
    """Every weight's levels are in the program, once each, with its scales in the program's float type.

    Raises: ConversionError naming the layer.
    """
    keyed = [
        (_key(np.asarray(operation.inputs[_DATA_OF[operation.op_type]].val, np.float32)), operation)
        for function in program.functions.values()
        for operation in function.operations
        if operation.op_type in _DATA_OF
    ]
    _check_once(form.weights, [key for key, _ in keyed], lambda w: w.levels)
    for name, weight in form.weights.items():
        alike = [operation for key, operation in keyed if key == _key(weight.levels)]
        if not any(_has_scale(operation, weight) for operation in alike):
            raise ConversionError(f"the int8 weight of {name} has other scales or zero points in the program")


def store_levels(spec: object, form: QuantizedForm) -> None:
    """Replace the float weights of a classic network by codes of 8 bits, each output channel with its scale.

    All three kinds of layers store the output channel first. Source: NeuralNetwork.proto, LinearQuantizationParams.
    Raises: ConversionError naming a layer of the form that is not in the network once.
    """
    network = getattr(spec, spec.WhichOneof("Type"))
    fields = [_classic_weights(layer) for layer in network.layers if layer.WhichOneof("layer") in _CLASSIC_LAYERS]
    keyed = [(_key(np.asarray(field.floatValue, np.float32)), field) for field in fields]
    _check_once(form.weights, [key for key, _ in keyed], lambda w: w.values)
    by_key = {_key(weight.values): weight for weight in form.weights.values()}
    for key, field in keyed:
        if key in by_key:
            _store(field, by_key[key])


class _Pairs:
    """Quantize/dequantize pairs around layers; a tensor that two layers read in one range has one pair."""

    def __init__(self, root: nn.Module) -> None:
        self._made: dict[tuple[int, Affine], tuple[Tensor, Tensor]] = {}  # the key's tensor is kept, so is its id
        root.register_forward_pre_hook(lambda *_: self._made.clear())
        root.register_forward_hook(lambda *_: self._made.clear())

    def around(self, layers: dict) -> None:
        for layer, ranges in layers.values():
            before, after = half_affine(ranges.input), half_affine(ranges.output)
            layer.register_forward_pre_hook(lambda _, given, code=before: (self._pair(given[0], code),))
            layer.register_forward_hook(lambda _, __, result, code=after: _held(result, code))

    def _pair(self, x: Tensor, code: Affine) -> Tensor:
        key = (id(x), code)
        if key not in self._made:
            self._made[key] = (x, _held(x, code))
        return self._made[key][1]


def _held(x: Tensor, code: Affine) -> Tensor:
    return torch.quantize_per_tensor(x, code.scale, code.zero_point, torch.quint8).dequantize()


def _layer(module: nn.Module, name: str) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError as error:
        raise ConversionError(f"the quantized layer {name} is not in the network") from error


def _mark_weight(layer: nn.Module, weight: QuantizedWeight) -> None:
    scale = torch.from_numpy(weight.scale.copy()).reshape(-1, *[1] * (weight.levels.ndim - 1))
    layer.register_buffer("_COREML_/weight/compression_type", torch.tensor([_QUANTIZATION]))
    layer.register_buffer("_COREML_/weight/quantization_n_bits", torch.tensor(8))
    layer.register_buffer("_COREML_/weight/quantization_scale", scale)


def _key(values: np.ndarray) -> bytes:
    return (np.asarray(values, np.float32).ravel() + 0.0).tobytes()  # + 0.0: -0 is 0


def _check_once(weights: dict[str, QuantizedWeight], found: Iterable[bytes], form_of: object) -> None:
    """Layers whose weights are alike, all zeros for one, are so many times there, or once for all of them."""
    found = list(found)
    wanted = [_key(form_of(weight)) for weight in weights.values()]
    for name, key in zip(weights, wanted, strict=True):
        if not 1 <= found.count(key) <= wanted.count(key):
            raise ConversionError(f"the int8 weight of {name} is {found.count(key)} times in the program, not once")


def _has_scale(operation: object, weight: QuantizedWeight) -> bool:
    """coremltools makes the smallest number of what would underflow to 0 in fp16."""
    scale, shift = np.asarray(operation.inputs["scale"].val), operation.inputs.get("zero_point")
    expected = np.maximum(weight.scale.astype(scale.dtype), np.finfo(scale.dtype).smallest_subnormal)
    return np.array_equal(scale.ravel(), expected) and (shift is None or not shift.val.any())


def _classic_weights(layer: object) -> object:
    return getattr(layer, layer.WhichOneof("layer")).weights


def _store(field: object, weight: QuantizedWeight) -> None:
    field.Clear()
    field.rawValue = (weight.levels.astype(np.int16) + _MIDDLE).astype(np.uint8).tobytes()
    field.quantization.numberOfBits = 8
    field.quantization.linearQuantization.scale.extend(weight.scale.tolist())
    field.quantization.linearQuantization.bias.extend((-_MIDDLE * weight.scale).tolist())

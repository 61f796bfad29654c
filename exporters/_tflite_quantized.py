"""Quantized TFLite files, made out of the float file of the same network: weights and tensors get integer types.

Conventions of the TFLite 8-bit quantization specification (ai.google.dev/edge/litert/models/quantization_spec): int8
weights per output channel around 0; int8 activations per tensor; bias int32 in units of input scale * weight scale;
with int16 activations, around 0, the bias is int64.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from exporters._tflite_graph import OP, TYPE, Graph
from exporters._tflite_integers import int8_code, integers
from exporters._tflite_io import give_integers, take_integers
from mvit_deploy.errors import ConversionError
from mvit_deploy.nn.quantized import Affine, QuantizedForm, QuantizedWeight, Range
from mvit_deploy.runtimes.tflite_file import pack, parse, schema
from mvit_deploy.spec import Contract

_CHANNELS = {OP.CONV_2D: 0, OP.DEPTHWISE_CONV_2D: 3, OP.FULLY_CONNECTED: 0}  # the quantized dimension of a weight
# Products in a sum from which on integers pay for quantizing the input in each run. Layers with shorter sums
# (depthwise, stem, first expansions) have their weights unpacked to float once, at load.
_LEAST_DYNAMIC = 64
_SMALL = 10_000  # elements; a float layer of fewer in an integer file keeps its weights in float
# Versions of operators by what they compute with. Source: tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc
_VERSIONS = {
    "dynamic": {OP.CONV_2D: 5, OP.FULLY_CONNECTED: 12},
    TYPE.INT8: {OP.CONV_2D: 3, OP.DEPTHWISE_CONV_2D: 3, OP.FULLY_CONNECTED: 12},
    TYPE.INT16: {OP.CONV_2D: 4, OP.DEPTHWISE_CONV_2D: 5, OP.FULLY_CONNECTED: 12},
}


@dataclass(frozen=True)
class _Activations:
    """How the tensors of integer layers are stored. code: Range -> Affine."""

    type: int
    code: Callable[[Range], Affine]
    bias: np.dtype
    bias_type: int


_ACTIVATIONS = {
    "w8a8": _Activations(TYPE.INT8, int8_code, np.dtype(np.int32), TYPE.INT32),
    "w8a16": _Activations(TYPE.INT16, lambda range_: range_.symmetric(16), np.dtype(np.int64), TYPE.INT64),
}


def quantize(content: bytes, form: QuantizedForm, precision: str, contract: Contract) -> bytes:
    """The float file of a form as w8, w8a8 or w8a16, with the contract's types of input and output. Same input, same
    bytes.

    Raises: ConversionError naming a layer whose weight is not in the file.
    """
    graph = Graph(parse(content))
    layers = _find_layers(graph, form.weights)
    activations = _ACTIVATIONS.get(precision)
    operators, graph.operators = graph.operators, []
    if contract.io != "float32":
        take_integers(graph, contract)
    for position, operator in enumerate(operators):
        name = layers.get(position)
        if name is None:
            graph.operators.append(operator)
        elif name in form.ranges and activations:
            _make_integer(graph, operator, form, name, activations)
        else:
            _quantize_weight(graph, operator, form.weights[name], is_alone=activations is None)
            graph.operators.append(operator)
    if contract.io != "float32":
        give_integers(graph, contract.io, form.output)
    return pack(graph.finished())


# Which operator is which layer


def _find_layers(graph: Graph, weights: dict[str, QuantizedWeight]) -> dict[int, str]:
    """Places of the layers' operators, by the values of their weights. Raises: ConversionError."""
    pending = {}
    for position, operator in enumerate(graph.operators):
        code = graph.code_of(operator)
        if code in _CHANNELS and (constant := graph.constant(int(operator.inputs[1]))) is not None:
            pending[position] = code, constant
    found = {}
    for name, weight in weights.items():
        # Layers with equal weights are taken in the order in which they run, which is the form's.
        place = next((p for p, constant in pending.items() if _is_equal(*constant, weight.values)), None)
        if place is None:
            raise ConversionError(f"the layer {name} is not in the TFLite file with the weights of the plan")
        del pending[place]
        found[place] = name
    return found


def _is_equal(code: int, constant: np.ndarray, values: np.ndarray) -> bool:
    expected = _stored(code, values, constant.shape)
    return expected is not None and np.allclose(constant, expected, rtol=1e-6, atol=0)


def _stored(code: int, weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """A PyTorch weight (out, in[, h, w]) in an operator's layout: OHWI, 1HWO or (out, in); None if it cannot be."""
    if weight.ndim == 4:
        weight = weight.transpose((1, 2, 3, 0) if code == OP.DEPTHWISE_CONV_2D else (0, 2, 3, 1))
    is_1x1 = weight.size == weight.shape[0] * weight.shape[-1]  # a 1x1 convolution may be a linear layer, or reversed
    if code != OP.DEPTHWISE_CONV_2D and is_1x1 and len(shape) != weight.ndim and weight.size == np.prod(shape):
        weight = weight.reshape(shape)
    return weight if weight.shape == tuple(shape) else None


# Weights


def _quantize_weight(graph: Graph, operator: schema.OperatorT, weight: QuantizedWeight, *, is_alone: bool) -> None:
    """int8 weights for float activations. is_alone: the whole file is w8, else this is a float layer of another."""
    code = graph.code_of(operator)
    if not is_alone and weight.levels.size < _SMALL:
        return
    original = int(operator.inputs[1])
    stored = _add_weight(graph, operator, weight.levels, weight.scale)
    if not is_alone or weight.levels[0].size < _LEAST_DYNAMIC:
        graph.convert(stored, original, OP.DEQUANTIZE, version=5)
        graph.graph.tensors[original].buffer = 0
        return
    operator.inputs = np.array([operator.inputs[0], stored, *operator.inputs[2:]], np.int32)
    graph.set_code(operator, code, _VERSIONS["dynamic"][code])
    if code == OP.FULLY_CONNECTED:
        operator.builtinOptions.asymmetricQuantizeInputs = True


def _add_weight(graph: Graph, operator: schema.OperatorT, levels: np.ndarray, scale: np.ndarray) -> int:
    code, original = graph.code_of(operator), int(operator.inputs[1])
    stored = _stored(code, levels, tuple(int(side) for side in graph.graph.tensors[original].shape))
    index = graph.add_tensor(graph.name(original) + b"/int8", stored.shape, TYPE.INT8, stored)
    graph.set_scale(index, scale, dimension=_CHANNELS[code])
    return index


# Integer layers


def _make_integer(
    graph: Graph, operator: schema.OperatorT, form: QuantizedForm, name: str, activations: _Activations
) -> None:
    """Append a layer whose input, weight, bias and output are integers, with what converts them at its borders."""
    ranges, code = form.ranges[name], graph.code_of(operator)
    entry, leaving = activations.code(ranges.input), activations.code(ranges.output)
    source, result = int(operator.inputs[0]), int(operator.outputs[0])
    bias = graph.constant(int(operator.inputs[2])) if len(operator.inputs) > 2 else None
    levels, scale = _fitting(form.weights[name], bias, entry.scale)
    inputs = [integers(graph, source, entry, activations.type), _add_weight(graph, operator, levels, scale)]
    if bias is not None:
        inputs.append(_add_bias(graph, int(operator.inputs[2]), bias, np.float32(entry.scale) * scale, activations))
    output = graph.like(result, "/integer", activations.type, leaving)
    operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
    graph.set_code(operator, code, _VERSIONS[activations.type][code])
    graph.operators.append(operator)
    graph.convert(output, result, OP.DEQUANTIZE, version=2 if activations.type == TYPE.INT8 else 3)
    graph.codes[result, leaving], graph.native[result] = output, (output, leaving)


def _fitting(weight: QuantizedWeight, bias: np.ndarray | None, entry: float) -> tuple[np.ndarray, np.ndarray]:
    """Levels and scales, the scales enlarged where the bias would not fit 31 bits of entry * scale (dead channels)."""
    if bias is None:
        return weight.levels, weight.scale
    scale = np.maximum(weight.scale, (np.abs(bias) / (entry * 2**30)).astype(np.float32))
    ratio = (weight.scale / scale).reshape(-1, *[1] * (weight.levels.ndim - 1))
    return np.rint(weight.levels * ratio).astype(np.int8), scale


def _add_bias(graph: Graph, original: int, bias: np.ndarray, scale: np.ndarray, activations: _Activations) -> int:
    data = np.rint(bias.astype(np.float64) / scale).astype(activations.bias)
    index = graph.add_tensor(graph.name(original) + b"/integer", data.shape, activations.bias_type, data)
    graph.set_scale(index, scale)
    return index

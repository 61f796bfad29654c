"""Quantized TFLite files, made out of the float file of the same network: weights and tensors get integer types.

Conventions of the TFLite 8-bit quantization specification (ai.google.dev/edge/litert/models/quantization_spec): int8
weights per output channel around 0; int8 activations per tensor; bias int32 in units of input scale * weight scale;
with int16 activations, around 0, the bias is int64.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mvit_deploy.errors import ConversionError
from mvit_deploy.nn.quantized import Affine, QuantizedForm, QuantizedWeight, Range
from mvit_deploy.runtimes.tflite_file import pack, parse, schema

_OP, _TYPE = schema.BuiltinOperator, schema.TensorType
_CHANNELS = {_OP.CONV_2D: 0, _OP.DEPTHWISE_CONV_2D: 3, _OP.FULLY_CONNECTED: 0}  # the quantized dimension of a weight
# Unpacked to float once, at load: XNNPACK has no hybrid depthwise kernel, and one scale for the whole input costs most
# accuracy where the channels are not mixed.
_WEIGHT_ONLY = {_OP.DEPTHWISE_CONV_2D, _OP.CONV_2D}
_SMALL = 10_000  # elements; a float layer of fewer in an integer file keeps its weights in float
_LAYOUT = {_OP.PAD: 2, _OP.RESHAPE: 1, _OP.TRANSPOSE: 2}  # keep values; with the version that takes int8
# Versions of operators by what they compute with. Source: tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc
_VERSIONS = {
    "dynamic": {_OP.CONV_2D: 5, _OP.FULLY_CONNECTED: 12},
    _TYPE.INT8: {_OP.CONV_2D: 3, _OP.DEPTHWISE_CONV_2D: 3, _OP.FULLY_CONNECTED: 12},
    _TYPE.INT16: {_OP.CONV_2D: 4, _OP.DEPTHWISE_CONV_2D: 5, _OP.FULLY_CONNECTED: 12},
}


@dataclass(frozen=True)
class _Activations:
    """How the tensors of integer layers are stored. code: Range -> Affine."""

    type: int
    code: Callable[[Range], Affine]
    bias: np.dtype
    bias_type: int


def _int8(range_: Range) -> Affine:
    code = range_.unsigned(8)
    return Affine(code.scale, code.zero_point - 128)


_ACTIVATIONS = {
    "w8a8": _Activations(_TYPE.INT8, _int8, np.dtype(np.int32), _TYPE.INT32),
    "w8a16": _Activations(_TYPE.INT16, lambda range_: range_.symmetric(16), np.dtype(np.int64), _TYPE.INT64),
}
QUANTIZED = ("w8", *_ACTIVATIONS)


def quantize(content: bytes, form: QuantizedForm, precision: str) -> bytes:
    """The float file of a form as w8, w8a8 or w8a16. Same input, same bytes.

    Raises: ConversionError naming a layer whose weight is not in the file exactly once.
    """
    graph = _Graph(parse(content))
    layers = _find_layers(graph, form.weights)
    activations = _ACTIVATIONS.get(precision)
    operators, graph.operators = graph.operators, []
    for position, operator in enumerate(operators):
        name = layers.get(position)
        if name is None:
            graph.operators.append(operator)
        elif name in form.ranges and activations:
            _make_integer(graph, operator, form, name, activations)
        else:
            _quantize_weight(graph, operator, form.weights[name], is_alone=activations is None)
            graph.operators.append(operator)
    return pack(graph.finished())


@dataclass
class _Graph:
    """The object form of a file while it is rewritten. operators: those kept so far, in order."""

    model: schema.ModelT
    operators: list[schema.OperatorT] = field(init=False)
    codes: dict[tuple[int, Affine], int] = field(default_factory=dict)  # (float tensor, code) -> its integer tensor
    native: dict[int, tuple[int, Affine]] = field(default_factory=dict)  # float tensor -> the integers it came from

    def __post_init__(self) -> None:
        self.graph = self.model.subgraphs[0]
        self.operators = list(self.graph.operators)
        self.producers = {int(index): operator for operator in self.operators for index in operator.outputs}

    def code_of(self, operator: schema.OperatorT) -> int:
        code = self.model.operatorCodes[operator.opcodeIndex]
        return max(code.builtinCode, code.deprecatedBuiltinCode)

    def constant(self, index: int) -> np.ndarray | None:
        """A float32 constant, or None."""
        if index < 0:
            return None
        tensor = self.graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if data is None or tensor.type != _TYPE.FLOAT32:
            return None
        return np.asarray(data, np.uint8).view(np.float32).reshape([] if tensor.shape is None else list(tensor.shape))

    def name(self, index: int) -> bytes:
        return self.graph.tensors[index].name

    def set_code(self, operator: schema.OperatorT, code: int, version: int) -> None:
        """Give an operator its type and the version of it that its tensors' types need."""
        for place, known in enumerate(self.model.operatorCodes):
            if max(known.builtinCode, known.deprecatedBuiltinCode) == code and known.version == version:
                operator.opcodeIndex = place
                return
        new = schema.OperatorCodeT()
        new.builtinCode, new.deprecatedBuiltinCode, new.version = code, min(code, 127), version
        operator.opcodeIndex = len(self.model.operatorCodes)
        self.model.operatorCodes.append(new)

    def add_tensor(self, name: bytes, shape: Sequence[int], type_: int, data: np.ndarray | None = None) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.buffer = name, type_, 0
        tensor.shape = np.array(list(shape), np.int32)
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def set_scale(self, index: int, scale: np.ndarray, zero_point: int = 0, dimension: int = 0) -> None:
        quantization = schema.QuantizationParametersT()
        quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
        quantization.zeroPoint = np.full(len(quantization.scale), zero_point, np.int64)
        quantization.quantizedDimension = dimension
        self.graph.tensors[index].quantization = quantization

    def like(self, index: int, suffix: str, type_: int, code: Affine) -> int:
        """A new integer tensor of a float tensor's shape."""
        made = self.add_tensor(self.name(index) + suffix.encode(), self.graph.tensors[index].shape, type_)
        self.set_scale(made, np.float32(code.scale), code.zero_point)
        return made

    def convert(self, source: int, target: int, code: int, version: int) -> None:
        """Append a QUANTIZE or DEQUANTIZE."""
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = np.array([source], np.int32), np.array([target], np.int32)
        is_quantize = code == _OP.QUANTIZE
        operator.builtinOptions = (schema.QuantizeOptionsT if is_quantize else schema.DequantizeOptionsT)()
        options = schema.BuiltinOptions
        operator.builtinOptionsType = options.QuantizeOptions if is_quantize else options.DequantizeOptions
        self.set_code(operator, code, version)
        self.operators.append(operator)

    def finished(self) -> schema.ModelT:
        """The model without operators, tensors, buffers and operator codes that nothing needs any more."""
        needed, kept = {int(index) for index in self.graph.outputs}, []
        for operator in reversed(self.operators):
            if needed & {int(index) for index in operator.outputs}:
                needed |= {int(index) for index in (*operator.inputs, *operator.outputs) if index >= 0}
                kept.append(operator)
        self.graph.operators = kept[::-1]
        _drop_unused(self.model, needed | {int(index) for index in self.graph.inputs})
        return self.model


def _drop_unused(model: schema.ModelT, needed: set[int]) -> None:
    graph = model.subgraphs[0]
    places = {old: new for new, old in enumerate(sorted(needed))} | {-1: -1}
    graph.tensors = [graph.tensors[index] for index in sorted(needed)]
    for holder in (graph, *graph.operators):
        holder.inputs = np.array([places[int(i)] for i in holder.inputs], np.int32)
        holder.outputs = np.array([places[int(i)] for i in holder.outputs], np.int32)
    for signature in model.signatureDefs or []:
        for entry in (*signature.inputs, *signature.outputs):
            entry.tensorIndex = places[entry.tensorIndex]
    used = sorted({0} | {t.buffer for t in graph.tensors} | {entry.buffer for entry in model.metadata or []})
    buffers = {old: new for new, old in enumerate(used)}
    model.buffers = [model.buffers[index] for index in used]
    for holder in (*graph.tensors, *(model.metadata or [])):
        holder.buffer = buffers[holder.buffer]
    codes = sorted({operator.opcodeIndex for operator in graph.operators})
    model.operatorCodes = [model.operatorCodes[index] for index in codes]
    for operator in graph.operators:
        operator.opcodeIndex = codes.index(operator.opcodeIndex)


# Which operator is which layer


def _find_layers(graph: _Graph, weights: dict[str, QuantizedWeight]) -> dict[int, str]:
    """Places of the layers' operators, by the values of their weights. Raises: ConversionError."""
    constants = {}
    for position, operator in enumerate(graph.operators):
        code = graph.code_of(operator)
        if code in _CHANNELS and (constant := graph.constant(int(operator.inputs[1]))) is not None:
            constants[position] = code, constant
    found = {}
    for name, weight in weights.items():
        places = [place for place, (code, constant) in constants.items() if _is_equal(code, constant, weight.values)]
        if len(places) != 1 or places[0] in found:
            raise ConversionError(f"the weight of layer {name!r} is in the TFLite file {len(places)} times, not once")
        found[places[0]] = name
    return found


def _is_equal(code: int, constant: np.ndarray, values: np.ndarray) -> bool:
    expected = _stored(code, values, constant.shape)
    return expected is not None and np.allclose(constant, expected, rtol=1e-6, atol=0)


def _stored(code: int, weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """A PyTorch weight (out, in[, h, w]) in an operator's layout: OHWI, 1HWO or (out, in); None if it cannot be."""
    if weight.ndim == 4:
        weight = weight.transpose((1, 2, 3, 0) if code == _OP.DEPTHWISE_CONV_2D else (0, 2, 3, 1))
    is_1x1 = weight.size == weight.shape[0] * weight.shape[-1]  # a 1x1 convolution may be a linear layer, or reversed
    if code != _OP.DEPTHWISE_CONV_2D and is_1x1 and len(shape) != weight.ndim and weight.size == np.prod(shape):
        weight = weight.reshape(shape)
    return weight if weight.shape == tuple(shape) else None


# Weights


def _quantize_weight(graph: _Graph, operator: schema.OperatorT, weight: QuantizedWeight, *, is_alone: bool) -> None:
    """int8 weights for float activations. is_alone: the whole file is w8, else this is a float layer of another."""
    code = graph.code_of(operator)
    if not is_alone and weight.levels.size < _SMALL:
        return
    original = int(operator.inputs[1])
    stored = _add_weight(graph, operator, weight.levels, weight.scale)
    if not is_alone or code in _WEIGHT_ONLY:
        graph.convert(stored, original, _OP.DEQUANTIZE, version=5)
        graph.graph.tensors[original].buffer = 0
        return
    operator.inputs = np.array([operator.inputs[0], stored, *operator.inputs[2:]], np.int32)
    graph.set_code(operator, code, _VERSIONS["dynamic"][code])
    if code == _OP.FULLY_CONNECTED:
        operator.builtinOptions.asymmetricQuantizeInputs = True


def _add_weight(graph: _Graph, operator: schema.OperatorT, levels: np.ndarray, scale: np.ndarray) -> int:
    code, original = graph.code_of(operator), int(operator.inputs[1])
    stored = _stored(code, levels, tuple(int(side) for side in graph.graph.tensors[original].shape))
    index = graph.add_tensor(graph.name(original) + b"/int8", stored.shape, _TYPE.INT8, stored)
    graph.set_scale(index, scale, dimension=_CHANNELS[code])
    return index


# Integer layers


def _make_integer(
    graph: _Graph, operator: schema.OperatorT, form: QuantizedForm, name: str, activations: _Activations
) -> None:
    """Append a layer whose input, weight, bias and output are integers, with what converts them at its borders."""
    ranges, code = form.ranges[name], graph.code_of(operator)
    entry, leaving = activations.code(ranges.input), activations.code(ranges.output)
    source, result = int(operator.inputs[0]), int(operator.outputs[0])
    bias = graph.constant(int(operator.inputs[2])) if len(operator.inputs) > 2 else None
    levels, scale = _fitting(form.weights[name], bias, entry.scale)
    inputs = [_integers(graph, source, entry, activations.type), _add_weight(graph, operator, levels, scale)]
    if bias is not None:
        inputs.append(_add_bias(graph, int(operator.inputs[2]), bias, np.float32(entry.scale) * scale, activations))
    output = graph.like(result, "/integer", activations.type, leaving)
    operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
    graph.set_code(operator, code, _VERSIONS[activations.type][code])
    graph.operators.append(operator)
    graph.convert(output, result, _OP.DEQUANTIZE, version=2 if activations.type == _TYPE.INT8 else 3)
    graph.codes[result, leaving], graph.native[result] = output, (output, leaving)


def _fitting(weight: QuantizedWeight, bias: np.ndarray | None, entry: float) -> tuple[np.ndarray, np.ndarray]:
    """Levels and scales, the scales enlarged where the bias would not fit 31 bits of entry * scale (dead channels)."""
    if bias is None:
        return weight.levels, weight.scale
    scale = np.maximum(weight.scale, (np.abs(bias) / (entry * 2**30)).astype(np.float32))
    ratio = (weight.scale / scale).reshape(-1, *[1] * (weight.levels.ndim - 1))
    return np.rint(weight.levels * ratio).astype(np.int8), scale


def _add_bias(graph: _Graph, original: int, bias: np.ndarray, scale: np.ndarray, activations: _Activations) -> int:
    data = np.rint(bias.astype(np.float64) / scale).astype(activations.bias)
    index = graph.add_tensor(graph.name(original) + b"/integer", data.shape, activations.bias_type, data)
    graph.set_scale(index, scale)
    return index


def _integers(graph: _Graph, index: int, code: Affine, type_: int) -> int:
    """The integer tensor of a float tensor in a code, made once: moved, rescaled or quantized."""
    if (index, code) in graph.codes:
        return graph.codes[index, code]
    producer = graph.producers.get(index)
    moved = producer is not None and graph.code_of(producer) in _LAYOUT and type_ == _TYPE.INT8
    if moved and (graph.code_of(producer) == _OP.PAD or _comes_from_integers(graph, index)):
        made = _move(graph, producer, index, code, type_)
    else:
        made = graph.like(index, f"/integer{code.scale:.6g}", type_, code)
        source, _ = graph.native.get(index, (index, None))
        graph.convert(source, made, _OP.QUANTIZE, version=1 if type_ == _TYPE.INT8 else 2)
    graph.codes[index, code] = made
    return made


def _move(graph: _Graph, producer: schema.OperatorT, index: int, code: Affine, type_: int) -> int:
    """The same layout operator on integers; PAD fills with the zero point by itself."""
    source = _integers(graph, int(producer.inputs[0]), code, type_)
    made = graph.like(index, f"/integer{code.scale:.6g}", type_, code)
    moved = copy.copy(producer)
    moved.inputs = np.array([source, *producer.inputs[1:]], np.int32)
    moved.outputs = np.array([made], np.int32)
    graph.set_code(moved, graph.code_of(producer), _LAYOUT[graph.code_of(producer)])
    graph.operators.append(moved)
    return made


def _comes_from_integers(graph: _Graph, index: int) -> bool:
    """Whether only layout operators stand between an integer layer and a tensor."""
    while index not in graph.native:
        producer = graph.producers.get(index)
        if producer is None or graph.code_of(producer) not in _LAYOUT:
            return False
        index = int(producer.inputs[0])
    return True

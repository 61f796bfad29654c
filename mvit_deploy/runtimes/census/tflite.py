"""Census of TFLite files: the operators and tensor types of the file, which its runtime executes as they stand.

A kernel of LiteRT or XNNPACK is chosen by the types of its tensors alone, so the file says what is integer. Float
activations on integer weights are a hybrid kernel, which quantizes the activations in each run (dynamic).
"""

import math
import struct
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import CannotRunHere
from mvit_deploy.runtimes.census import DYNAMIC, FLOAT, INT8, INT16, WEIGHT_ONLY, Census, MacOperation, StoredWeight
from mvit_deploy.runtimes.tflite_file import DETECTION, parse

_OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
# Where each MAC operation has activations, weights (or the second factor) and bias.
_MACS = {
    "CONV_2D": (0, 1, 2), "DEPTHWISE_CONV_2D": (0, 1, 2), "CONV_3D": (0, 1, 2), "FULLY_CONNECTED": (0, 1, 2),
    "BATCH_MATMUL": (0, 1, None), "TRANSPOSE_CONV": (2, 1, 3),
}  # fmt: skip
# They hold products too, which is not counted here: a census without them would be wrong.
_UNCOUNTED = {
    "CONV_3D_TRANSPOSE", "LSTM", "RNN", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN",
    "BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "STABLEHLO_CONVOLUTION", "STABLEHLO_DOT_GENERAL",
    "STABLEHLO_COMPOSITE", "CUSTOM", "DELEGATE", "CALL", "CALL_ONCE", "IF", "WHILE",
}  # fmt: skip
_CONVERSIONS = {"QUANTIZE", "DEQUANTIZE"}
_TYPE = schema.TensorType
_FAMILIES = {
    _TYPE.FLOAT32: FLOAT, _TYPE.FLOAT16: FLOAT, _TYPE.INT8: INT8, _TYPE.UINT8: INT8, _TYPE.INT16: INT16,
}  # fmt: skip
_BITS = {
    _TYPE.FLOAT32: 32, _TYPE.FLOAT16: 16, _TYPE.INT8: 8, _TYPE.UINT8: 8, _TYPE.INT4: 4, _TYPE.INT16: 16,
    _TYPE.INT32: 32, _TYPE.INT64: 64,
}  # fmt: skip
_FLOATS = {_TYPE.FLOAT32, _TYPE.FLOAT16}
_WIDE = {_TYPE.INT32, _TYPE.INT64}  # biases of integer operators, else shapes and indices


def census(path: Path) -> Census:
    """Count a .tflite file from its bytes. Raises: DamagedFileError; CannotRunHere."""
    try:
        graph = _Graph(parse(path.read_bytes()))
        return _counted(graph)
    except (OSError, struct.error, ValueError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise DamagedFileError(f"{path.name} is no TFLite file: {error}") from error


def weights(model: schema.ModelT) -> tuple[StoredWeight, ...]:
    """The constants of all graphs that are weights. Raises: KeyError for an operator that the schema has not."""
    return tuple(weight for place in range(len(model.subgraphs)) for weight in _Graph(model, place).weights())


def _counted(graph: "_Graph") -> Census:
    uncounted = sorted({type_ for type_, _ in graph.operators} & _UNCOUNTED)
    if uncounted or graph.is_nested:
        raise CannotRunHere(f"the multiply-accumulates of {', '.join(uncounted) or 'subgraphs'} are not counted")
    others = {kind: Counter() for kind in (FLOAT, INT8, INT16)}
    for type_, operator in graph.operators:
        family = _FAMILIES.get(graph.tensors[operator.outputs[0]].type)
        if family and type_ not in _CONVERSIONS and type_ not in _MACS:
            others[family][type_] += 1
    return Census(
        basis="operators of the file",
        operations=tuple(_operation(type_, operator, graph) for type_, operator in graph.operators if type_ in _MACS),
        weights=tuple(graph.weights()),
        float_operators=others[FLOAT],
        int8_operators=others[INT8],
        int16_operators=others[INT16],
        conversions=sum(type_ in _CONVERSIONS and not graph.is_constant(o.inputs[0]) for type_, o in graph.operators),
    )


class _Graph:
    """A graph of a file, by default the main one: operators with their type's name, tensors, constants."""

    def __init__(self, model: schema.ModelT, place: int = 0) -> None:
        graph = model.subgraphs[place]
        self.is_nested = len(model.subgraphs) > 1
        self.tensors = graph.tensors
        self.operators = [(_type_of(model.operatorCodes[o.opcodeIndex]), o) for o in graph.operators or []]
        self._inputs = graph.inputs
        self._sizes = [0 if buffer.data is None else len(buffer.data) for buffer in model.buffers]
        self._producers = {index: (type_, o) for type_, o in self.operators for index in o.outputs}

    @property
    def images(self) -> int:
        """How many one run takes."""
        given = self.shape(self._inputs[0])
        return given[0] if len(given) == 4 else 1

    def shape(self, index: int) -> tuple[int, ...]:
        sides = self.tensors[index].shape
        return () if sides is None else tuple(int(side) for side in sides)  # None: a scalar

    def source(self, index: int) -> int:
        """The stored tensor behind a DEQUANTIZE of a constant, else the tensor itself."""
        type_, operator = self._producers.get(index, (None, None))
        return int(operator.inputs[0]) if type_ == "DEQUANTIZE" and self._is_stored(operator.inputs[0]) else index

    def is_constant(self, index: int) -> bool:
        """Whether a tensor is known before the first run; LiteRT then converts it once and keeps the result.

        Source: tensorflow/lite/kernels/dequantize.cc, float_dequantized_weights_initialized.
        """
        return self._is_stored(self.source(index))

    def _is_stored(self, index: int) -> bool:
        return index >= 0 and self._sizes[self.tensors[index].buffer] > 0

    def stored(self, index: int) -> StoredWeight:
        tensor = self.tensors[index]
        name, elements = tensor.name.decode(), math.prod(self.shape(index))
        return StoredWeight(name, elements, _BITS[tensor.type], tensor.type not in _FLOATS)

    def weights(self) -> Iterable[StoredWeight]:
        """Every constant that is a weight; several tensors may share one stored buffer."""
        by_buffer = {self.tensors[index].buffer: index for index in self._data_inputs if self._is_stored(index)}
        found = (self.stored(index) for index in sorted(by_buffer.values()) if self.tensors[index].type in _BITS)
        return (weight for weight in found if weight.elements > 1)

    @cached_property
    def _data_inputs(self) -> set[int]:
        biases = {o.inputs[place] for type_, o in self.operators for place in _bias_place(type_, o)}
        inputs = {index for _, operator in self.operators for index in operator.inputs if index >= 0}
        return {index for index in inputs if self.tensors[index].type not in _WIDE or index in biases}


def _type_of(code: schema.OperatorCodeT) -> str:
    """Source: schema.fbs, OperatorCode: files of old have the number in a byte of its own."""
    if code.customCode == DETECTION:
        return DETECTION.decode()  # sorts boxes out, and multiplies nothing that is counted
    return _OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]


def _bias_place(type_: str, operator: schema.OperatorT) -> list[int]:
    place = _MACS[type_][2] if type_ in _MACS else None
    return [place] if place is not None and place < len(operator.inputs) else []


def _operation(type_: str, operator: schema.OperatorT, graph: _Graph) -> MacOperation:
    first, second = (operator.inputs[place] for place in _MACS[type_][:2])
    constant = next((graph.source(i) for i in (second, first) if graph.is_constant(i)), None)
    weight = None if constant is None else graph.stored(constant)
    output = operator.outputs[0]
    return MacOperation(
        name=graph.tensors[output].name.decode(),
        type=type_,
        kind=_kind(graph.tensors[first].type, graph.tensors[second].type, graph.tensors[output].type, weight),
        macs=_count(type_, operator, graph) // graph.images,
        weight_bytes=weight.bytes if weight else 0,
        weight_bits=weight.bits if weight else 0,
    )


def _kind(first: int, second: int, output: int, weight: StoredWeight | None) -> str:
    """By the types of both factors, as the operator sees them, and of the result."""
    if _FAMILIES.get(first) == _FAMILIES.get(output) in (INT8, INT16):
        return _FAMILIES[first]
    if first in _FLOATS and second not in _FLOATS:
        return DYNAMIC
    return WEIGHT_ONLY if weight and weight.is_integer else FLOAT


def _count(type_: str, operator: schema.OperatorT, graph: _Graph) -> int:
    """Multiply-accumulates of one run, from the static shapes."""
    first, second = (graph.shape(operator.inputs[place]) for place in _MACS[type_][:2])
    outputs = math.prod(graph.shape(operator.outputs[0]))
    if type_ == "DEPTHWISE_CONV_2D":  # weights (1, kh, kw, O)
        return outputs * math.prod(second[1:3])
    if type_ == "CONV_3D":  # weights (kd, kh, kw, I/groups, O)
        return outputs * math.prod(second[:4])
    if type_ == "TRANSPOSE_CONV":  # weights (O, kh, kw, I), each with every sample of the input
        return math.prod(first) * math.prod(second[:3])
    if type_ == "BATCH_MATMUL":
        return outputs * first[-2 if operator.builtinOptions.adjX else -1]
    return outputs * math.prod(second[1:])  # weights (O, kh, kw, I/groups) or (O, I)

"""Lint of TFLite files: operators, tensor types and shapes, against LiteRT and its delegates."""

import struct
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.lint import Findings, LintResult, Operator, supported
from mvit_deploy.lint.rules import NNAPI, TFLITE_GPU, XNNPACK
from mvit_deploy.runtimes.tflite_file import parse

_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_TYPE_NAMES = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
_CUSTOM = schema.BuiltinOperator.CUSTOM
_FLEX = "Flex"  # what the names of TensorFlow's own operators begin with
_TRANSPOSES = ("TRANSPOSE",)
_RESHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
_GPU_TYPES = {"FLOAT32", "FLOAT16", "INT8", "UINT8"}
_EIGHT_BITS = {"INT8", "UINT8"}
_WIDE = {"INT16"}
_RANK = 4  # of the GPU delegate and NNAPI


def lint(path: Path) -> LintResult:
    """Hold a .tflite file to the rules. Raises: DamagedFileError."""
    try:
        return _linted(parse(path.read_bytes()))
    except (OSError, struct.error, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(f"{path.name} is no TFLite file: {error!r}") from error


def _linted(model: schema.ModelT) -> LintResult:
    graphs = [_Graph(graph, model) for graph in model.subgraphs]
    steps = [(graph, raw) for graph in graphs for raw in graph.operators]
    operators = [Operator(index, graph.type_of(raw), graph.name_of(raw)) for index, (graph, raw) in enumerate(steps)]
    run = [(step, o) for step, o in zip(steps, operators, strict=True) if not step[0].only_unpacks(step[1], o.type)]
    found = Findings([operator for _, operator in run])
    for (graph, raw), operator in run:
        for check in (_check_custom, _check_gpu, _check_nnapi, _check_xnnpack):
            check(graph, raw, operator, found)
    _check_inputs(graphs[0], found)
    return found.result(
        operators=operators,
        transposes=_TRANSPOSES,
        reshapes=_RESHAPES,
        consumers=(TFLITE_GPU, NNAPI, XNNPACK),
    )


class _Graph:
    """A subgraph with the model's operator codes and buffers at hand."""

    def __init__(self, graph: schema.SubGraphT, model: schema.ModelT) -> None:
        self.tensors, self.operators = graph.tensors, graph.operators or []
        self.inputs = [int(index) for index in graph.inputs]
        self._codes = model.operatorCodes
        self._sizes = [0 if buffer.data is None else len(buffer.data) for buffer in model.buffers]

    def type_of(self, raw: schema.OperatorT) -> str:
        """The type's name; of a custom operator its own."""
        code = self._codes[raw.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return (code.customCode or b"?").decode() if number == _CUSTOM else _NAMES[number]

    def is_custom(self, raw: schema.OperatorT) -> bool:
        code = self._codes[raw.opcodeIndex]
        return max(code.builtinCode, code.deprecatedBuiltinCode) == _CUSTOM

    def version_of(self, raw: schema.OperatorT) -> int:
        return int(self._codes[raw.opcodeIndex].version)

    def name_of(self, raw: schema.OperatorT) -> str:
        return self.name(raw.outputs[0])

    def name(self, index: int) -> str:
        return (self.tensors[index].name or b"").decode(errors="replace")

    def shape(self, index: int) -> tuple[int, ...]:
        """With -1 for a side that the file leaves open."""
        tensor = self.tensors[index]
        sides = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
        return () if sides is None else tuple(int(side) for side in sides)

    def is_constant(self, index: int) -> bool:
        return self._sizes[self.tensors[index].buffer] > 0

    def only_unpacks(self, raw: schema.OperatorT, type_: str) -> bool:
        """Whether it only unpacks a stored weight, once and for all, and so asks nothing of a delegate.

        Source: tensorflow/lite/kernels/dequantize.cc, and FP16GraphPartitionHelper of the delegates.
        """
        return type_ == "DEQUANTIZE" and self.is_constant(raw.inputs[0])

    def tensors_of(self, raw: schema.OperatorT) -> list[int]:
        """Inputs and outputs, those left out excepted."""
        return [int(index) for index in (*raw.inputs, *raw.outputs) if index >= 0]

    def computed_types(self, raw: schema.OperatorT) -> set[str]:
        """The element types of what is computed, constants excepted."""
        return {_TYPE_NAMES[self.tensors[i].type] for i in self.tensors_of(raw) if not self.is_constant(i)}

    def rank(self, raw: schema.OperatorT) -> int:
        return max(len(self.shape(index)) for index in self.tensors_of(raw))


def _check_inputs(graph: _Graph, found: Findings) -> None:
    for index in graph.inputs:
        shape = graph.shape(index)
        place = {"tensor": graph.name(index), "what": str(list(shape))}
        if -1 in shape[1:]:
            found.add("tflite-free-size", **place)
        elif shape[:1] == (-1,):
            found.add("tflite-free-batch", **place)
        elif len(shape) > 1 and shape[0] != 1:
            found.add("tflite-batch", **place)


def _check_custom(graph: _Graph, raw: schema.OperatorT, operator: Operator, found: Findings) -> None:
    if not graph.is_custom(raw):
        return
    if operator.type.startswith(_FLEX):
        found.add("flex-operator", operator)
    elif operator.type in supported.TFLITE_BUILT_IN_CUSTOM:
        found.add("builtin-custom-operator", operator)
    else:
        found.add("custom-operator", operator)


def _check_gpu(graph: _Graph, raw: schema.OperatorT, operator: Operator, found: Findings) -> None:
    types = graph.computed_types(raw)
    rank = graph.rank(raw)
    if rank > _RANK:
        found.add("tflite-rank", operator, what=f"rank {rank}")
    elif operator.type not in supported.GPU or graph.is_custom(raw):
        found.add("gpu-operator", operator)
    elif types - _GPU_TYPES - supported.GPU_OTHER_TYPES.get(operator.type, set()):
        found.add("gpu-type", operator, what=", ".join(sorted(types - _GPU_TYPES)))
    else:
        if operator.type not in supported.GPU_DOCUMENTED:
            found.add("gpu-undocumented", operator)
        if types & _EIGHT_BITS:
            found.add("gpu-quantized", operator)
    if operator.type in (*_TRANSPOSES, *_RESHAPES):
        found.add("gpu-data-movement", operator)


def _check_nnapi(graph: _Graph, raw: schema.OperatorT, operator: Operator, found: Findings) -> None:
    version, newest = graph.version_of(raw), supported.NNAPI.get(operator.type, 0)
    if graph.is_custom(raw) or version > newest:
        found.add("nnapi-operator", operator, what=f"version {version}" if newest else "")
    elif graph.computed_types(raw) & _WIDE:
        found.add("nnapi-type", operator, what="INT16")
    elif graph.rank(raw) > _RANK:
        found.add("nnapi-rank", operator, what=f"rank {graph.rank(raw)}")


def _check_xnnpack(graph: _Graph, raw: schema.OperatorT, operator: Operator, found: Findings) -> None:
    if graph.is_custom(raw) or operator.type not in supported.XNNPACK:
        found.add("xnnpack-operator", operator)
    elif graph.computed_types(raw) & _WIDE:
        found.add("xnnpack-type", operator, what="INT16")
    elif operator.type == "CONCATENATION" and len(raw.inputs) > supported.XNNPACK_JOINED:
        found.add("xnnpack-concatenation", operator, what=f"{len(raw.inputs)} tensors")
    elif operator.type not in supported.XNNPACK_DOCUMENTED:
        found.add("xnnpack-undocumented", operator)

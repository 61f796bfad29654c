"""The object form of a TFLite file while it is rewritten: operators, tensors, operator codes, what nothing needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mvit_deploy.nn.quantized import Affine
from mvit_deploy.runtimes.tflite_file import schema

OP, TYPE = schema.BuiltinOperator, schema.TensorType


@dataclass
class Graph:
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
        if data is None or tensor.type != TYPE.FLOAT32:
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
        is_quantize = code == OP.QUANTIZE
        operator.builtinOptions = (schema.QuantizeOptionsT if is_quantize else schema.DequantizeOptionsT)()
        options = schema.BuiltinOptions
        operator.builtinOptionsType = options.QuantizeOptions if is_quantize else options.DequantizeOptions
        self.set_code(operator, code, version)
        self.operators.append(operator)

    def replace_end(self, old: int, new: int) -> None:
        """Make another tensor the graph's input or output, in its signatures too."""
        self.graph.inputs = np.where(self.graph.inputs == old, new, self.graph.inputs).astype(np.int32)
        self.graph.outputs = np.where(self.graph.outputs == old, new, self.graph.outputs).astype(np.int32)
        for signature in self.model.signatureDefs or []:
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = new if entry.tensorIndex == old else entry.tensorIndex

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

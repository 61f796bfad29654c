"""Integers into an ONNX graph: QuantizeLinear and DequantizeLinear where the quantized form has them.

ONNX Runtime turns DequantizeLinear, operator, QuantizeLinear into one integer kernel. Layers are found by the values of
their weights, since names do not survive export. Source: ONNX operators QuantizeLinear, DequantizeLinear,
DynamicQuantizeLinear, MatMulInteger; onnxruntime docs/performance/model-optimizations/quantization.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mvit_deploy.errors import ConversionError
from mvit_deploy.nn.quantized import Affine, QuantizedForm, QuantizedWeight, Range

OPSET_16_BIT = 21  # the first whose QuantizeLinear takes 16 bits
MAX_INT32 = 2**31 - 1
_WITH_WEIGHT = ("Conv", "Gemm", "MatMul")  # as their second input


@dataclass(frozen=True)
class _Found:
    """A layer in the graph. transposed: the weight lies (in, out); bias: the initializer's name, bias_node where it is
    added by a node of its own."""

    name: str
    node: onnx.NodeProto
    transposed: bool
    bias: str | None
    bias_node: onnx.NodeProto | None


def quantize(model: onnx.ModelProto, form: QuantizedForm, precision: str) -> None:
    """Put a form's integers into the float graph of its module, in place.

    w8: convolutions' weights behind DequantizeLinear, products dynamic. w8a8, w8a16: inputs, weights and biases of the
    layers with ranges, and outputs of convolutions (a product's sum leaves in float, which costs nothing and loses
    nothing).
    Raises: ConversionError when a layer of the form is not in the graph.
    """
    graph = _Graph(model.graph)
    for layer in graph.locate(form):
        weight, ranges = form.weights[layer.name], form.ranges.get(layer.name)
        if ranges is not None:
            bits = 16 if precision == "w8a16" else 8
            graph.quantize_layer(layer, weight, ranges.input, ranges.output, bits)
        elif layer.node.op_type == "Conv" or precision != "w8":
            graph.quantize_weight(layer, weight)
        else:
            graph.make_dynamic(layer, weight)
    graph.finish()
    if precision == "w8a16":
        model.opset_import[0].version = max(model.opset_import[0].version, OPSET_16_BIT)


class _Graph:
    """A graph under change: nodes to insert are collected and put in order at the end."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        _read_constants_themselves(graph, set(self._constants))
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self._readers[name].append(node)
        self._before: dict[int, list[onnx.NodeProto]] = defaultdict(list)  # by id of the node behind them
        self._dropped: set[int] = set()
        self._codes: dict[str, str] = {}  # tensor -> its dequantized form

    def locate(self, form: QuantizedForm) -> list[_Found]:
        """The layers of a form, those with equal weights in the order in which they run, which is the form's."""
        pending = dict(form.weights)
        found = []
        for node in self._graph.node:
            if node.op_type not in _WITH_WEIGHT or node.input[1] not in self._constants:
                continue
            values = numpy_helper.to_array(self._constants[node.input[1]])
            transposed = node.op_type == "MatMul" or (node.op_type == "Gemm" and not _attribute(node, "transB"))
            name = _named(pending, values.T if transposed else values)
            if name is not None:
                del pending[name]
                found.append(_Found(name, node, transposed, *self._bias_of(node)))
        if pending:
            raise ConversionError(f"the layer {next(iter(pending))} is not in the graph with the weights of the plan")
        return found

    def _bias_of(self, node: onnx.NodeProto) -> tuple[str | None, onnx.NodeProto | None]:
        if node.op_type != "MatMul":
            return (node.input[2], None) if len(node.input) > 2 else (None, None)
        readers = self._readers[node.output[0]]
        if len(readers) == 1 and readers[0].op_type == "Add":
            other = next((name for name in readers[0].input if name in self._constants), None)
            if other is not None:
                return other, readers[0]
        return None, None

    def quantize_layer(self, layer: _Found, weight: QuantizedWeight, given: Range, result: Range, bits: int) -> None:
        code = given.unsigned(bits)
        self._hold(layer.node.input[0], code, bits)
        self.quantize_weight(layer, weight)
        if layer.bias is not None:
            self._quantize_bias(layer, weight, code)
        if layer.node.op_type == "Conv":
            self._hold(layer.node.output[0], result.unsigned(bits), bits)

    def quantize_weight(self, layer: _Found, weight: QuantizedWeight) -> None:
        """The weight as int8 behind DequantizeLinear, one scale an output channel."""
        levels = np.ascontiguousarray(weight.levels.T if layer.transposed else weight.levels)
        axis = levels.ndim - 1 if layer.transposed else 0
        layer.node.input[1] = self._dequantized(layer.node, f"{layer.name}.weight", levels, weight.scale, axis)

    def _quantize_bias(self, layer: _Found, weight: QuantizedWeight, given: Affine) -> None:
        """int32 at the scale of the products' sum: what integer kernels add."""
        values = numpy_helper.to_array(self._constants[layer.bias]).astype(np.float64)
        scale = (weight.scale.astype(np.float64) * given.scale).astype(np.float32)
        levels = np.clip(np.rint(values / scale), -MAX_INT32, MAX_INT32).astype(np.int32)
        reader = layer.bias_node or layer.node
        place = list(reader.input).index(layer.bias)
        reader.input[place] = self._dequantized(reader, f"{layer.name}.bias", levels, scale, 0)

    def _dequantized(self, reader: onnx.NodeProto, name: str, levels: np.ndarray, scale: np.ndarray, axis: int) -> str:
        """A constant of integers in front of its reader; the zero points, all 0, are shared by all of one length."""
        zeros = self._add(f"zeros.{levels.dtype}.{len(scale)}", np.zeros(len(scale), levels.dtype))
        inputs = [self._add(f"{name}.int", levels), self._add(f"{name}.scale", scale), zeros]
        self._insert(reader, helper.make_node("DequantizeLinear", inputs, [f"{name}.dq"], name=f"{name}/DQ", axis=axis))
        return f"{name}.dq"

    def make_dynamic(self, layer: _Found, weight: QuantizedWeight) -> None:
        """Tokens are quantized as they come: DynamicQuantizeLinear, MatMulInteger, scale, bias."""
        node, name = layer.node, layer.name
        levels = self._add(f"{name}.weight.int", np.ascontiguousarray(weight.levels.T))
        scale = self._add(f"{name}.weight.scale", weight.scale)
        zero = self._add(f"zeros.int8.{len(weight.scale)}", np.zeros(len(weight.scale), np.int8))
        code = [f"{name}.{part}" for part in ("x", "x_scale", "x_zero")]
        has_bias = node.op_type == "Gemm" and layer.bias is not None
        result = f"{name}.y" if has_bias else node.output[0]
        make = helper.make_node
        self._insert(
            node,
            make("DynamicQuantizeLinear", [node.input[0]], code, name=f"{name}/Quantize"),
            make("MatMulInteger", [code[0], levels, code[2], zero], [f"{name}.sum"], name=f"{name}/MatMul"),
            make("Cast", [f"{name}.sum"], [f"{name}.float"], name=f"{name}/Cast", to=onnx.TensorProto.FLOAT),
            make("Mul", [code[1], scale], [f"{name}.scale"], name=f"{name}/Scale"),
            make("Mul", [f"{name}.float", f"{name}.scale"], [result], name=f"{name}/Scaled"),
        )
        if has_bias:
            self._insert(node, make("Add", [result, layer.bias], [node.output[0]], name=f"{name}/Bias"))
        self._dropped.add(id(node))

    def _hold(self, tensor: str, code: Affine, bits: int) -> None:
        """Let every reader of a tensor have what the integers keep of it."""
        if tensor in self._codes or tensor in self._codes.values():
            return
        kind = {8: np.uint8, 16: np.uint16}[bits]
        name = f"q{len(self._codes)}"  # tensors' own names are long, and each would stand in the file eight times
        scale = self._add(f"{name}.scale", np.float32(code.scale))
        zero = self._add(f"{name}.zero", kind(code.zero_point))
        levels, values = f"{name}.int", name
        readers = self._readers[tensor]
        if not readers:
            return
        self._insert(
            readers[0],
            helper.make_node("QuantizeLinear", [tensor, scale, zero], [levels], name=f"{name}/Q"),
            helper.make_node("DequantizeLinear", [levels, scale, zero], [values], name=f"{name}/DQ"),
        )
        for reader in readers:
            reader.input[:] = [values if name == tensor else name for name in reader.input]
        self._codes[tensor] = values
        self._readers[values] = readers

    def _insert(self, behind: onnx.NodeProto, *nodes: onnx.NodeProto) -> None:
        self._before[id(behind)] += nodes

    def _add(self, name: str, values: np.ndarray) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def finish(self) -> None:
        """Write nodes and constants back, without constants that nothing reads any more."""
        nodes = []
        for node in self._graph.node:
            nodes += self._before[id(node)] + ([] if id(node) in self._dropped else [node])
        used = {name for node in nodes for name in node.input}
        constants = [tensor for name, tensor in self._constants.items() if name in used]
        nodes = [_copy(node) for node in nodes]
        del self._graph.node[:]
        del self._graph.initializer[:]
        del self._graph.value_info[:]
        self._graph.node.extend(nodes)
        self._graph.initializer.extend(constants)


def _read_constants_themselves(graph: onnx.GraphProto, constants: set[str]) -> None:
    """Remove the Identity nodes that PyTorch's exporter puts behind one constant that stands for several equal ones."""
    copies = {n.output[0]: n for n in graph.node if n.op_type == "Identity" and n.input[0] in constants}
    for node in copies.values():
        graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [copies[name].input[0] if name in copies else name for name in node.input]


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied


def _named(pending: dict[str, QuantizedWeight], values: np.ndarray) -> str | None:
    alike = (name for name, weight in pending.items() if weight.levels.shape == values.shape)
    return next((name for name in alike if np.array_equal(pending[name].values, values)), None)


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)

"""Census of ONNX files: ONNX Runtime's own optimized graph, and the trace of one run of it.

The optimized graph says which kernels were chosen, the trace on what shapes they ran. How a file is decorated counts
for nothing: a Conv behind DequantizeLinear that did not become a QLinearConv is a float Conv. Which do depends on the
processor: on x86 a signed activation keeps its operator in float unless it has a single reader, on ARM it does not.
Source: onnxruntime's qdq_selector_action_transformer.h, QDQIsInt8Allowed, and qdq_s8_to_u8.cc.
"""

import json
import math
import platform
import re
import tempfile
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import CannotRunHere
from mvit_deploy.runtimes.census import DYNAMIC, FLOAT, INT8, INT16, WEIGHT_ONLY, Census, MacOperation, StoredWeight

Shape = tuple[int, ...]

_CONVOLUTIONS = {"Conv", "FusedConv", "NhwcFusedConv", "ConvInteger", "QLinearConv"}
_TRANSPOSED = {"ConvTranspose"}
_PRODUCTS = {
    "MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulNBits", "QLinearMatMul", "QGemm", "MatMulInteger",
    "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
}  # fmt: skip
_MACS = _CONVOLUTIONS | _TRANSPOSED | _PRODUCTS
# They hold products too, which is not counted here: a census without them would be wrong.
_UNCOUNTED = {
    "Attention", "QAttention", "MultiHeadAttention", "GroupQueryAttention", "DecoderMaskedMultiHeadAttention",
    "PackedAttention", "QOrderedMatMul", "QOrderedAttention", "Einsum", "DeformConv", "LSTM", "GRU", "RNN", "QMoE",
    "MoE", "DynamicQuantizeLSTM", "MatMulBnb4", "SparseToDenseMatMul", "If", "Loop", "Scan",
}  # fmt: skip
_INTEGER = {"ConvInteger", "QLinearConv", "QLinearMatMul", "QGemm", "MatMulInteger", "MatMulIntegerToFloat"}
_CONVERSIONS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
# Where operators that take scales and zero points have their data; the others have data everywhere.
_DATA_INPUTS = {
    "QuantizeLinear": (0,), "DequantizeLinear": (0,), "QLinearConv": (0, 3, 8), "QLinearMatMul": (0, 3),
    "QGemm": (0, 3, 6), "ConvInteger": (0, 1), "MatMulInteger": (0, 1), "MatMulIntegerToFloat": (0, 1, 6),
    "DynamicQuantizeMatMul": (0, 1, 4), "MatMulNBits": (0, 1, 5), "QLinearAdd": (0, 3), "QLinearMul": (0, 3),
    "QLinearSigmoid": (0,), "QLinearLeakyRelu": (0,), "QLinearSoftmax": (0,), "QLinearGlobalAveragePool": (0,),
    "QLinearAveragePool": (0,), "QLinearReduceMean": (0,), "QLinearWhere": (0, 1, 4),
    "QLinearConcat": tuple(range(2, 300, 3)), "Resize": (0,), "Upsample": (0,),
}  # fmt: skip
_PASS_ON = {"QuantizeLinear", "DequantizeLinear", "Cast", "Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze",
            "Flatten"}  # fmt: skip
_BITS = {  # 64-bit integers are shapes and indices
    onnx.TensorProto.FLOAT: 32, onnx.TensorProto.FLOAT16: 16, onnx.TensorProto.BFLOAT16: 16,
    onnx.TensorProto.DOUBLE: 64, onnx.TensorProto.INT8: 8, onnx.TensorProto.UINT8: 8, onnx.TensorProto.INT16: 16,
    onnx.TensorProto.UINT16: 16, onnx.TensorProto.INT32: 32, onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4,
}  # fmt: skip
_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}
_NUMPY = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}
_FAMILIES = {"float": FLOAT, "float16": FLOAT, "int8": INT8, "uint8": INT8, "int16": INT16, "uint16": INT16}
_GIVEN_NAME = re.compile(r"(_token_\d+|/MatMulAddFusion)+$")  # what optimizers append
_TOOLS_NAME = re.compile(r"(_MatMul)?_quant$")  # what onnxruntime.quantization appends


def census(path: Path) -> Census:
    """Count an .onnx file by opening it and running it once. Raises: DamagedFileError; CannotRunHere."""
    model = _load(path)
    shipped = _Graph(model.graph)
    executed, images = _execute(model, path.name)
    uncounted = sorted({node.op_type for node in executed.graph.nodes} & _UNCOUNTED)
    if uncounted:
        raise CannotRunHere(f"the multiply-accumulates of {', '.join(uncounted)} are not counted")
    others = {kind: Counter() for kind in (FLOAT, INT8, INT16)}
    for node in executed.graph.nodes:
        family = _FAMILIES.get(executed.types.get(node.output[0], ""))
        if family and node.op_type not in _MACS | _CONVERSIONS:
            others[family][node.op_type] += 1
    return Census(
        basis=f"optimized graph of onnxruntime {onnxruntime.__version__} on {platform.machine()}",
        operations=tuple(_operation(n, executed, shipped, images) for n in executed.graph.nodes if n.op_type in _MACS),
        weights=tuple(shipped.weights()),
        float_operators=others[FLOAT],
        int8_operators=others[INT8],
        int16_operators=others[INT16],
        conversions=sum(node.op_type in _CONVERSIONS for node in executed.graph.nodes),
    )


def weights(graph: onnx.GraphProto) -> tuple[StoredWeight, ...]:
    """The constants of a graph that are weights, from the file alone: nothing is run."""
    return tuple(_Graph(graph).weights())


def _load(path: Path) -> onnx.ModelProto:
    """The file, every node with a name of its own, so that the trace tells them apart."""
    try:
        model = onnx.load(str(path))
    except (OSError, DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise DamagedFileError(f"onnx cannot read {path.name}: {error}") from error
    taken = Counter(node.name for node in model.graph.node)
    for line, node in enumerate(model.graph.node, start=1):
        if not node.name or taken[node.name] > 1:
            node.name = f"{node.name or node.output[0]}#{line}"
    return model


class _Graph:
    """A graph's nodes, constants and who makes what."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = [node for node in graph.node if node.op_type != "Constant"]
        self.by_name = {node.name: node for node in self.nodes}
        self.producers = {output: node for node in self.nodes for output in node.output}
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = node.attribute[0].t

    def source(self, name: str) -> str:
        """Where a value comes from, past whatever only stores or lays it out otherwise."""
        while name not in self.constants and name in self.producers and self.producers[name].op_type in _PASS_ON:
            name = self.producers[name].input[0]
        return name

    def weight_of(self, node: onnx.NodeProto) -> StoredWeight | None:
        """The constant that a MAC operation multiplies by, None where both operands are computed."""
        name = next((n for n in map(self.source, reversed(_operands(node))) if n in self.constants), None)
        return None if name is None else self._stored(name)

    def weights(self) -> Iterable[StoredWeight]:
        """Every constant that is a weight, in the file's order."""
        used = {name for node in self.nodes for name in self._data_of(node)}
        found = (self._stored(name) for name in self.constants if name in used)
        return (weight for weight in found if weight.elements > 1 and weight.bits)

    def _data_of(self, node: onnx.NodeProto) -> list[str]:
        """The inputs that are neither scales, zero points, sizes nor left out."""
        if node.op_type == "Mul" and any(map(self._is_dynamic_scale, node.input)):
            return []  # the other factor is the scale of weights
        positions = _DATA_INPUTS.get(node.op_type, range(len(node.input)))
        return [node.input[position] for position in positions if position < len(node.input)]

    def _is_dynamic_scale(self, name: str) -> bool:
        node = self.producers.get(name)
        return node is not None and node.op_type == "DynamicQuantizeLinear" and name == node.output[1]

    def _stored(self, name: str) -> StoredWeight:
        tensor = self.constants[name]
        return StoredWeight(
            name, math.prod(tensor.dims), _BITS.get(tensor.data_type, 0), tensor.data_type not in _FLOATS
        )


def _operands(node: onnx.NodeProto) -> list[str]:
    """The two values that a MAC operation multiplies."""
    return [node.input[position] for position in _DATA_INPUTS.get(node.op_type, (0, 1))[:2]]


# Execution


@dataclass(frozen=True)
class _Executed:
    """The optimized graph, and the shape and element type of every value in one run of it."""

    graph: _Graph
    shapes: Mapping[str, Shape]
    types: Mapping[str, str]

    def shape(self, name: str) -> Shape:
        tensor = self.graph.constants.get(name)
        return tuple(tensor.dims) if tensor is not None else self.shapes[name]


def _execute(model: onnx.ModelProto, name: str) -> tuple[_Executed, int]:
    """Run once what ONNX Runtime makes of a model; also the number of images that it was given."""
    with tempfile.TemporaryDirectory() as folder:
        optimized_path = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns that the optimized graph is for this processor only
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.optimized_model_filepath = str(optimized_path)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "trace")
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                # The blocked layout of float convolutions pads their channels: the same arithmetic, but not its MACs.
                disabled_optimizers=["NchwcTransformer"],
            )
            given = {each.name: _blank(each, name) for each in session.get_inputs()}
            session.run(None, given)
        except CannotRunHere:
            raise
        except Exception as error:  # the classes that it raises are private to its C++ binding
            raise DamagedFileError(f"onnxruntime cannot run {name}: {error}") from error
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        graph = _Graph(onnx.load(str(optimized_path)).graph)
    shapes, types = _traced(graph, events)
    shapes |= {each: value.shape for each, value in given.items()}
    image = next(iter(given.values()))
    return _Executed(graph, shapes, types), image.shape[0] if image.ndim == 4 else 1


def _blank(declared: onnxruntime.NodeArg, name: str) -> np.ndarray:
    """One image of mid-grey, or a batch where its size is fixed."""
    batch, *sides = declared.shape
    if not all(isinstance(side, int) for side in sides) or declared.type not in _NUMPY:
        raise CannotRunHere(f"{name}: the input {declared.name!r} is {declared.type} of {declared.shape}")
    shape = (batch if isinstance(batch, int) else 1, *sides)
    return np.full(shape, 0.5 if "float" in declared.type else 100, _NUMPY[declared.type])


def _traced(graph: _Graph, events: list[dict]) -> tuple[dict[str, Shape], dict[str, str]]:
    """Shapes and element types by value. Raises: CannotRunHere when a node of the optimized graph left no trace."""
    found = {e["name"]: e["args"] for e in events if e["name"].endswith("_kernel_time")}
    named = {f"{name}_kernel_time" for name in graph.by_name}
    # Nodes that the runtime itself puts in for an operator (a Softmax of float16) have no name: told by type and order.
    nameless = defaultdict(deque)
    for name, run in found.items():
        if name not in named:
            nameless[run["op_name"]].append(run)
    shapes, types = {}, {}
    for node in graph.nodes:
        run = found.get(f"{node.name}_kernel_time") or next(iter(nameless[node.op_type]), None)
        if run is None:
            raise CannotRunHere(f"onnxruntime left no trace of {node.name} ({node.op_type})")
        if not node.name:
            nameless[node.op_type].popleft()
        for output, entry in zip((o for o in node.output if o), run["output_type_shape"], strict=False):
            ((types[output], sides),) = entry.items()
            shapes[output] = tuple(sides)
    return shapes, types


# Operations


def _operation(node: onnx.NodeProto, executed: _Executed, shipped: _Graph, images: int) -> MacOperation:
    name = _GIVEN_NAME.sub("", node.name)
    weight = shipped.weight_of(shipped.by_name[name]) if name in shipped.by_name else executed.graph.weight_of(node)
    return MacOperation(
        name=_TOOLS_NAME.sub("", name),
        type=node.op_type,
        kind=_kind(node, executed, weight),
        macs=_count(node, executed) // images,
        weight_bytes=weight.bytes if weight else 0,
        weight_bits=weight.bits if weight else 0,
    )


def _kind(node: onnx.NodeProto, executed: _Executed, weight: StoredWeight | None) -> str:
    if node.op_type == "DynamicQuantizeMatMul":
        return DYNAMIC
    if node.op_type not in _INTEGER:
        return WEIGHT_ONLY if weight and weight.is_integer else FLOAT
    activations = executed.graph.producers.get(executed.graph.source(node.input[0]))
    if activations is not None and activations.op_type == "DynamicQuantizeLinear":
        return DYNAMIC
    return _FAMILIES[executed.types.get(node.input[0], "int8")]


def _count(node: onnx.NodeProto, executed: _Executed) -> int:
    """Multiply-accumulates of one run."""
    first, second = (executed.shape(name) for name in _operands(node))
    outputs = math.prod(executed.shapes[node.output[0]])
    if node.op_type in _CONVOLUTIONS:  # weights (O, I/groups, *kernel) in whatever layout the maps are
        return outputs * math.prod(second[1:])
    if node.op_type in _TRANSPOSED:  # weights (I, O/groups, *kernel)
        return math.prod(first) * math.prod(second[1:])
    attributes = {a.name: a.i for a in node.attribute}
    if node.op_type == "MatMulNBits":
        return outputs * attributes["K"]
    if attributes.get("transBatchA"):
        raise CannotRunHere(f"the multiply-accumulates of {node.op_type} with transBatchA are not counted")
    return outputs * first[-2 if attributes.get("transA") else -1]

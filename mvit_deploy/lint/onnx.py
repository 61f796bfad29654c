"""Lint of ONNX files: the graph with the shapes that onnx infers, against ONNX Runtime and its execution providers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, shape_inference

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.lint import Findings, LintResult, Operator
from mvit_deploy.lint.rules import COREML_EP, NNAPI_EP, ORT_MOBILE, XNNPACK_EP
from mvit_deploy.lint.supported import COREML_EP as COREML_EP_TAKES
from mvit_deploy.lint.supported import COREML_EP_RANK, MAX_IR, MAX_OPSET, ORT_MOBILE_OPSETS
from mvit_deploy.lint.supported import NNAPI_EP as NNAPI_EP_TAKES
from mvit_deploy.lint.supported import ORT_MOBILE as ORT_MOBILE_TAKES
from mvit_deploy.lint.supported import XNNPACK_EP as XNNPACK_EP_TAKES

_TRANSPOSES = ("Transpose",)
_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_STANDARD = ("", "ai.onnx", "ai.onnx.ml")
_CONTRIB = "com.microsoft"
_LISTS = (
    ("nnapi-ep-operator", NNAPI_EP_TAKES),
    ("coreml-ep-operator", COREML_EP_TAKES),
    ("xnnpack-ep-operator", XNNPACK_EP_TAKES),
    ("ort-mobile-operator", ORT_MOBILE_TAKES),
)
_SIXTEEN_BITS = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.INT16: "int16",
    TensorProto.UINT16: "uint16",
}


@dataclass(frozen=True)
class _Type:
    """Element type and shape of a value, None for a side that is free."""

    element: int
    shape: tuple[int | None, ...]

    @property
    def has_free_size(self) -> bool:
        return None in self.shape[1:]

    def __str__(self) -> str:
        return f"[{', '.join('?' if side is None else str(side) for side in self.shape)}]"


def lint(path: Path) -> LintResult:
    """Hold an .onnx file to the rules. Raises: DamagedFileError."""
    model = _load(path)
    nodes = [node for node in _nodes(model.graph) if node.op_type != "Constant"]
    operators = [Operator(i, _type_of(node), node.name or "".join(node.output[:1])) for i, node in enumerate(nodes)]
    found = Findings(operators)
    _check_file(model, found)
    types = _types(model)
    detections = _detections(nodes)
    has_fixed_inputs = _check_inputs(model.graph, found)
    for node, operator in zip(nodes, operators, strict=True):
        _check_operator(node, operator, found)
        _check_tensors(node, operator, types, found)
        if detections.intersection(node.output):
            found.add("detections-size", operator)
        elif has_fixed_inputs:
            _check_sizes(node, operator, types, found)
    return found.result(
        operators=operators,
        transposes=_TRANSPOSES,
        reshapes=_RESHAPES,
        consumers=(NNAPI_EP, COREML_EP, XNNPACK_EP, ORT_MOBILE),
    )


def _load(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        raise DamagedFileError(f"onnx cannot read {path.name}: {error}") from error


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes in the file's order, those of branches and loops after the node that holds them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _nodes(inner)


def _type_of(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in _STANDARD else f"{node.domain}:{node.op_type}"


def _check_file(model: onnx.ModelProto, found: Findings) -> None:
    for tensor in model.graph.initializer:
        if external_data_helper.uses_external_data(tensor):
            place = external_data_helper.ExternalDataInfo(tensor).location
            found.add("external-data", tensor=tensor.name, what=place)
    if model.ir_version > MAX_IR:
        found.add("ir-too-new", what=f"IR {model.ir_version}")
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > MAX_OPSET:
            found.add("opset-too-new", what=f"opset {entry.version}")
        if entry.domain in ("", "ai.onnx") and entry.version not in ORT_MOBILE_OPSETS:
            found.add("ort-mobile-opset", what=f"opset {entry.version}")


def _types(model: onnx.ModelProto) -> dict[str, _Type]:
    """What is known of values, as the file says and as onnx infers; nothing of what neither does.

    Raises: DamagedFileError for a graph whose shapes contradict each other.
    """
    try:
        inferred = shape_inference.infer_shapes(model, data_prop=True)
    except (shape_inference.InferenceError, ValueError) as error:
        raise DamagedFileError(f"the shapes of its graph cannot be told: {error}") from error
    values = [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]
    return {value.name: _type(value) for value in values if value.type.tensor_type.HasField("shape")}


def _type(value: onnx.ValueInfoProto) -> _Type:
    tensor = value.type.tensor_type
    sides = tuple(side.dim_value if side.HasField("dim_value") else None for side in tensor.shape.dim)
    return _Type(tensor.elem_type, sides)


def _detections(nodes: list[onnx.NodeProto]) -> set[str]:
    """Values that come out of a suppression of boxes, whose number is not known before, or are computed from one."""
    found: set[str] = set()
    for node in nodes:
        if node.op_type == "NonMaxSuppression" or found.intersection(node.input):
            found.update(node.output)
    return found


def _check_inputs(graph: onnx.GraphProto, found: Findings) -> bool:
    """Returns: whether all sizes of all inputs are fixed; otherwise those of other values are as free as they."""
    weights = {tensor.name for tensor in graph.initializer}
    given = {value.name: _type(value) for value in graph.input if value.name not in weights}
    for name, declared in given.items():
        if declared.has_free_size:
            found.add("onnx-free-size", tensor=name, what=str(declared))
        elif declared.shape[:1] == (None,):
            found.add("onnx-free-batch", tensor=name, what=str(declared))
        elif len(declared.shape) > 1 and declared.shape[0] != 1:
            found.add("onnx-batch", tensor=name, what=str(declared))
    return not any(None in declared.shape for declared in given.values())


def _check_operator(node: onnx.NodeProto, operator: Operator, found: Findings) -> None:
    if node.domain == _CONTRIB:
        found.add("contrib-operator", operator)
    elif node.domain not in _STANDARD:
        found.add("unknown-domain", operator, what=node.domain)
    for rule, taken in _LISTS:
        if operator.type not in taken:
            found.add(rule, operator)


def _check_tensors(node: onnx.NodeProto, operator: Operator, types: dict[str, _Type], found: Findings) -> None:
    known = [types[name] for name in node.input if name in types]
    if any(len(each.shape) > COREML_EP_RANK for each in known):
        found.add("coreml-ep-rank", operator, what=str(max(known, key=lambda each: len(each.shape))))
    values = [types[name] for name in (*node.input[:1], *node.output[:1]) if name in types]
    narrow = next((_SIXTEEN_BITS[each.element] for each in values if each.element in _SIXTEEN_BITS), None)
    if narrow is not None:
        found.add("nnapi-ep-type", operator, what=narrow)


def _check_sizes(node: onnx.NodeProto, operator: Operator, types: dict[str, _Type], found: Findings) -> None:
    """Sizes that hang on what is computed; where one is free, those that follow from it are not told again."""
    is_told = any(None in types[name].shape for name in node.input if name in types)
    for name in node.output:
        if name in types and None in types[name].shape and not is_told:
            found.add("onnx-free-size", operator, tensor=name, what=str(types[name]))

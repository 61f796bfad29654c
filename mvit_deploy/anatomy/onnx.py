"""The raw facts of ONNX files, from their protobuf."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper

from mvit_deploy.anatomy import Anatomy, Feature
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.metadata import PREFIX
from mvit_deploy.runtimes.census import onnx as census

_STANDARD = ("", "ai.onnx")
_NAMES = {
    TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64", TensorProto.BFLOAT16: "bfloat16",
}  # fmt: skip  # the others are called as ONNX calls them, in lower case
# Bits of an element; strings and complex numbers are left out.
_BITS = {
    TensorProto.FLOAT: 32, TensorProto.DOUBLE: 64, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16,
    TensorProto.INT8: 8, TensorProto.UINT8: 8, TensorProto.INT16: 16, TensorProto.UINT16: 16, TensorProto.INT32: 32,
    TensorProto.UINT32: 32, TensorProto.INT64: 64, TensorProto.UINT64: 64, TensorProto.BOOL: 8, TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
}  # fmt: skip


def dissect(path: Path) -> Anatomy:
    """Raises: DamagedFileError."""
    model = _load(path)
    merged = onnx.GraphProto()  # branches and loops included
    for graph in _graphs(model.graph):
        merged.node.extend(graph.node)
        merged.initializer.extend(graph.initializer)
    external = _check_tensors(merged, path.parent)
    constants = {tensor.name for tensor in merged.initializer}
    return Anatomy(
        specification=_specification(model),
        inputs=tuple(_feature(value) for value in model.graph.input if value.name not in constants),
        outputs=tuple(map(_feature, model.graph.output)),
        operators=dict(Counter(_type_of(n) for n in merged.node if n.op_type != "Constant").most_common()),
        weights=census.weights(merged),
        entries=_entries(model),
        native=_native(model),
        external=external,
    )


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        raise DamagedFileError(f"onnx cannot read {path.name}: {error}") from error
    if not model.HasField("graph") or not model.opset_import:
        raise DamagedFileError(f"{path.name} holds no ONNX graph")
    return model


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its operators."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _graphs(inner)


def _type_of(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in _STANDARD else f"{node.domain}:{node.op_type}"


def _check_tensors(graph: onnx.GraphProto, folder: Path) -> tuple[str, ...]:
    """The files that weights stand in. Raises: DamagedFileError for a tensor whose bytes are not there."""
    external = set()
    for tensor in graph.initializer:
        if external_data_helper.uses_external_data(tensor):
            external.add(external_data_helper.ExternalDataInfo(tensor).location)
            continue
        bits, elements = _BITS.get(tensor.data_type), 1
        for side in tensor.dims:
            elements *= side
        if bits and tensor.HasField("raw_data") and len(tensor.raw_data) != -(-elements * bits // 8):
            raise DamagedFileError(f"the tensor {tensor.name!r} has {len(tensor.raw_data)} bytes for {elements} values")
    missing = sorted(name for name in external if not (folder / name).is_file())
    if missing:
        raise DamagedFileError(f"its weights stand in {', '.join(missing)}, which is not beside it")
    return tuple(sorted(external))


def _specification(model: onnx.ModelProto) -> dict[str, str]:
    opsets = {entry.domain or "ai.onnx": str(entry.version) for entry in model.opset_import}
    standard = opsets.pop("ai.onnx", None)
    found = {} if standard is None else {"opset": standard}
    return found | {f"opset of {domain}": version for domain, version in opsets.items()} | {"IR": str(model.ir_version)}


def _feature(value: onnx.ValueInfoProto) -> Feature:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return Feature(value.name, None, (kind or "nothing").removesuffix("_type"), text=value.doc_string)
    tensor = value.type.tensor_type
    sides = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in tensor.shape.dim)
    shape = sides if tensor.HasField("shape") else None
    return Feature(value.name, shape, _dtype(tensor.elem_type), text=value.doc_string)


def _dtype(number: int) -> str:
    if number in _NAMES:
        return _NAMES[number]
    known = number in TensorProto.DataType.values()
    return TensorProto.DataType.Name(number).lower() if known else f"type {number}"


def _entries(model: onnx.ModelProto) -> dict[str, str]:
    """Raises: DamagedFileError where this project's are there twice: readers would choose."""
    keys = [entry.key for entry in model.metadata_props]
    twice = sorted({key for key in keys if key.startswith(PREFIX) and keys.count(key) > 1})
    if twice:
        raise DamagedFileError(f"the metadata {', '.join(twice)} are there more than once")
    return {entry.key: entry.value for entry in model.metadata_props}


def _native(model: onnx.ModelProto) -> dict[str, object]:
    said = {
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "domain": model.domain,
        "model_version": model.model_version,
        "description": model.doc_string,
        "graph": model.graph.name,
        "graph_description": model.graph.doc_string,
    }
    return {key: value for key, value in said.items() if value}

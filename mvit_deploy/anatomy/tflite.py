"""The raw facts of TFLite files, from their flatbuffers."""

import json
import math
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mvit_deploy.anatomy import Anatomy, Feature
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import tflite_metadata
from mvit_deploy.runtimes.census import StoredWeight
from mvit_deploy.runtimes.census import tflite as census
from mvit_deploy.runtimes.tflite_file import CUSTOM, METADATA_NAME, check, parse
from mvit_deploy.runtimes.tflite_metadata import TaskMetadata

_OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_TYPES = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
_BITS = {
    "float16": 16, "float32": 32, "float64": 64, "int4": 4, "int8": 8, "uint8": 8, "int16": 16, "uint16": 16,
    "int32": 32, "uint32": 32, "int64": 64, "uint64": 64, "bool": 8,
}  # fmt: skip
_VERSION = 3  # of the schema, Model.version
_UNREADABLE = (struct.error, ValueError, IndexError, TypeError, AttributeError, OverflowError)  # of flatbuffers


def dissect(path: Path) -> Anatomy:
    """Raises: DamagedFileError."""
    try:
        content = path.read_bytes()
        check(content)
        return _dissected(parse(content), content)
    except (OSError, *_UNREADABLE) as error:
        raise DamagedFileError(f"{path.name} is no sound TFLite file: {error}") from error


def _dissected(model: schema.ModelT, content: bytes) -> Anatomy:
    _check_tensors(model)
    task = tflite_metadata.read(content)
    inputs, outputs = _features(model)
    types = [_type_of(model.operatorCodes[each.opcodeIndex]) for graph in model.subgraphs for each in _operators(graph)]
    weights, unknown = _weights(model)
    return Anatomy(
        specification={"schema": str(model.version or _VERSION)},
        inputs=inputs,
        outputs=outputs,
        operators=dict(Counter(types).most_common()),
        operator_versions=_versions(model),
        weights=weights,
        unknown=unknown,
        entries=_entries(model),
        native=_native(model, task),
        labels=None if task is None else next((each.labels for each in task.outputs if each.labels is not None), None),
    )


def _operators(graph: schema.SubGraphT) -> list[schema.OperatorT]:
    return [] if graph.operators is None else list(graph.operators)


def _type_of(code: schema.OperatorCodeT) -> str:
    """The type's name; of a custom operator its own. Files of old have the number in a byte of its own (schema.fbs)."""
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == CUSTOM:
        return (code.customCode or b"?").decode(errors="replace")
    return _OPERATORS.get(number, f"operator {number}")


def _versions(model: schema.ModelT) -> dict[str, tuple[int, ...]]:
    """The versions of each operator that the graphs use."""
    found = defaultdict(set)
    for graph in model.subgraphs:
        for operator in _operators(graph):
            code = model.operatorCodes[operator.opcodeIndex]
            found[_type_of(code)].add(int(code.version))
    return {type_: tuple(sorted(versions)) for type_, versions in found.items()}


def _check_tensors(model: schema.ModelT) -> None:
    """Raises: DamagedFileError for a constant that is shorter or longer than its shape."""
    sizes = [0 if buffer.data is None else len(buffer.data) for buffer in model.buffers]
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        bits, size = _BITS.get(_TYPES.get(tensor.type, "")), sizes[tensor.buffer]
        elements = math.prod(_shape(tensor.shape))
        if size and bits and tensor.sparsity is None and size != math.ceil(elements * bits / 8):
            raise DamagedFileError(f"the tensor {_text(tensor.name)!r} has {size} bytes for {elements} values")


def _shape(sides: np.ndarray | None) -> tuple[int, ...]:
    return () if sides is None else tuple(int(side) for side in sides)  # None: a scalar


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="replace")


def _weights(model: schema.ModelT) -> tuple[tuple[StoredWeight, ...] | None, str]:
    try:
        return census.weights(model), ""
    except KeyError as error:
        return None, f"operator {error} is newer than the schema here"


def _features(model: schema.ModelT) -> tuple[tuple[Feature, ...], tuple[Feature, ...]]:
    """Inputs and outputs, by the names of the first signature where there is one."""
    if not model.signatureDefs:
        graph = model.subgraphs[0]
        return tuple(
            tuple(_feature(_text(graph.tensors[i].name), graph.tensors[i]) for i in ([] if at is None else at))
            for at in (graph.inputs, graph.outputs)
        )
    signature = model.signatureDefs[0]
    graph = model.subgraphs[signature.subgraphIndex]
    return tuple(
        tuple(_feature(_text(entry.name), graph.tensors[entry.tensorIndex]) for entry in entries or [])
        for entries in (signature.inputs, signature.outputs)
    )


def _feature(name: str, tensor: schema.TensorT) -> Feature:
    signature = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    scale, zero_point = None, None
    code = tensor.quantization
    if code is not None and code.scale is not None and len(code.scale) == 1:
        scale = float(code.scale[0])
        zero_point = 0 if code.zeroPoint is None or not len(code.zeroPoint) else int(code.zeroPoint[0])
    return Feature(name, _shape(signature), _TYPES.get(tensor.type, f"type {tensor.type}"), scale, zero_point)


def _payloads(model: schema.ModelT) -> Iterator[tuple[str, bytes]]:
    for entry in model.metadata or []:
        data = model.buffers[entry.buffer].data
        yield _text(entry.name), b"" if data is None else bytes(data)


def _entries(model: schema.ModelT) -> dict[str, str]:
    """This project's metadata. Raises: ValueError where they are no JSON object of strings."""
    payload = dict(_payloads(model)).get(METADATA_NAME)
    entries = {} if payload is None else json.loads(payload)
    if not isinstance(entries, dict) or not all(isinstance(value, str) for value in entries.values()):
        raise ValueError(f"the metadata {METADATA_NAME!r} are no JSON object of strings")
    return entries


def _native(model: schema.ModelT, task: TaskMetadata | None) -> dict[str, object]:
    found: dict[str, object] = {
        "description": _text(model.description),
        "signatures": [_text(each.signatureKey) for each in model.signatureDefs or []],
        "metadata": [name for name, _ in _payloads(model)],
        "min_runtime": next(
            (_text(data.rstrip(b"\0")) for name, data in _payloads(model) if name == "min_runtime_version"), ""
        ),
        "graphs": len(model.subgraphs) if len(model.subgraphs) > 1 else 0,
        "tflite_metadata": None if task is None else _plain(asdict(task)),
    }
    return {key: value for key, value in found.items() if value}


def _plain(said: object) -> object:
    """Without what is not said, and without labels, which stand elsewhere."""
    if isinstance(said, dict):
        kept = {key: _plain(value) for key, value in said.items() if key != "labels"}
        return {key: value for key, value in kept.items() if value not in (None, "", [], {})}
    return [_plain(each) for each in said] if isinstance(said, list | tuple) else said

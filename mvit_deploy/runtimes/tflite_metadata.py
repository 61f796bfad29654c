"""TFLite Metadata of a file: what MediaPipe Tasks, Task Library and Android Studio read of it.

A flatbuffer stands in the file under the name TFLITE_METADATA; files that it names, such as labels, follow the model as
a zip archive. Source: ai.google.dev/edge/litert/models/metadata; MediaPipe reads both in tasks/cc/metadata/
metadata_extractor.cc.
"""

import io
import struct
import zipfile
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as model_schema

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import tflite_schema as schema
from mvit_deploy.runtimes.tflite_file import read_metadata
from mvit_deploy.spec import Interface

FIELD = "TFLITE_METADATA"
SEGMENTER_FIELD = "SEGMENTER_METADATA"  # as MediaPipe's ImageSegmenter looks for it
LABEL_FILE = "labels.txt"
# Outputs of TFLite_Detection_PostProcess, as MediaPipe's ObjectDetector looks for them (object_detector_graph.cc).
DETECTION_NAMES = {"boxes": "location", "classes": "category", "scores": "score", "count": "number of detections"}
DETECTION_BOX_ORDER = (1, 0, 3, 2)  # where left, top, right and bottom are: the operator puts top in front of left
_COLORS = {schema.COLOR_RGB: "RGB", schema.COLOR_GRAYSCALE: "GRAYSCALE"}
_ACTIVATIONS = {
    schema.ACTIVATION_NONE: "none", schema.ACTIVATION_SIGMOID: "sigmoid", schema.ACTIVATION_SOFTMAX: "softmax",
}  # fmt: skip
_LABELS_OF = {schema.AXIS_LABELS: "axis", schema.VALUE_LABELS: "values"}
_CLOSE = 1e-5  # the numbers are float32
_UNREADABLE = (
    struct.error, ValueError, IndexError, TypeError, OverflowError, KeyError, EOFError, RuntimeError, OSError,
    NotImplementedError, zipfile.BadZipFile,
)  # fmt: skip  # what flatbuffers and zipfile raise


@dataclass(frozen=True)
class TensorMetadata:
    """An input or output as TFLite Metadata describe it; None and nothing are not said.

    content: image, boxes, feature. color: RGB, GRAYSCALE, or UNKNOWN, which is all that there is for BGR. image_size:
    (height, width). mean, std: a pixel p is given as (p - mean) / std, one number or one a channel. box_order: where
    left, top, right and bottom are. labels_of: axis, where each label is a place; values, where it is a number.
    """

    name: str
    description: str = ""
    content: str = ""
    color: str | None = None
    image_size: tuple[int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()
    box_order: tuple[int, ...] | None = None
    labels: tuple[str, ...] | None = None
    labels_of: str | None = None


@dataclass(frozen=True)
class TaskMetadata:
    """All of a model's TFLite Metadata that tells what it does.

    groups: name and names of the outputs of each. activation: none, sigmoid or softmax, what a segmenter's scores still
    need.
    """

    name: str
    description: str
    version: str | None
    author: str | None
    license: str | None
    min_parser_version: str | None
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    activation: str | None = None


def read(content: bytes) -> TaskMetadata | None:
    """The TFLite Metadata of a .tflite file's content, None where it has none.

    Raises: DamagedFileError when they, or a file that they name, cannot be read.
    """
    try:
        payload = read_metadata(content, FIELD)
        if payload is None:
            return None
        return _task(schema.decode(schema.MODEL, payload), content)
    except _UNREADABLE as error:
        raise DamagedFileError(f"the TFLite Metadata cannot be read: {error}") from error


def output_names(content: bytes) -> tuple[str, ...]:
    """Names of the outputs by the first signature, in the order of the graph, which is that of the metadata.

    Raises: ValueError for an output without a name, and what flatbuffers raises.
    """
    model = model_schema.Model.GetRootAs(content, 0)
    signature = model.SignatureDefs(0)
    entries = [signature.Outputs(index) for index in range(signature.OutputsLength())]
    names = {entry.TensorIndex(): entry.Name().decode() for entry in entries}
    outputs = [int(index) for index in model.Subgraphs(signature.SubgraphIndex()).OutputsAsNumpy()]
    if set(outputs) - set(names):
        raise ValueError("an output of the graph is none of its signature")
    return tuple(names[index] for index in outputs)


# From tables


def _task(model: schema.Table, content: bytes) -> TaskMetadata:
    graphs = model.get("subgraph_metadata", [])
    if len(graphs) != 1:
        raise ValueError(f"they describe {len(graphs)} graphs, not 1")
    graph = graphs[0]
    groups = graph.get("output_tensor_groups", [])
    return TaskMetadata(
        name=model.get("name", ""),
        description=model.get("description", ""),
        version=model.get("version"),
        author=model.get("author"),
        license=model.get("license"),
        min_parser_version=model.get("min_parser_version"),
        inputs=tuple(_tensor(table, content) for table in graph.get("input_tensor_metadata", [])),
        outputs=tuple(_tensor(table, content) for table in graph.get("output_tensor_metadata", [])),
        groups=tuple((group.get("name", ""), tuple(group.get("tensor_names", []))) for group in groups),
        activation=_activation(graph.get("custom_metadata", [])),
    )


def _activation(entries: list[schema.Table]) -> str | None:
    for entry in entries:
        if entry.get("name") == SEGMENTER_FIELD:
            return _ACTIVATIONS[schema.decode(schema.SEGMENTER, entry["data"]).get("activation", 0)]
    return None


def _tensor(table: schema.Table, content: bytes) -> TensorMetadata:
    units = dict(unit["options"] for unit in table.get("process_units", []) if "options" in unit)
    normalization, stats = units.get("NormalizationOptions", {}), table.get("stats", {})
    labels, labels_of = _labels(table.get("associated_files", []), content)
    return TensorMetadata(
        name=table.get("name", ""),
        description=table.get("description", ""),
        mean=tuple(normalization.get("mean", ())),
        std=tuple(normalization.get("std", ())),
        minimum=tuple(stats.get("min", ())),
        maximum=tuple(stats.get("max", ())),
        labels=labels,
        labels_of=labels_of,
        **_properties(table.get("content", {})),
    )


def _properties(content: schema.Table) -> dict[str, object]:
    kind, values = content.get("content_properties", ("", {}))
    if kind == "ImageProperties":
        size = values.get("default_size")
        return {
            "content": "image",
            "color": _COLORS.get(values.get("color_space", schema.COLOR_UNKNOWN), "UNKNOWN"),
            "image_size": size and (size.get("height", 0), size.get("width", 0)),
        }
    if kind == "BoundingBoxProperties":
        return {"content": "boxes", "box_order": tuple(values.get("index", ())) or (0, 1, 2, 3)}
    return {"content": "feature" if kind == "FeatureProperties" else ""}


# Files


def _labels(files: list[schema.Table], content: bytes) -> tuple[tuple[str, ...] | None, str | None]:
    """Labels of the first file of labels that is of no language, and what they are of."""
    for file in files:
        if file.get("type") in _LABELS_OF and not file.get("locale"):
            lines = _read_file(content, file.get("name", "")).decode("utf-8").split("\n")
            return tuple(lines if lines[-1] else lines[:-1]), _LABELS_OF[file["type"]]
    return None, None


def _read_file(content: bytes, name: str) -> bytes:
    """A file behind the model. Raises: ValueError where it is not, or is compressed, which MediaPipe does not read."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        info = archive.getinfo(name)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{name!r} is named and is not behind the model") from error
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(content):
        raise ValueError(f"{name!r} behind the model is compressed or larger than the whole")
    return archive.read(info)


# Whether all that a file says is the same


def disagreement(task: TaskMetadata, interface: Interface, names: tuple[str, ...]) -> str | None:
    """The first point in which TFLite Metadata say another thing than tensors and the project's own metadata, as a
    clause; None when there is none. names: of the outputs, in the order of the graph."""
    if len(task.inputs) != 1 or len(interface.inputs) != 1 or len(task.outputs) != len(names):
        return f"{len(task.inputs)} inputs and {len(task.outputs)} outputs are described"
    return (
        _of_input(task.inputs[0], interface)
        or _of_labels(task, interface)
        or _of_detections(task, interface, names)
        or _of_activation(task, interface, names)
    )


def _of_input(tensor: TensorMetadata, interface: Interface) -> str | None:
    declared = interface.inputs[0]
    if len(tensor.mean) != len(tensor.std) or len(tensor.mean) not in (1, 3) or 0 in tensor.std:
        return f"the input has mean {tensor.mean} and deviation {tensor.std}"
    ends = np.array([((pixel - np.array(tensor.mean)) / np.array(tensor.std)) for pixel in (0, 255)])
    low, high = declared.range
    if not np.abs(ends - np.array([[low], [high]])).max() <= _CLOSE * (high - low):
        return f"mean {tensor.mean} and deviation {tensor.std} do not give values from {low:g} to {high:g}"
    wanted = "RGB" if declared.color_order == "RGB" else "UNKNOWN"
    if tensor.content != "image" or tensor.color != wanted:
        return f"the input's colours are {tensor.color}, elsewhere {declared.color_order}"
    if tensor.image_size != tuple(declared.shape[1:3]):
        return f"the image is {tensor.image_size}, its tensor {tuple(declared.shape[1:3])}"
    return None


def _of_labels(task: TaskMetadata, interface: Interface) -> str | None:
    expected = interface.labels
    if expected is not None and interface.suppression is not None:
        expected = expected[1:]  # its classes are counted from behind the background
    found = [tensor.labels for tensor in task.outputs if tensor.labels is not None]
    if expected is None:
        return f"labels ({found[0][:3]}, …), elsewhere none" if found else None
    if not found:
        return "no labels, elsewhere some"
    for labels in found:
        if len(labels) != len(expected):
            return f"{len(labels)} labels, elsewhere {len(expected)}"
        for place, (label, other) in enumerate(zip(labels, expected, strict=True)):
            if label != other:
                return f"label {place} is {label!r}, elsewhere {other!r}"
    return None


def _of_detections(task: TaskMetadata, interface: Interface, names: tuple[str, ...]) -> str | None:
    if interface.suppression is None:
        return None
    found = tuple(tensor.name for tensor in task.outputs)
    if found != tuple(DETECTION_NAMES.get(name, name) for name in names):
        return f"the outputs are called {', '.join(found)}, in the order of {', '.join(names)}"
    orders = {tensor.name: tensor.box_order for tensor in task.outputs}
    order = orders.get(DETECTION_NAMES["boxes"])
    return None if order == DETECTION_BOX_ORDER else f"the sides of boxes are ordered {order}"


def _of_activation(task: TaskMetadata, interface: Interface, names: tuple[str, ...]) -> str | None:
    if interface.declared.task != "segmentation" or "logits" not in names:
        return None
    return (
        None if task.activation == "softmax" else f"a segmenter that gives logits has the activation {task.activation}"
    )

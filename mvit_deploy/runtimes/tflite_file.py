"""Named byte strings inside a TFLite file (Model.metadata), and what has to be in it before LiteRT may open it.

Needs flatbuffers and the schema of ai_edge_litert only.
"""

import struct

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

METADATA_NAME = "mvit_deploy"  # a JSON object of strings
DETECTION = b"TFLite_Detection_PostProcess"  # a custom operator that every LiteRT has built in
_DETECTION_OPTIONS = (
    "max_detections", "max_classes_per_detection", "detections_per_class", "use_regular_nms", "nms_score_threshold",
    "nms_iou_threshold", "num_classes", "y_scale", "x_scale", "h_scale", "w_scale",
)  # fmt: skip
CUSTOM = schema.BuiltinOperator.CUSTOM
_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16  # what the schema asks of Buffer.data (force_align: 16); the Python writer does not do it by itself


def add_metadata(model: bytes, name: str, payload: bytes) -> bytes:
    """The model with a named payload added, or replaced if the name is taken. Same input, same bytes."""
    content = parse(model)
    content.metadata = content.metadata or []
    entry = next((entry for entry in content.metadata if entry.name == name.encode()), None)
    if entry is None:
        entry = schema.MetadataT()
        entry.name, entry.buffer = name.encode(), len(content.buffers)
        content.metadata.append(entry)
        content.buffers.append(schema.BufferT())
    content.buffers[entry.buffer].data = np.frombuffer(payload, np.uint8)
    return pack(content)


def read_metadata(model: bytes, name: str) -> bytes | None:
    """The payload stored under a name, or None. Reads two table entries, not the weights."""
    content = schema.Model.GetRootAs(model, 0)
    for index in range(content.MetadataLength()):
        entry = content.Metadata(index)
        if entry.Name() == name.encode():
            buffer = content.Buffers(entry.Buffer())
            return buffer.DataAsNumpy().tobytes() if buffer.DataLength() else b""
    return None


def check(model: bytes) -> None:
    """Look at what LiteRT takes for granted: without it the process would end, and no error would say why.

    Raises: ValueError, and what flatbuffers raises.
    """
    content = schema.Model.GetRootAs(model, 0)
    graphs = [content.Subgraphs(index) for index in range(content.SubgraphsLength())]
    signatures = [content.SignatureDefs(index) for index in range(content.SignatureDefsLength())]
    if not graphs or any(signature.SubgraphIndex() >= len(graphs) for signature in signatures):
        raise ValueError("it has no graph, or a signature of none")
    codes = [content.OperatorCodes(index).CustomCode() for index in range(content.OperatorCodesLength())]
    for graph in graphs:
        for index in range(graph.OperatorsLength()):
            operator = graph.Operators(index)
            if operator.OpcodeIndex() < len(codes) and codes[operator.OpcodeIndex()] == DETECTION:
                detection_options(operator.CustomOptionsAsNumpy())


def detection_options(raw: np.ndarray) -> dict[str, float]:
    """The options of the operator that sorts boxes out. Raises: ValueError when they cannot be read."""
    try:
        options = flexbuffers.GetRoot(bytes(raw)).AsMap
        given = {name: options[name] for name in _DETECTION_OPTIONS}
        if not all(each.IsNumeric or each.IsBool for each in given.values()):
            raise TypeError("an option is no number")
        return {name: each.Value for name, each in given.items()}
    except (KeyError, TypeError, ValueError, IndexError, struct.error) as error:
        raise ValueError(f"the options of {DETECTION.decode()} cannot be read ({error!r})") from error


def parse(model: bytes) -> schema.ModelT:
    """The object form of a TFLite file."""
    return schema.ModelT.InitFromPackedBuf(model, 0)


def pack(model: schema.ModelT) -> bytes:
    """The file of an object form, every weight at a multiple of 16 bytes."""
    builder = _AlignedBuilder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


class _AlignedBuilder(flatbuffers.Builder):
    """A builder that puts every byte vector (weights and payloads are the only ones) on an aligned address."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        return super().StartVector(elemSize, numElems, _ALIGNMENT if elemSize == 1 else alignment)

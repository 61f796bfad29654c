"""Named byte strings inside a TFLite file (Model.metadata). Needs flatbuffers and the schema of ai_edge_litert only."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

METADATA_NAME = "mvit_deploy"  # a JSON object of strings
DETECTION = b"TFLite_Detection_PostProcess"  # a custom operator that every LiteRT has built in
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

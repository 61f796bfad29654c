"""Faults of TFLite Metadata: the flatbuffer edited, or the labels behind the model."""

import io
import zipfile
from collections.abc import Callable

from mvit_deploy.runtimes import tflite_schema as schema
from mvit_deploy.runtimes.tflite_file import add_metadata, pack, parse, read_metadata
from mvit_deploy.runtimes.tflite_metadata import FIELD, LABEL_FILE


def edited(content: bytes, edit: Callable[[schema.Table], None]) -> bytes:
    """A file with the table of its graph changed, all else and the labels as they were."""
    table = schema.decode(schema.MODEL, read_metadata(content, FIELD))
    edit(table["subgraph_metadata"][0])
    return with_label_text(add_metadata(content, FIELD, schema.encode(schema.MODEL, table)), label_text(content))


def label_text(content: bytes) -> str:
    return zipfile.ZipFile(io.BytesIO(content)).read(LABEL_FILE).decode()


def with_label_text(content: bytes, text: str) -> bytes:
    joined = io.BytesIO(flatbuffer_of(content))
    joined.seek(0, io.SEEK_END)
    with zipfile.ZipFile(joined, "w") as archive:
        archive.writestr(LABEL_FILE, text)
    return joined.getvalue()


def flatbuffer_of(content: bytes) -> bytes:
    """The model without what is behind it, as every tool that rewrites the flatbuffer leaves it."""
    return pack(parse(content))

"""Flatbuffers of TFLite Metadata to and from plain values, by a schema that stands here as data.

A table is a dictionary of the fields that are set, a vector a list, a union the pair of its table's name and value.

Source: metadata_schema.fbs 1.5.0 and image_segmenter_metadata_schema.fbs of google-ai-edge/mediapipe (mediapipe/tasks/
metadata); names and order of the fields are theirs. The first is that of tensorflow/tflite-support, continued.
Needs flatbuffers only.
"""

import struct
from collections.abc import Callable

import flatbuffers
from flatbuffers import number_types

MODEL, SEGMENTER = "ModelMetadata", "ImageSegmenterOptions"  # the root tables
IDENTIFIERS = {MODEL: b"M001", SEGMENTER: b"V001"}
# AssociatedFileType, ColorSpaceType, BoundingBoxType, CoordinateType, Activation
AXIS_LABELS, VALUE_LABELS = 2, 3
COLOR_UNKNOWN, COLOR_RGB, COLOR_GRAYSCALE = 0, 1, 2
BOUNDARIES = 1
RATIO = 0
ACTIVATION_NONE, ACTIVATION_SIGMOID, ACTIVATION_SOFTMAX = 0, 1, 2

_TABLES = {
    "AssociatedFile": ("name:string", "description:string", "type:byte", "locale:string", "version:string"),
    "FeatureProperties": (),
    "ImageSize": ("width:uint", "height:uint"),
    "ImageProperties": ("color_space:byte", "default_size:ImageSize"),
    "BoundingBoxProperties": ("index:[uint]", "type:byte", "coordinate_type:byte"),
    "AudioProperties": ("sample_rate:uint", "channels:uint"),
    "ValueRange": ("min:int", "max:int"),
    "Content": ("content_properties:ContentProperties", "range:ValueRange"),
    "NormalizationOptions": ("mean:[float]", "std:[float]"),
    "ScoreCalibrationOptions": ("score_transformation:byte", "default_score:float"),
    "ScoreThresholdingOptions": ("global_score_threshold:float",),
    "BertTokenizerOptions": ("vocab_file:[AssociatedFile]",),
    "SentencePieceTokenizerOptions": ("sentencePiece_model:[AssociatedFile]", "vocab_file:[AssociatedFile]"),
    "RegexTokenizerOptions": ("delim_regex_pattern:string", "vocab_file:[AssociatedFile]"),
    "ProcessUnit": ("options:ProcessUnitOptions",),
    "Stats": ("max:[float]", "min:[float]"),
    "TensorGroup": ("name:string", "tensor_names:[string]"),
    "TensorMetadata": (
        "name:string", "description:string", "dimension_names:[string]", "content:Content",
        "process_units:[ProcessUnit]", "stats:Stats", "associated_files:[AssociatedFile]",
    ),
    "CustomMetadata": ("name:string", "data:[ubyte]"),
    "SubGraphMetadata": (
        "name:string", "description:string", "input_tensor_metadata:[TensorMetadata]",
        "output_tensor_metadata:[TensorMetadata]", "associated_files:[AssociatedFile]",
        "input_process_units:[ProcessUnit]", "output_process_units:[ProcessUnit]", "input_tensor_groups:[TensorGroup]",
        "output_tensor_groups:[TensorGroup]", "custom_metadata:[CustomMetadata]",
    ),
    MODEL: (
        "name:string", "description:string", "version:string", "subgraph_metadata:[SubGraphMetadata]", "author:string",
        "license:string", "associated_files:[AssociatedFile]", "min_parser_version:string",
    ),
    SEGMENTER: ("activation:byte", "min_parser_version:string"),
}  # fmt: skip
_UNIONS = {  # the first is 1
    "ContentProperties": ("FeatureProperties", "ImageProperties", "BoundingBoxProperties", "AudioProperties"),
    "ProcessUnitOptions": (
        "NormalizationOptions", "ScoreCalibrationOptions", "ScoreThresholdingOptions", "BertTokenizerOptions",
        "SentencePieceTokenizerOptions", "RegexTokenizerOptions",
    ),
}  # fmt: skip
_FORMATS = {"byte": "b", "ubyte": "B", "int": "i", "uint": "I", "float": "f"}
_FLAGS = {
    "byte": number_types.Int8Flags, "ubyte": number_types.Uint8Flags, "int": number_types.Int32Flags,
    "uint": number_types.Uint32Flags, "float": number_types.Float32Flags,
}  # fmt: skip
_REFERENCE = 4
_ALIGNMENT = 16  # force_align of CustomMetadata.data, the only vector of bytes
_SHARING = 16  # how often, on average, a byte may be read: writers may share strings, bombs share everything

Table = dict[str, object]


def _slots(table: str) -> list[tuple[int, str, str]]:
    """Place, name and type of each field; a union takes two places, of which this is the first."""
    found, place = [], 0
    for field in _TABLES[table]:
        name, kind = field.split(":")
        found.append((place, name, kind))
        place += 2 if kind in _UNIONS else 1
    return found


# Writing


def encode(table: str, value: Table) -> bytes:
    """The flatbuffer of a root table. Same value, same bytes. Raises: KeyError for a field that the schema has not."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(_add_table(builder, table, value), file_identifier=IDENTIFIERS[table])
    return bytes(builder.Output())


def _add_table(builder: flatbuffers.Builder, table: str, value: Table) -> int:
    slots = _slots(table)
    unknown = set(value) - {name for _, name, _ in slots}
    if unknown:
        raise KeyError(f"{table} has no {sorted(unknown)}")
    made = {name: _add_child(builder, kind, value[name]) for _, name, kind in slots if name in value}
    builder.StartObject(sum(2 if kind in _UNIONS else 1 for _, _, kind in slots))
    for place, name, kind in slots:
        if name not in made:
            continue
        if kind in _FLAGS:
            builder.PrependSlot(_FLAGS[kind], place, made[name], 0)
        elif kind in _UNIONS:
            builder.PrependUint8Slot(place, _UNIONS[kind].index(value[name][0]) + 1, 0)
            builder.PrependUOffsetTRelativeSlot(place + 1, made[name], 0)
        else:
            builder.PrependUOffsetTRelativeSlot(place, made[name], 0)
    return builder.EndObject()


def _add_child(builder: flatbuffers.Builder, kind: str, value: object) -> object:
    """What a field holds: the number itself, or where what it refers to was written."""
    if kind in _FORMATS:
        return value
    if kind == "string":
        return builder.CreateString(value)
    if kind in _UNIONS:
        return _add_table(builder, *value)
    if kind in _TABLES:
        return _add_table(builder, kind, value)
    return _add_vector(builder, kind[1:-1], value)


def _add_vector(builder: flatbuffers.Builder, kind: str, values: list) -> int:
    if kind in _FLAGS:
        size = struct.calcsize(_FORMATS[kind])
        builder.StartVector(size, len(values), _ALIGNMENT if size == 1 else size)
        for value in reversed(values):
            builder.Prepend(_FLAGS[kind], value)
    else:
        places = [_add_child(builder, kind, value) for value in values]
        builder.StartVector(_REFERENCE, len(places), _REFERENCE)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
    return builder.EndVector()


# Reading


def decode(table: str, content: bytes) -> Table:
    """The root table of a flatbuffer that nobody vouches for, without what later schemas add.

    Raises: ValueError for another identifier, for what points outside, and for what would unfold without end.
    """
    if content[4:8] != IDENTIFIERS[table]:
        raise ValueError(f"identifier {content[4:8]!r}, expected {IDENTIFIERS[table]!r}")
    try:
        reader = _Reader(content)
        return reader.table(table, reader.follow(0))
    except struct.error as error:
        raise ValueError(f"{table} points outside its {len(content)} bytes") from error


class _Reader:
    """Reads with every place and size checked; what is shared is paid for each time."""

    def __init__(self, content: bytes) -> None:
        self._content, self._left = content, _SHARING * len(content)

    def table(self, table: str, at: int) -> Table:
        vtable = at - self._number("i", at)
        size = self._number("H", vtable)
        fields = {}
        for place, name, kind in _slots(table):
            field = self._field(at, vtable, size, place)
            if kind in _UNIONS:
                target = self._field(at, vtable, size, place + 1)
                chosen = self._number("B", field) if field and target else 0
                if 1 <= chosen <= len(_UNIONS[kind]):
                    member = _UNIONS[kind][chosen - 1]
                    fields[name] = (member, self.table(member, self.follow(target)))
            elif field:
                fields[name] = self._value(kind, field)
        return fields

    def follow(self, at: int) -> int:
        return at + self._number("I", at)

    def _field(self, at: int, vtable: int, size: int, place: int) -> int | None:
        """Where a field's value is; None where it is not set."""
        entry = 4 + 2 * place
        offset = self._number("H", vtable + entry) if entry + 2 <= size else 0
        return at + offset if offset else None

    def _value(self, kind: str, at: int) -> object:
        if kind in _FORMATS:
            return self._number(_FORMATS[kind], at)
        target = self.follow(at)
        if kind == "string":
            return self._elements("B", target, bytes).decode("utf-8")
        return self.table(kind, target) if kind in _TABLES else self._vector(kind[1:-1], target)

    def _vector(self, kind: str, at: int) -> list | bytes:
        if kind in _FORMATS:
            return self._elements(_FORMATS[kind], at, bytes if kind == "ubyte" else list)
        count = len(self._elements("I", at, list))
        return [self._value(kind, at + 4 + _REFERENCE * index) for index in range(count)]

    def _elements(self, letter: str, at: int, made: Callable[[tuple], list | bytes]) -> list | bytes:
        """Numbers of a vector, whose count is in front of them."""
        count = self._number("I", at)
        self._pay(count * struct.calcsize(letter))
        return made(self._unpack(f"<{count}{letter}", at + 4))

    def _number(self, letter: str, at: int) -> int | float:
        self._pay(1)
        return self._unpack(f"<{letter}", at)[0]

    def _unpack(self, form: str, at: int) -> tuple:
        if at < 0:
            raise struct.error("a place in front of the content")
        return struct.unpack_from(form, self._content, at)

    def _pay(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError("it unfolds to many times its size")

"""TFLite Metadata: written as the public schema and MediaPipe's tasks ask for, read back with every byte distrusted."""

import base64
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as model_schema

from exporters import _tflite_metadata
from mvit_deploy.errors import ConversionError, DamagedFileError
from mvit_deploy.report import Report
from mvit_deploy.runtimes import tflite_schema as schema
from mvit_deploy.runtimes.tflite import open_file
from mvit_deploy.runtimes.tflite_file import add_metadata, pack, parse, read_metadata
from mvit_deploy.runtimes.tflite_metadata import FIELD, TensorMetadata, output_names, read
from mvit_deploy.spec import SUPPRESSIONS, About, Contract, Normalization, Output
from tests.conftest import LABELS, SIZE
from tests.exporters.task_metadata_edits import edited, flatbuffer_of, with_label_text

# Written by the classes that MediaPipe 1.2.2 generates of its schemas (metadata_schema_py_generated and
# image_segmenter_metadata_schema_py_generated), zlib, base64.
BY_MEDIAPIPE = (
    "eNplUrtO41AQPcYBjDcKUZQiBYULCopVFApEhwgiQkhktdq1EB0Yc4EIB6PYSFCx5X4APQ3fQI0EJR+yH0CLvDNzxwkPS8djz5058zh3AUC/"
    "01luIsACWmiijio88lboG+QDFglLhA5hxwV+EvYI0/S/3F5ps99lnu0Qs2SzdGjScwNH81vCBGEuH4/4W+IDQsI915mC5FS4zltRcBeB5Nu4XeoT"
    "mKHcWXrLM9Wg1+/eVr/3I+z92u/3wu5mN+xOeG6V5zsHE5rqZwyj7Mz2AiRpHOWD9Bxa68jkJmbH/shkl0kOzb9XDqA2nodnqZGt6o4OMKn/rygK"
    "iXJnJM72/WfNg485+ve0Hlxf9s6T+RLjOGWfju7M1R4+9tsQzaCqcUZDOfcIfwmPyiF1iL2ulXzdYdkDa7c1enp4ujNylkSHJsna+VVe5s3LDL7u"
    "YHGcXxO/p/3Zfj/qVFENgnca8P2JkyjLNOdK7bWeHUZ5fPpJK0fz63pX7dwV+WpqjXLuW0Zh9a9O9viodr3U6EVjOOT5S/zNhrXFxiud1cczV/Ht"
    "vX4U7mkv7FvXe8C76gYXgzi/HJm2nWswjE6M8q/KpoD0OIiSxGoQBcP0yCT4D6miYJc="
)
DETECTION_ORDERS = (("boxes", "classes", "scores", "count"), ("scores", "count", "boxes", "classes"))


def a_model(outputs: tuple[str, ...] = ("logits",), size: tuple[int, int] = SIZE) -> bytes:
    """A TFLite file of tensors and a signature, with nothing that computes; outputs in the order of the graph, and the
    other way round in the signature."""
    tensors, entries = [], []
    for index, name in enumerate(("image", *outputs)):
        tensor, entry = model_schema.TensorT(), model_schema.TensorMapT()
        tensor.name, tensor.shape, tensor.buffer = name.encode(), np.array([1, *size, 3], np.int32), 0
        entry.name, entry.tensorIndex = name.encode(), index
        tensors.append(tensor)
        entries.append(entry)
    graph, signature, model = model_schema.SubGraphT(), model_schema.SignatureDefT(), model_schema.ModelT()
    graph.tensors, graph.operators = tensors, []
    graph.inputs, graph.outputs = np.array([0], np.int32), np.arange(1, len(tensors), dtype=np.int32)
    signature.inputs, signature.outputs = entries[:1], entries[:0:-1]
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    model.version, model.subgraphs, model.signatureDefs = 3, [graph], [signature]
    model.buffers, model.metadata, model.operatorCodes = [model_schema.BufferT()], [], []
    return pack(model)


def classifier(**changes: object) -> Contract:
    outputs = (Output("logits", (len(LABELS),)),)
    return replace(Contract("xxs", "classification", "paper", SIZE, outputs, LABELS), **changes)


def detector() -> Contract:
    outputs = (Output("boxes", (9, 4)), Output("scores", (9, 3)))
    labels = ("background", "cat", "dog")
    return Contract("xs", "detection", "paper", SIZE, outputs, labels, suppression=SUPPRESSIONS["tflite"])


def segmenter(output: Output) -> Contract:
    return Contract("s", "segmentation", "paper", SIZE, (output,), ("background", "cat"))


# The schema


def test_what_mediapipe_wrote_is_read() -> None:
    found = schema.decode(schema.MODEL, zlib.decompress(base64.b64decode(BY_MEDIAPIPE)))

    (graph,) = found.pop("subgraph_metadata")
    assert found == {
        "name": "a model",
        "description": "of all",
        "version": "7",
        "author": "someone",
        "license": "MIT",
        "min_parser_version": "1.5.0",
    }
    (custom,) = graph.pop("custom_metadata")
    assert custom["name"] == "SEGMENTER_METADATA"
    assert schema.decode(schema.SEGMENTER, custom["data"]) == {"activation": 2}
    size = {"width": 96, "height": 64}
    boxes = {"index": [1, 0, 3, 2], "type": 1, "coordinate_type": 1}
    assert graph == {
        "input_tensor_metadata": [
            {
                "name": "image",
                "description": "A picture.",
                "content": {"content_properties": ("ImageProperties", {"color_space": 1, "default_size": size})},
                "process_units": [{"options": ("NormalizationOptions", {"mean": [127.5], "std": [63.75]})}],
                "stats": {"min": [-2.0], "max": [2.0]},
            }
        ],
        "output_tensor_metadata": [
            {
                "name": "mask",
                "dimension_names": ["batch", "y", "x", "class"],
                "content": {
                    "content_properties": ("ImageProperties", {"color_space": 2}),
                    "range": {"min": 1, "max": 2},
                },
                "associated_files": [{"name": "labels.txt", "description": "Größe", "type": 2}],
            },
            {
                "name": "location",
                "content": {"content_properties": ("BoundingBoxProperties", boxes)},
                "process_units": [{"options": ("ScoreThresholdingOptions", {"global_score_threshold": 0.25})}],
            },
        ],
        "output_tensor_groups": [{"name": "detection_result", "tensor_names": ["location", "mask"]}],
    }


def test_what_is_written_is_what_was_read() -> None:
    found = schema.decode(schema.MODEL, zlib.decompress(base64.b64decode(BY_MEDIAPIPE)))

    written = schema.encode(schema.MODEL, found)

    assert schema.decode(schema.MODEL, written) == found
    assert written == schema.encode(schema.MODEL, found)


def test_a_field_that_the_schema_has_not_is_refused() -> None:
    with pytest.raises(KeyError, match="colour"):
        schema.encode(schema.MODEL, {"colour": "red"})


def test_bytes_changed_or_cut_off_end_in_a_value_or_a_value_error() -> None:
    sound, draw = zlib.decompress(base64.b64decode(BY_MEDIAPIPE)), np.random.default_rng(0)
    refused = 0
    for attempt in range(3000):
        content = bytearray(sound)
        for place in draw.integers(8, len(content), 3):
            content[place] = draw.integers(256)
        if attempt % 3 == 0:
            content = content[: draw.integers(len(content))]
        try:
            schema.decode(schema.MODEL, bytes(content))
        except ValueError:
            refused += 1

    assert 1000 < refused < 3000  # what changed a name or a number is still readable


def test_a_bomb_of_shared_parts_is_refused() -> None:
    """1,000 graphs that are one graph with 1,000 inputs that are one input: 4 kB of references each, 10^6 tables."""
    count = 1000
    content = schema.encode(schema.MODEL, {"subgraph_metadata": [{"input_tensor_metadata": [{"name": "x"}] * count}]})
    assert len(schema.decode(schema.MODEL, _shared(content, 1))["subgraph_metadata"]) == 1

    with pytest.raises(ValueError, match="unfolds"):
        schema.decode(schema.MODEL, _shared(content, count))


def _shared(content: bytes, count: int) -> bytes:
    """Metadata with their graph count times, all the same one: a new root with nothing but graphs, in front of the old
    content, since references only point forwards."""
    root = struct.unpack_from("<I", content, 0)[0]
    vtable = root - struct.unpack_from("<i", content, root)[0]
    field = root + struct.unpack_from("<H", content, vtable + 4 + 2 * 3)[0]  # subgraph_metadata is the fourth
    vector = field + struct.unpack_from("<I", content, field)[0]
    graph = vector + 4 + struct.unpack_from("<I", content, vector + 4)[0]
    head = 8
    table_vtable = struct.pack("<HHHHHH", 12, 8, 0, 0, 0, 4)  # only the fourth field is set
    table_at = head + len(table_vtable)
    vector_at = table_at + 8
    start = vector_at + 4 + 4 * count  # of the old content
    table = struct.pack("<iI", len(table_vtable), vector_at - (table_at + 4))
    places = [start + graph - (vector_at + 4 + 4 * index) for index in range(count)]
    vector_bytes = struct.pack(f"<I{count}I", count, *places)
    return struct.pack("<I", table_at) + b"M001" + table_vtable + table + vector_bytes + content


# What is written


@pytest.mark.parametrize(
    ("value_range", "mean", "std"), [((0.0, 1.0), 0.0, 255.0), ((-1.0, 1.0), 127.5, 127.5), ((0.0, 255.0), 0.0, 1.0)]
)
def test_the_image_is_described_with_mean_and_deviation_of_its_range(
    value_range: tuple[float, float], mean: float, std: float
) -> None:
    """By (x - mean) / std of metadata_schema.fbs, with 0 and 255 for x."""
    found = read(_tflite_metadata.add(a_model(), classifier(value_range=value_range), "fp32"))

    (image,) = found.inputs
    assert (image.name, image.content, image.color, image.image_size) == ("image", "image", "RGB", SIZE)
    assert (image.mean, image.std) == ((mean,), (std,))
    assert (image.minimum, image.maximum) == ((value_range[0],), (value_range[1],))


@pytest.mark.parametrize(("io", "ends"), [("uint8", (0, 255)), ("int8", (-128, 127))])
def test_integer_inputs_share_the_normalization_of_float_ones(io: str, ends: tuple[int, int]) -> None:
    (image,) = read(_tflite_metadata.add(a_model(), classifier(io=io), "w8a8")).inputs

    assert (image.mean, image.std) == ((0.0,), (255.0,))
    assert (image.minimum, image.maximum) == ((ends[0],), (ends[1],))


def test_what_the_graph_normalizes_is_not_normalized_before() -> None:
    inside = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    (image,) = read(_tflite_metadata.add(a_model(), classifier(normalization=inside), "fp32")).inputs

    assert (image.mean, image.std) == ((0.0,), (255.0,))
    assert "normalized in the graph" in image.description


def test_bgr_is_not_called_rgb() -> None:
    """The schema knows RGB, GRAYSCALE and UNKNOWN; a reader that gives RGB has to refuse the file."""
    (image,) = read(_tflite_metadata.add(a_model(), classifier(color_order="BGR"), "fp32")).inputs

    assert image.color == "UNKNOWN"
    assert "BGR" in image.description


def test_a_classifier_has_a_label_for_each_place_of_its_output() -> None:
    about = About("A. Person", "Apache-2.0", "1.2", "ab" * 32)
    content = _tflite_metadata.add(a_model(("probabilities",)), classifier(probabilities=True, about=about), "w8")

    found = read(content)

    assert (found.author, found.license, found.version) == ("A. Person", "Apache-2.0", "1.2")
    assert found.name == "mobilevit_xxs classification"
    assert "w8" in found.description
    assert "ab" * 32 in found.description
    assert found.min_parser_version == "1.0.0"
    assert found.outputs == (
        TensorMetadata(
            "probabilities", "Probability of each class.", "feature", minimum=(0.0,), maximum=(1.0,), labels=LABELS,
            labels_of="axis",
        ),
    )  # fmt: skip


@pytest.mark.parametrize("order", DETECTION_ORDERS)
def test_detections_are_named_as_object_detectors_look_for_them(order: tuple[str, ...]) -> None:
    """object_detector_graph.cc: kLocationTensorName and the others; metadata stand in the order of the graph."""
    content = _tflite_metadata.add(a_model(order), detector(), "fp32")

    found = read(content)

    assert output_names(content) == order
    tensors = dict(zip(order, found.outputs, strict=True))
    assert {name: tensor.name for name, tensor in tensors.items()} == {
        "boxes": "location",
        "classes": "category",
        "scores": "score",
        "count": "number of detections",
    }
    assert (tensors["boxes"].content, tensors["boxes"].box_order) == ("boxes", (1, 0, 3, 2))
    assert (tensors["classes"].labels, tensors["classes"].labels_of) == (("cat", "dog"), "values")
    assert found.groups == (("detection_result", ("location", "category", "score")),)
    assert found.min_parser_version == "1.2.0"


def test_a_detector_that_sorts_nothing_out_says_what_it_gives() -> None:
    contract = replace(detector(), suppression=None)

    boxes, scores = read(_tflite_metadata.add(a_model(("boxes", "scores")), contract, "fp32")).outputs

    assert (boxes.content, boxes.box_order, boxes.labels) == ("boxes", (0, 1, 2, 3), None)
    assert (scores.name, scores.labels, scores.labels_of) == ("scores", ("background", "cat", "dog"), "axis")


def test_a_segmenters_logits_still_need_a_softmax() -> None:
    found = read(_tflite_metadata.add(a_model(), segmenter(Output("logits", (2, 8, 12))), "fp32"))

    assert found.activation == "softmax"
    (mask,) = found.outputs
    assert (mask.content, mask.color, mask.labels_of) == ("image", "GRAYSCALE", "axis")
    assert found.min_parser_version == "1.5.0"


def test_a_map_of_classes_has_labels_of_its_values_and_needs_nothing() -> None:
    found = read(_tflite_metadata.add(a_model(("classes",)), segmenter(Output("classes", (8, 12))), "fp32"))

    assert found.activation is None
    assert (found.outputs[0].labels, found.outputs[0].labels_of) == (("background", "cat"), "values")


def test_labels_are_stored_as_they_are_with_a_fixed_time() -> None:
    """metadata_extractor.cc takes files that are not compressed; a time would change the file's digest."""
    content = _tflite_metadata.add(a_model(), classifier(labels=("Löwe", "猫", "a, b")), "fp32")

    (info,) = zipfile.ZipFile(io.BytesIO(content)).infolist()
    assert (info.filename, info.compress_type, info.date_time) == ("labels.txt", 0, (1980, 1, 1, 0, 0, 0))
    assert zipfile.ZipFile(io.BytesIO(content)).read(info) == "Löwe\n猫\na, b\n".encode()
    assert content == _tflite_metadata.add(a_model(), classifier(labels=("Löwe", "猫", "a, b")), "fp32")


def test_without_labels_nothing_follows_the_model() -> None:
    content = _tflite_metadata.add(a_model(), classifier(labels=None), "fp32")

    assert not zipfile.is_zipfile(io.BytesIO(content))
    assert read(content).outputs[0].labels is None


@pytest.mark.parametrize("label", ["two\nlines", "a\rb", "", "  "])
def test_labels_that_lines_cannot_hold_are_refused(label: str) -> None:
    with pytest.raises(ConversionError, match="cannot be a label"):
        _tflite_metadata.add(a_model(), classifier(labels=("cat", label)), "fp32")


# What is read


def test_a_file_without_them_has_none() -> None:
    assert read(a_model()) is None


def cut_off(content: bytes) -> bytes:
    """As every tool that rewrites the flatbuffer leaves it."""
    return pack(parse(content))


def compressed(content: bytes) -> bytes:
    joined = io.BytesIO(pack(parse(content)))
    joined.seek(0, io.SEEK_END)
    with zipfile.ZipFile(joined, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", "\n".join(LABELS))
    return joined.getvalue()


def not_utf8(content: bytes) -> bytes:
    return content.replace(b"tulip\n", b"tul\xffp\n")


def not_metadata(content: bytes) -> bytes:
    return add_metadata(content, FIELD, b"not a flatbuffer at all")


@pytest.mark.parametrize("damage", [cut_off, compressed, not_utf8, not_metadata])
def test_damaged_metadata_are_refused_in_one_line(damage: Callable[[bytes], bytes]) -> None:
    content = damage(_tflite_metadata.add(a_model(), classifier(), "fp32"))

    with pytest.raises(DamagedFileError, match="TFLite Metadata cannot be read") as raised:
        read(content)
    assert "\n" not in str(raised.value)


# Whether all of a file says the same


@pytest.fixture(scope="module")
def sound(labelled: dict[str, Report]) -> bytes:
    return labelled["tflite fp32"].path.read_bytes()


def test_a_written_file_has_them_and_is_opened(sound: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(sound)

    assert read(sound).outputs[0].labels == LABELS
    assert open_file(tmp_path / "a.tflite").interface.labels == LABELS


def normalized_otherwise(image: dict) -> None:
    image["process_units"] = [{"options": ("NormalizationOptions", {"mean": [127.5], "std": [127.5]})}]


def not_normalized(image: dict) -> None:
    del image["process_units"]


def of_unknown_colour(image: dict) -> None:
    image["content"]["content_properties"][1]["color_space"] = 0


def turned(image: dict) -> None:
    image["content"]["content_properties"][1]["default_size"] = {"width": SIZE[0], "height": SIZE[1]}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (normalized_otherwise, "do not give values from 0 to 1"),
        (not_normalized, "mean"),
        (of_unknown_colour, "colours are UNKNOWN, elsewhere RGB"),
        (turned, "the image is"),
    ],
)
def test_a_file_whose_image_is_described_otherwise_is_refused(
    sound: bytes, tmp_path: Path, edit: Callable[[dict], None], said: str
) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(edited(sound, lambda graph: edit(graph["input_tensor_metadata"][0])))

    with pytest.raises(DamagedFileError, match=said):
        open_file(path)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("dandelion", "daisy", *LABELS[2:]), "label 0 is 'dandelion', elsewhere 'daisy'"),
        (LABELS[:-1], "4 labels, elsewhere 5"),
    ],
)
def test_a_file_with_other_labels_behind_it_is_refused(
    sound: bytes, tmp_path: Path, labels: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(with_label_text(sound, "".join(f"{label}\n" for label in labels)))

    with pytest.raises(DamagedFileError, match=said):
        open_file(path)


def test_a_file_whose_labels_were_cut_off_is_refused(sound: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(flatbuffer_of(sound))

    with pytest.raises(DamagedFileError, match=r"'labels.txt' is named and is not behind the model"):
        open_file(tmp_path / "a.tflite")


def test_the_projects_own_metadata_stay_readable(sound: bytes) -> None:
    assert read_metadata(sound, "mvit_deploy") == read_metadata(flatbuffer_of(sound), "mvit_deploy")

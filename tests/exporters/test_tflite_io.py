"""w8a8 files that take 8-bit images and give 8-bit numbers: the same integers as the file with float32 ends."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import torch
from ai_edge_litert import schema_py_generated as schema

from exporters import tflite
from mvit_deploy import images, interface
from mvit_deploy.errors import ConversionError
from mvit_deploy.nn.channels_last import centred
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.nn.quantized import LayerRanges, QuantizedForm, Range
from mvit_deploy.runtimes.census import census
from mvit_deploy.runtimes.taps import tap
from mvit_deploy.runtimes.tensors import prepare
from mvit_deploy.runtimes.tflite import TfliteRunner, open_file
from mvit_deploy.runtimes.tflite_file import pack, parse
from mvit_deploy.spec import Contract, Output, Settings
from tests.conftest import SIZE, sensitive
from tests.exporters.forms import layers_of, ranges_of, rounded

FIRST, LAST = "backbone.stem.0", "head.fc"
INTEGER, FLOAT = True, False
CONTRACT = Contract("xxs", "classification", "paper", SIZE, (Output("logits", (5,)),))
OUTPUT = Range(-100 / 16, 155 / 16)  # a scale of 1/16 exactly; every logit here lies within
TYPES = {"float32": np.float32, "uint8": np.uint8, "int8": np.int8}
NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
TYPE_NAMES = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
Write = Callable[..., Path]

every_io = pytest.mark.parametrize("io", ["uint8", "int8"])
one_io = pytest.mark.parametrize("io", ["uint8", pytest.param("int8", marks=pytest.mark.slow)])
first_layers = pytest.mark.parametrize("first", [INTEGER, FLOAT], ids=["integer first", "float first"])
last_layers = pytest.mark.parametrize("last", [INTEGER, FLOAT], ids=["integer last", "float last"])


@dataclass(frozen=True)
class Operator:
    """One of a file: its name, version, and the types that it takes and gives, the first of each."""

    name: str
    version: int
    taken: str
    given: str


@cache
def photos() -> np.ndarray:
    return images.builtin_photos(SIZE).pixels


@cache
def lowered() -> tflite.Lowered:
    """Lowered once; its form is replaced by others of the same weights."""
    module = centred(fuse(sensitive("xxs", 5)))
    weights = {name: rounded(layer) for name, layer in layers_of(module).items()}
    image = torch.from_numpy(photos().transpose(0, 3, 1, 2).copy()).float() / 255
    with torch.no_grad():
        ranges = ranges_of(module, image)
    ranges[FIRST] = replace(ranges[FIRST], input=Range(0.0, 1.0))
    return tflite.lower(QuantizedForm(module, weights, ranges, OUTPUT).eval(), CONTRACT, Settings("tflite"))


def ranges(first: bool, last: bool) -> dict[str, LayerRanges]:
    kept = {FIRST: first, LAST: last}
    return {name: pair for name, pair in lowered().form.ranges.items() if kept.get(name, True)}


def with_form(io: str, chosen: dict[str, LayerRanges], output: Range | None = OUTPUT) -> tflite.Lowered:
    form = lowered().form
    contract = replace(CONTRACT, io=io)
    return replace(lowered(), contract=contract, form=QuantizedForm(form.module, form.weights, chosen, output))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Writes a file by the types of its ends and whether its first and its last layer are integer, each once."""

    @cache
    def write(io: str, first: bool, last: bool) -> Path:
        path = tmp_path_factory.mktemp("io") / "a.tflite"
        tflite.write(with_form(io, ranges(first, last)), "w8a8", path)
        return path

    return write


def opened(path: Path) -> TfliteRunner:
    return open_file(path, threads=1)


def readers(content: bytes) -> list[Operator]:
    """The operators that read the input."""
    model = parse(content)
    (image,) = model.subgraphs[0].inputs
    return [_operator(model, o) for o in model.subgraphs[0].operators if image in o.inputs]


def writer(content: bytes) -> Operator:
    """The operator that gives the output."""
    model = parse(content)
    (result,) = model.subgraphs[0].outputs
    (found,) = (_operator(model, o) for o in model.subgraphs[0].operators if result in o.outputs)
    return found


def _operator(model: schema.ModelT, operator: schema.OperatorT) -> Operator:
    code, tensors = model.operatorCodes[operator.opcodeIndex], model.subgraphs[0].tensors
    taken, given = (TYPE_NAMES[tensors[end[0]].type] for end in (operator.inputs, operator.outputs))
    return Operator(NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)], code.version, taken, given)


@every_io
@first_layers
@last_layers
def test_the_ends_have_the_asked_type_and_the_image_the_code_of_its_pixels(
    written: Write, io: str, first: bool, last: bool
) -> None:
    found = opened(written(io, first, last)).interface

    (image,), (logits,) = found.inputs, found.outputs
    assert (image.name, image.shape, image.dtype) == ("image", (1, *SIZE, 3), io)
    assert image.scale == pytest.approx(1 / 255, rel=1e-7)
    assert image.zero_point == {"uint8": 0, "int8": -128}[io]
    assert (logits.name, logits.shape, logits.dtype) == ("logits", (1, 5), io)
    assert interface.faults(replace(CONTRACT, io=io), found) == []


@every_io
@first_layers
def test_a_float_last_layer_gives_its_output_in_the_observed_range(written: Write, io: str, first: bool) -> None:
    (logits,) = opened(written(io, first, FLOAT)).interface.outputs

    assert (logits.scale, logits.zero_point) == (1 / 16, {"uint8": 100, "int8": -28}[io])


@every_io
def test_an_integer_last_layer_gives_its_own_code(written: Write, io: str) -> None:
    (logits,) = opened(written(io, INTEGER, INTEGER)).interface.outputs

    held = lowered().form.ranges[LAST].output
    assert logits.scale == pytest.approx((held.high - held.low) / 255, rel=1e-6)
    assert logits.zero_point == round(-held.low / logits.scale) - {"uint8": 0, "int8": 128}[io]


@first_layers
@last_layers
def test_by_default_the_ends_are_float(written: Write, first: bool, last: bool) -> None:
    found = opened(written("float32", first, last)).interface

    assert [(end.dtype, end.scale, end.zero_point) for end in found.inputs + found.outputs] == [
        ("float32", None, None)
    ] * 2


@pytest.mark.parametrize(
    ("io", "first", "expected"),
    [
        ("int8", INTEGER, Operator("PAD", 2, "INT8", "INT8")),  # of the layer itself: nothing converts
        ("int8", FLOAT, Operator("DEQUANTIZE", 2, "INT8", "FLOAT32")),
        ("uint8", INTEGER, Operator("QUANTIZE", 1, "UINT8", "INT8")),
        ("uint8", FLOAT, Operator("DEQUANTIZE", 1, "UINT8", "FLOAT32")),
        ("float32", INTEGER, Operator("QUANTIZE", 1, "FLOAT32", "INT8")),
        ("float32", FLOAT, Operator("PAD", 1, "FLOAT32", "FLOAT32")),
    ],
)
def test_one_operator_reads_the_image(written: Write, io: str, first: bool, expected: Operator) -> None:
    assert readers(written(io, first, INTEGER).read_bytes()) == [expected]


@pytest.mark.parametrize(
    ("io", "last", "expected"),
    [
        ("int8", INTEGER, Operator("FULLY_CONNECTED", 12, "INT8", "INT8")),
        ("int8", FLOAT, Operator("QUANTIZE", 1, "FLOAT32", "INT8")),
        ("uint8", INTEGER, Operator("QUANTIZE", 1, "INT8", "UINT8")),
        ("uint8", FLOAT, Operator("QUANTIZE", 1, "FLOAT32", "UINT8")),
    ],
)
def test_at_most_one_operator_converts_the_output(written: Write, io: str, last: bool, expected: Operator) -> None:
    assert writer(written(io, INTEGER, last).read_bytes()) == expected


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
def test_conversions_are_those_that_tensorflow_writes(written: Write) -> None:
    """Operator, version and types, for a convolution that TensorFlow's converter quantizes whole."""
    weight = tf.constant(np.random.default_rng(0).random((3, 3, 3, 4), np.float32))
    image = tf.TensorSpec((1, 8, 8, 3))
    function = tf.function(lambda x: tf.nn.conv2d(x, weight, 2, "VALID"), input_signature=[image])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([np.full((1, 8, 8, 3), level, np.float32)] for level in (0, 1))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    expected = converter.convert()
    ours = written("uint8", INTEGER, INTEGER).read_bytes()

    assert readers(ours) == readers(expected)
    assert writer(ours) == writer(expected)


@every_io
@first_layers
@last_layers
def test_logits_are_those_of_float32_ends_to_a_step_of_the_output(
    written: Write, io: str, first: bool, last: bool
) -> None:
    """To half a step where a float output is rounded; an integer layer's levels are given as they are."""
    expected = opened(written("float32", first, last)).run(photos())["logits"]
    runner = opened(written(io, first, last))
    found = runner.run(photos())["logits"]

    step = runner.interface.outputs[0].scale
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= (1e-6 if last else 0.5 + 1e-6) * step
    assert len(np.unique(found)) > 10  # several images do give several logits


@every_io
def test_pixels_are_passed_as_they_are(written: Write, io: str) -> None:
    runner = opened(written(io, INTEGER, INTEGER))

    tensor = prepare(photos(), runner.interface.inputs[0])

    assert tensor.dtype == TYPES[io]
    assert np.array_equal(tensor.astype(int) + {"uint8": 0, "int8": 128}[io], photos())


@every_io
def test_invoke_takes_and_gives_the_integers_of_the_file(written: Write, io: str) -> None:
    runner = opened(written(io, INTEGER, FLOAT))
    image = photos()[:1]

    levels = runner.invoke(prepare(image, runner.interface.inputs[0]))["logits"]

    assert levels.dtype == TYPES[io]
    zero_point = {"uint8": 100, "int8": -28}[io]
    assert np.array_equal((levels.astype(np.float32) - zero_point) / 16, runner.run(image)["logits"])


@one_io
def test_a_first_layer_in_another_code_than_the_pixels_is_fed_from_their_floats(tmp_path: Path, io: str) -> None:
    chosen = ranges(INTEGER, INTEGER)
    chosen[FIRST] = replace(chosen[FIRST], input=Range(0.0, 0.9))
    paths = [tmp_path / name for name in ("a.tflite", "b.tflite")]
    for path, word in zip(paths, (io, "float32"), strict=True):
        tflite.write(with_form(word, chosen), "w8a8", path)

    found, expected = (opened(path).run(photos())["logits"] for path in paths)
    assert [operator.name for operator in readers(paths[0].read_bytes())] == ["DEQUANTIZE"]
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


def plant(path: Path, tmp_path: Path, **changes: float) -> Path:
    """A copy of a file whose input declares another code."""
    model = parse(path.read_bytes())
    graph = model.subgraphs[0]
    quantization = graph.tensors[graph.inputs[0]].quantization
    for name, value in changes.items():
        setattr(quantization, name, np.array([value], getattr(quantization, name).dtype))
    (tmp_path / "planted.tflite").write_bytes(pack(model))
    return tmp_path / "planted.tflite"


@pytest.mark.parametrize(
    ("io", "changes", "fault"),
    [
        ("uint8", {"zeroPoint": 1}, "input zero point: the file says 1, expected 0"),
        ("int8", {"zeroPoint": -127}, "input zero point: the file says -127, expected -128"),
        ("uint8", {"scale": 1 / 256}, "input scale: the file says 0.00390625, expected 0.003921568859368563"),
        ("int8", {"scale": 1.0}, "input scale: the file says 1.0, expected 0.003921568859368563"),
    ],
)
def test_another_code_of_the_input_is_a_fault_of_the_interface(
    written: Write, tmp_path: Path, io: str, changes: dict[str, float], fault: str
) -> None:
    planted = plant(written(io, INTEGER, INTEGER), tmp_path, **changes)

    assert interface.faults(replace(CONTRACT, io=io), opened(planted).interface) == [fault]


@every_io
@pytest.mark.parametrize("given", TYPES)
def test_a_file_with_other_ends_than_asked_for_is_a_fault_of_the_interface(written: Write, io: str, given: str) -> None:
    faults = interface.faults(replace(CONTRACT, io=io), opened(written(given, INTEGER, INTEGER)).interface)

    assert (f"input type: the file says {given}, expected {io}" in faults) == (given != io)
    assert (f"output logits dtype: the file says {given}, expected {io}" in faults) == (given != io)


@one_io
@last_layers
def test_two_files_have_the_same_bytes(written: Write, tmp_path: Path, io: str, last: bool) -> None:
    tflite.write(with_form(io, ranges(FLOAT, last)), "w8a8", tmp_path / "again.tflite")

    assert (tmp_path / "again.tflite").read_bytes() == written(io, FLOAT, last).read_bytes()


@every_io
def test_the_census_counts_the_same_as_with_float32_ends(written: Write, io: str) -> None:
    expected, found = (census(written(word, INTEGER, INTEGER)) for word in ("float32", io))

    kinds = [
        [(operation.type, operation.kind, operation.macs) for operation in c.operations] for c in (expected, found)
    ]
    assert kinds[0] == kinds[1]
    assert expected.conversions - found.conversions == {"uint8": 0, "int8": 2}[io]


@one_io
@first_layers
def test_every_value_can_be_tapped(written: Write, io: str, first: bool) -> None:
    tapped = tap(written(io, first, FLOAT), photos()[0])

    assert tapped.operations[-1].type == "QUANTIZE"
    assert np.isfinite(tapped.values[tapped.operations[-1].inputs[0]]).all()


@every_io
def test_a_float_output_without_an_observed_range_is_an_error(tmp_path: Path, io: str) -> None:
    with pytest.raises(ConversionError, match=f"no range was observed, which {io} needs"):
        tflite.write(with_form(io, ranges(INTEGER, FLOAT), None), "w8a8", tmp_path / "a.tflite")

    assert not (tmp_path / "a.tflite").exists()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8", "w8a16"])
def test_only_w8a8_has_integer_ends(tmp_path: Path, precision: str) -> None:
    with pytest.raises(ConversionError, match=f"uint8 inputs and outputs belong to w8a8, not to {precision}"):
        tflite.write(with_form("uint8", {}), precision, tmp_path / "a.tflite")

    assert not (tmp_path / "a.tflite").exists()

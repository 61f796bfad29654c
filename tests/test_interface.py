"""A file's own words against the contract: whatever differs is named."""

from dataclasses import replace

import pytest

from mvit_deploy.interface import faults
from mvit_deploy.spec import OWN, About, Contract, Declared, InputSpec, Interface, Normalization, Output, OutputSpec

LABELS = ("cat", "dog", "fox")
SAID = Declared("RGB", (0.0, 1.0), LABELS, mode="xs", task="classification", variant="paper", preprocessing=OWN)
UNLABELLED = replace(SAID, labels=None)
CLASSES = Contract("xs", "classification", "paper", (192, 320), (Output("logits", (3,)),), labels=LABELS)
PROBABLE = replace(CLASSES, probabilities=True)
MAP = Contract("xs", "classification", "paper", (192, 320), (Output("features", (384, 6, 10)),))

HIGH = InputSpec("image", (1, 3, 192, 320), "float32", "NCHW", (0.0, 1.0), "RGB")
WIDE = replace(HIGH, shape=(1, 192, 320, 3), layout="NHWC")
LOGITS = OutputSpec("logits", (1, 3), "float32", "logits")
CHANNELS_LAST = OutputSpec("features", (1, 6, 10, 384), "float32", "features", "NHWC")
LABEL = OutputSpec("classLabel", (1,), "string", "label")
PROBABILITIES = OutputSpec("classLabel_probs", (1, 3), "float32", "probabilities")

ONNX = Interface("onnx", "18", (HIGH,), (LOGITS,), SAID)
TFLITE_MAP = Interface("tflite", "schema 3", (WIDE,), (CHANNELS_LAST,), UNLABELLED)
PACKAGE = Interface("mlpackage", "specification 7", (replace(WIDE, dtype="uint8"),), (LABEL, PROBABILITIES), SAID)

# The float32 nearest to 1/255 as NumPy prints it; the output's scale is what the calibration images gave.
PIXELS = replace(WIDE, dtype="uint8", scale=0.003921568859368563, zero_point=0)
LEVELS = replace(LOGITS, dtype="uint8", scale=0.25, zero_point=7)
INTEGER = replace(CLASSES, io="uint8")
TFLITE_INTEGER = Interface("tflite", "schema 3", (PIXELS,), (LEVELS,), SAID)

FILES = {
    "onnx": (CLASSES, ONNX),
    "tflite map": (MAP, TFLITE_MAP),
    "coreml classifier": (PROBABLE, PACKAGE),
    "tflite uint8": (INTEGER, TFLITE_INTEGER),
}
every_file = pytest.mark.parametrize(("contract", "agreeing"), FILES.values(), ids=FILES)


def with_input(file: Interface, **changes: object) -> Interface:
    return replace(file, inputs=(replace(file.inputs[0], **changes),))


def with_output(file: Interface, index: int, **changes: object) -> Interface:
    outputs = list(file.outputs)
    outputs[index] = replace(outputs[index], **changes)
    return replace(file, outputs=tuple(outputs))


@every_file
def test_a_file_that_keeps_its_promise_has_no_faults(contract: Contract, agreeing: Interface) -> None:
    assert faults(contract, agreeing) == []


@pytest.mark.parametrize(
    ("contract", "file"),
    [
        (PROBABLE, replace(PACKAGE, format="mlmodel")),  # the older format has the same interface
        (CLASSES, replace(ONNX, format="tflite", inputs=(WIDE,))),
        (
            MAP,
            replace(
                ONNX, outputs=(OutputSpec("features", (1, 384, 6, 10), "float32", "features"),), declared=UNLABELLED
            ),
        ),
        (
            replace(CLASSES, outputs=(Output("logits", (10, 4)),), labels=None),  # a table is no map: nothing goes last
            Interface("tflite", "schema 3", (WIDE,), (replace(LOGITS, shape=(1, 10, 4)),), UNLABELLED),
        ),
        (  # no labels, no classifier
            replace(CLASSES, labels=None),
            replace(PACKAGE, outputs=(LOGITS,), declared=UNLABELLED),
        ),
        (CLASSES, replace(PACKAGE, outputs=(LOGITS,))),  # nor without probabilities
        (PROBABLE, replace(ONNX, outputs=(replace(LOGITS, name="probabilities", meaning="probabilities"),))),
    ],
)
def test_other_forms_of_the_same_promise_have_no_faults(contract: Contract, file: Interface) -> None:
    assert faults(contract, file) == []


@every_file
@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("name", "input.1", "input name: the file says input.1, expected image"),
        ("color_order", "BGR", "colour order: the file says BGR, expected RGB"),
        ("range", (0.0, 255.0), "value range: the file says (0.0, 255.0), expected (0.0, 1.0)"),
        ("range", (-1.0, 1.0), "value range: the file says (-1.0, 1.0), expected (0.0, 1.0)"),
    ],
)
def test_a_field_of_the_input_that_differs_is_named(
    contract: Contract, agreeing: Interface, field: str, value: object, named: str
) -> None:
    assert faults(contract, with_input(agreeing, **{field: value})) == [named]


@every_file
@pytest.mark.parametrize("axis", range(4))
def test_any_side_of_the_input_that_differs_is_named(contract: Contract, agreeing: Interface, axis: int) -> None:
    expected = agreeing.inputs[0].shape
    shape = (*expected[:axis], expected[axis] + 32, *expected[axis + 1 :])

    assert faults(contract, with_input(agreeing, shape=shape)) == [
        f"input shape: the file says {shape}, expected {expected}"
    ]


@pytest.mark.parametrize(
    ("contract", "file", "index"),
    [
        (CLASSES, ONNX, 0),
        (MAP, TFLITE_MAP, 0),
        (PROBABLE, PACKAGE, 0),
        (PROBABLE, PACKAGE, 1),
        (INTEGER, TFLITE_INTEGER, 0),
    ],
)
@pytest.mark.parametrize(
    ("field", "value"),
    [("shape", (1, 4)), ("shape", (-1, 3)), ("dtype", "float16"), ("meaning", "embedding"), ("layout", "NCHW")],
)
def test_a_field_of_an_output_that_differs_is_named(
    contract: Contract, file: Interface, index: int, field: str, value: object
) -> None:
    output = file.outputs[index]

    assert faults(contract, with_output(file, index, **{field: value})) == [
        f"output {output.name} {field}: the file says {value}, expected {getattr(output, field) or repr('')}"
    ]


def test_a_tflite_map_with_channels_first_is_named() -> None:
    assert faults(MAP, with_output(TFLITE_MAP, 0, shape=(1, 384, 6, 10), layout="NCHW")) == [
        "output features shape: the file says (1, 384, 6, 10), expected (1, 6, 10, 384)",
        "output features layout: the file says NCHW, expected NHWC",
    ]


@pytest.mark.parametrize(
    ("file", "outputs", "named"),
    [
        (ONNX, (replace(LOGITS, name="output"),), "outputs: the file says ['output'], expected ['logits']"),
        (ONNX, (LOGITS, replace(LOGITS, name="aux")), "outputs: the file says ['aux', 'logits'], expected ['logits']"),
        (ONNX, (), "outputs: the file says [], expected ['logits']"),
        (PACKAGE, (LABEL,), "outputs: the file says ['classLabel'], expected ['classLabel', 'classLabel_probs']"),
    ],
)
def test_outputs_by_other_names_too_many_or_too_few_are_named(
    file: Interface, outputs: tuple[OutputSpec, ...], named: str
) -> None:
    contract = replace(CLASSES, probabilities=file is PACKAGE)

    assert faults(contract, replace(file, outputs=outputs)) == [named]


@pytest.mark.parametrize("file", [ONNX, PACKAGE], ids=["onnx", "coreml"])
@pytest.mark.parametrize("found", [("dog", "cat", "fox"), ("cat", "dog"), ("cat", "dog", "Fox"), None])
def test_labels_in_another_order_or_number_or_none_are_named(file: Interface, found: tuple[str, ...] | None) -> None:
    contract = replace(CLASSES, probabilities=file is PACKAGE)

    named = faults(contract, replace(file, declared=replace(SAID, labels=found)))

    assert named == [f"labels: the file says {found}, expected {LABELS}"]


@every_file
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "s"),
        ("task", "segmentation"),
        ("variant", "kornia"),
        ("normalization", Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))),
        ("preprocessing", replace(OWN, resize=256)),
        ("about", About(license="MIT")),
    ],
)
def test_what_else_a_file_declares_is_held_to_the_contract(
    contract: Contract, agreeing: Interface, field: str, value: object
) -> None:
    (named,) = faults(contract, replace(agreeing, declared=replace(agreeing.declared, **{field: value})))

    assert named.startswith(f"{field}: the file says ")


def test_labels_that_nobody_gave_are_named() -> None:
    assert faults(MAP, replace(TFLITE_MAP, declared=SAID)) == [f"labels: the file says {LABELS}, expected None"]


@every_file
@pytest.mark.parametrize("count", [0, 2])
def test_anything_but_one_input_is_named(contract: Contract, agreeing: Interface, count: int) -> None:
    assert faults(contract, replace(agreeing, inputs=agreeing.inputs * count)) == [f"{count} inputs, expected 1"]


def test_without_an_input_the_labels_are_still_looked_at() -> None:
    assert faults(CLASSES, replace(ONNX, inputs=(), declared=UNLABELLED)) == [
        "0 inputs, expected 1",
        f"labels: the file says None, expected {LABELS}",
    ]


def test_a_free_batch_must_be_free_at_both_ends() -> None:
    free = replace(CLASSES, dynamic_batch=True)

    kept = with_output(with_input(ONNX, shape=(-1, 3, 192, 320)), 0, shape=(-1, 3))

    assert faults(free, kept) == []
    assert len(faults(free, ONNX)) == 2
    assert len(faults(CLASSES, kept)) == 2


def test_many_faults_are_all_named() -> None:
    file = with_output(
        with_input(ONNX, name="x", shape=(1, 3, 8, 8), color_order="BGR", range=(0.0, 2.0)), 0, shape=(1,)
    )

    starts = [problem.partition(":")[0] for problem in faults(CLASSES, replace(file, declared=UNLABELLED))]

    assert sorted(starts) == sorted(
        ["output logits shape", "input name", "input shape", "colour order", "value range", "labels"]
    )


@pytest.mark.parametrize(
    ("contract", "agreeing", "dtype"),
    [
        (CLASSES, ONNX, "uint8"),
        (CLASSES, ONNX, "float16"),
        (MAP, TFLITE_MAP, "int8"),
        (PROBABLE, PACKAGE, "float32"),  # Core ML takes 8-bit images
        (PROBABLE, replace(PACKAGE, format="mlmodel"), "float32"),
    ],
)
def test_an_input_of_another_type_is_named(contract: Contract, agreeing: Interface, dtype: str) -> None:
    expected = agreeing.inputs[0].dtype

    assert faults(contract, with_input(agreeing, dtype=dtype)) == [
        f"input type: the file says {dtype}, expected {expected}"
    ]


@pytest.mark.parametrize(("agreeing", "other"), [(ONNX, WIDE), (replace(ONNX, format="tflite", inputs=(WIDE,)), HIGH)])
def test_an_input_of_another_layout_is_named(agreeing: Interface, other: InputSpec) -> None:
    expected = agreeing.inputs[0]

    assert faults(CLASSES, replace(agreeing, inputs=(other,))) == [
        f"input shape: the file says {other.shape}, expected {expected.shape}",
        f"input layout: the file says {other.layout}, expected {expected.layout}",
    ]


def test_int8_takes_pixels_less_128() -> None:
    shifted = with_output(with_input(TFLITE_INTEGER, dtype="int8", zero_point=-128), 0, dtype="int8")

    assert faults(replace(CLASSES, io="int8"), shifted) == []
    assert faults(INTEGER, shifted) == [
        "output logits dtype: the file says int8, expected uint8",
        "input type: the file says int8, expected uint8",
        "input zero point: the file says -128, expected 0",
    ]


def test_a_float_file_that_was_asked_for_as_uint8_is_named() -> None:
    assert faults(INTEGER, replace(ONNX, format="tflite", inputs=(WIDE,))) == [
        "output logits dtype: the file says float32, expected uint8",
        "input type: the file says float32, expected uint8",
        "input scale: the file says None, expected 0.003921568859368563",
        "input zero point: the file says None, expected 0",
    ]


@pytest.mark.parametrize("value", [1 / 255, 0.0039, 1.0, None])
def test_the_scale_of_the_input_is_the_float32_nearest_to_a_255th(value: float | None) -> None:
    """As a file holds it."""
    assert faults(INTEGER, with_input(TFLITE_INTEGER, scale=value)) == [
        f"input scale: the file says {value}, expected 0.003921568859368563"
    ]


def test_any_scale_of_the_output_will_do_but_none() -> None:
    assert faults(INTEGER, with_output(TFLITE_INTEGER, 0, scale=1e-9, zero_point=255)) == []
    assert faults(INTEGER, with_output(TFLITE_INTEGER, 0, scale=None, zero_point=None)) == [
        "output logits: the file says uint8 and no scale"
    ]

"""From words to a plan: what the design's command line promises, by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_deploy import request, targets
from mvit_deploy.errors import UsageError
from mvit_deploy.image_options import parse_image_size
from mvit_deploy.nn.endings import ENDINGS
from mvit_deploy.request import (
    Options,
    ending_of,
    made_distinct,
    parse_precisions,
    plan,
    read_labels,
    split_words,
)

sides = st.integers(1, 99_999)
word = st.text(st.characters(exclude_characters=",", exclude_categories=["Z", "C"]), min_size=1, max_size=9)
DEFAULTS = [("onnx", "fp32", ".onnx"), ("coreml", "fp16", ".mlpackage"), ("tflite", "fp32", ".tflite")]


def planned(target: str | tuple[str, ...], precision: str | None = None, **options: object) -> list[tuple[str, ...]]:
    jobs, _ = plan(Options(target, precision, **options))
    return [(job.target.name, job.precision, job.suffix) for job in jobs]


def min_ios(precision: str | None = None, **options: object) -> int | None:
    (job,), _ = plan(Options("coreml", precision, **options))
    return job.settings.min_ios


@pytest.fixture(scope="module")
def label_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labels") / "labels.txt"


@given(sides, sides, st.sampled_from(["x", "X", "×"]))
def test_an_image_size_is_height_then_width_or_one_number_for_both(height: int, width: int, times: str) -> None:
    assert parse_image_size(f"{height}{times}{width}") == parse_image_size((height, width)) == (height, width)
    assert parse_image_size(f" {height} ") == parse_image_size(height) == (height, height)


@pytest.mark.parametrize(
    "given_size",
    ["", "x", "256x", "x256", "-32", "+32", "1e2", "192x-320", "192x1x320", "192xx320", "192 x 320", "192by320"]
    + [f"192{separator}320" for separator in "*,-. \n"]
    + [(256, 256, 3), (256,), (), ("a", 256), ("256", 256), (256.5, 256), (256, True), ((256, 256), 256)]
    + [256.0, True, None, b"256", {256}],
)
def test_what_is_no_size_is_a_usage_error_of_one_line_that_shows_it(given_size: object) -> None:
    with pytest.raises(UsageError, match=r"^cannot read the image size .*; give N or HxW, .*$") as caught:
        parse_image_size(given_size)

    assert repr(given_size) in str(caught.value)


def test_an_image_size_may_be_a_list_or_of_numpys_numbers() -> None:
    assert parse_image_size([192, 320]) == parse_image_size(tuple(np.array([192, 320]))) == (192, 320)
    assert parse_image_size(np.int64(256)) == (256, 256)


@given(st.lists(word, unique=True))
def test_words_come_once_in_the_order_given(expected: list[str]) -> None:
    assert split_words(" , ".join(expected + expected) + ",,") == expected
    assert split_words((*expected, ",".join(expected))) == expected


def test_int8_is_w8a8_and_each_precision_comes_once() -> None:
    assert parse_precisions("int8, fp32,w8a8,fp32") == ("w8a8", "fp32")
    assert parse_precisions(("w8", "fp16,w8a16")) == ("w8", "fp16", "w8a16")
    assert parse_precisions(None) == ()


@pytest.mark.parametrize("nothing", ["", ",", " , ", (), ("", ",")])
def test_a_precision_that_is_said_and_empty_is_a_usage_error(nothing: str | tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="no precision given; known: fp32, fp16, w8, w8a16, w8a8, int8"):
        plan(Options("onnx", nothing))


@given(st.lists(word, min_size=1, unique=True), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), st.integers(0, 3))
@settings(deadline=None)
def test_labels_are_the_lines_of_a_file(label_file: Path, labels: list[str], end: str, mark: bool, ends: int) -> None:
    """With Windows' line ends and byte order mark, with or without an end of the last line or blank lines after it."""
    label_file.write_bytes(b"\xef\xbb\xbf" * mark + (end.join(labels) + end * ends).encode())

    assert read_labels(label_file, num_classes=len(labels), distinct=True) == tuple(labels)


@pytest.mark.parametrize("inner", [" ", ", ", "\t", "\u2028", "\u2029", "\x85", "\f", "\v", "\x1c"])
def test_a_label_keeps_what_is_inside_it_and_only_line_ends_part_labels(label_file: Path, inner: str) -> None:
    label_file.write_bytes(f"tench{inner}Tinca\n  goldfish \n \t\n".encode())

    assert read_labels(label_file, num_classes=2, distinct=True) == (f"tench{inner}Tinca", "goldfish")


@given(st.lists(word, min_size=1, max_size=5), st.integers(-9, 9).filter(bool))
def test_labels_must_be_as_many_as_the_classes(labels: list[str], more: int) -> None:
    with pytest.raises(UsageError, match=f"^{len(labels)} labels for {len(labels) + more} classes$"):
        read_labels(labels, num_classes=len(labels) + more, distinct=False)


def test_labels_may_repeat_unless_a_target_needs_them_distinct() -> None:
    cranes = ("crane", "bird", "crane")

    assert read_labels(cranes, num_classes=3, distinct=False) == cranes
    with pytest.raises(UsageError, match=r"more than once: crane$"):
        read_labels(cranes, num_classes=3, distinct=True)


@pytest.mark.parametrize(
    ("content", "classes", "named"),
    [
        (b"", 0, "holds no labels"),
        (b"cat\n\nfox\n", 3, "label 2 is empty"),
        (b"cat\nfox\n \t\nowl\n", 4, "label 3 is empty"),
        (b"\ncat\nfox\n", 2, "label 1 is empty"),
        (b"\r\ncat\r\nfox\r\n", 3, "label 1 is empty"),
        (b"caf\xe9\n", 1, r"cannot read the labels in .*labels\.txt"),
    ],
)
def test_no_labels_an_empty_one_or_another_encoding_is_an_error(
    label_file: Path, content: bytes, classes: int, named: str
) -> None:
    label_file.write_bytes(content)

    with pytest.raises(UsageError, match=named):
        read_labels(label_file, num_classes=classes, distinct=False)


def test_labels_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.txt", tmp_path, tmp_path / "nul\0"):
        with pytest.raises(UsageError, match=f"cannot read the labels in .*{path.name}"):
            read_labels(path, num_classes=1, distinct=False)


@pytest.mark.parametrize(("labels", "named"), [(("cat", 2), "label 2 is 2"), ((None, "cat"), "label 1 is None")])
def test_labels_that_are_not_text_are_named(labels: tuple[object, ...], named: str) -> None:
    with pytest.raises(UsageError, match=f"^{named}, not text$"):
        read_labels(labels, num_classes=2, distinct=True)


def test_each_target_has_its_default_precision_and_format() -> None:
    assert planned("all") == planned("tflite,all") == DEFAULTS
    assert planned("coreml", format="mlmodel") == [("coreml", "fp16", ".mlmodel")]


def test_lists_of_targets_and_precisions_make_their_product() -> None:
    pairs = [pair[:2] for pair in planned(("tflite", "onnx,tflite"), "fp16,fp32")]

    assert pairs == [("tflite", "fp16"), ("tflite", "fp32"), ("onnx", "fp16"), ("onnx", "fp32")]


def test_all_passes_over_what_no_setting_gives_and_says_so() -> None:
    jobs, skipped = plan(Options("all", "fp16,w8a16", calibration=Path("photos")))

    made = [(job.target.name, job.precision) for job in jobs]
    assert {("onnx", "fp16"), ("coreml", "fp16"), ("tflite", "fp16")} <= set(made)
    assert ("coreml", "w8a16") not in made
    assert [line for line in skipped if line.startswith("coreml has no precision w8a16 (Core ML has no 16-bit")]


def test_all_of_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "TARGETS", {"onnx": replace(targets.TARGETS["onnx"], precisions=("fp32", "fp16"))})

    with pytest.raises(UsageError, match="onnx has no precision w8; it has: fp32, fp16"):
        plan(Options("all", "w8"))


@pytest.mark.parametrize(
    ("options", "typo", "meant"),
    [
        ({"target": "corml"}, "corml", "coreml"),
        ({"target": "onnx,al"}, "al", "all"),
        ({"target": "all,corml"}, "corml", "coreml"),
        ({"target": "corml,all"}, "corml", "coreml"),
        ({"precision": "fp32,fp61"}, "fp61", "fp16"),
        ({"precision": "int"}, "int", "int8"),
        ({"precision": "W8A8"}, "W8A8", "w8a8"),
        ({"task": "detect"}, "detect", "detection"),
        ({"variant": "korna"}, "korna", "kornia"),
        ({"io": "unit8"}, "unit8", "uint8"),
        ({"io": "INT8"}, "INT8", "int8"),
        ({"target": "coreml", "format": "mlpakage"}, "mlpakage", "mlpackage"),
    ],
)
def test_a_mistyped_word_gets_its_nearest_name(options: dict[str, str], typo: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown \w+ '{typo}'; known: .*{meant}.*; did you mean '{meant}'\?$"):
        plan(Options(**{"target": "onnx"} | options))


@pytest.mark.parametrize(
    ("target", "options", "named"),
    [
        ("", {}, "no target given; known: onnx, coreml, tflite, all"),
        (" , ", {}, "no target given"),
        ("coreml", {"precision": "fp16,w8a16"}, r"coreml has no precision w8a16 \(Core ML has no 16-bit integer"),
        ("onnx", {"precision": "w8a8"}, "give --calibration DIR"),
        ("onnx", {"precision": "w8,int8,w8a16"}, "w8a8 and w8a16: activations are calibrated on images"),
        ("onnx", {"precision": "w8", "plan": Path("p")}, "--keep-float and --plan need --calibration"),
        ("onnx", {"keep_float": ("stem",)}, "--keep-float belongs to the precisions w8"),
        ("coreml", {"precision": "w8a8", "format": "mlmodel", "calibration": Path("p")}, "no int8 activations"),
        ("coreml", {"precision": "w8a8", "min_ios": 16, "calibration": Path("p")}, "w8a8 needs iOS 17"),
        ("onnx,tflite", {"format": "mlpackage"}, "--format belongs to target coreml"),
        ("onnx", {"min_ios": 17}, "--min-ios belongs to target coreml"),
        ("coreml,tflite", {"dynamic_batch": True}, "--dynamic-batch belongs to target onnx"),
        ("tflite", {"io": "uint8"}, "--io uint8 belongs to precision w8a8 of target tflite, which is not asked for"),
        ("tflite", {"io": "int8", "precision": "fp32,w8"}, "--io int8 belongs to precision w8a8 of target tflite"),
        (
            "tflite",
            {"io": "int8", "precision": "w8a16", "calibration": Path("p")},
            "--io int8 belongs to precision w8a8",
        ),
        (
            "onnx,coreml",
            {"io": "uint8", "precision": "w8a8", "calibration": Path("p")},
            "--io uint8 belongs to precision",
        ),
        ("coreml", {"format": "mlmodel", "min_ios": 16}, "--min-ios is for mlpackage"),
        ("coreml", {"format": "onnx"}, "unknown format 'onnx'; known: mlpackage, mlmodel"),
        ("coreml", {"min_ios": 14}, "14; known: 15, 16, 17, 18"),
        ("coreml", {"min_ios": 0}, "0; known: 15, 16, 17, 18"),
    ],
)
def test_what_contradicts_the_target_is_an_error(target: str, options: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        plan(Options(target, **options))


@pytest.mark.parametrize("precision", [None, "fp16", "fp32"])
def test_core_ml_needs_ios_16_unless_another_is_asked(precision: str | None) -> None:
    assert min_ios(precision) == 16
    assert [min_ios(precision, min_ios=asked) for asked in (16, 17, 18)] == [16, 17, 18]
    assert min_ios(precision, format="mlmodel") is None  # the file itself says it


def test_a_precision_that_needs_more_raises_the_default_and_refuses_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(request.LOWEST_IOS, "fp16", 17)

    assert (min_ios("fp16"), min_ios("fp32")) == (17, 16)
    assert (min_ios("fp16", min_ios=17), min_ios("fp16", min_ios=18)) == (17, 18)
    with pytest.raises(UsageError, match="16: fp16 needs iOS 17"):
        plan(Options("coreml", "fp16", min_ios=16))


def test_options_of_one_target_go_to_that_target_alone() -> None:
    jobs, _ = plan(Options("all", min_ios=17, dynamic_batch=True, format="mlpackage"))

    assert {job.target.name: job.settings.min_ios for job in jobs} == {"onnx": None, "coreml": 17, "tflite": None}
    assert [job.target.name for job in jobs if job.settings.dynamic_batch] == ["onnx"]


@pytest.mark.parametrize("io", ["uint8", "int8"])
def test_only_the_w8a8_tflite_file_of_a_product_takes_integers(io: str) -> None:
    jobs, _ = plan(Options("all", "fp32,w8,w8a16,w8a8", io=io, calibration=Path("photos")))

    taking = [(job.target.name, job.precision) for job in jobs if job.settings.io == io]
    assert taking == [("tflite", "w8a8")]
    assert {job.settings.io for job in jobs} == {"float32", io}


@pytest.mark.parametrize("target", ["onnx", "coreml", "tflite", "all"])
def test_float32_ends_may_be_asked_of_any_file(target: str) -> None:
    assert {job.settings.io for job in plan(Options(target, io="float32"))[0]} == {"float32"}


def test_the_background_may_be_left_out_of_labels_and_is_put_first() -> None:
    """Of detection and segmentation, whose classes are counted with it."""
    labels = ("cat", "dog")

    assert read_labels(labels, num_classes=3, distinct=False, has_background=True) == ("background", "cat", "dog")
    assert read_labels(labels, num_classes=2, distinct=False, has_background=True) == labels
    with pytest.raises(UsageError, match="2 labels for 3 classes"):
        read_labels(labels, num_classes=3, distinct=False)


def test_labels_of_weights_that_repeat_get_their_class_behind_them() -> None:
    """ImageNet has two cranes, a bird and a machine; a dictionary of Core ML's would lose one."""
    assert made_distinct(("crane", "cat", "crane")) == ("crane", "cat", "crane (2)")


@pytest.mark.parametrize(
    ("given", "ending"),
    [
        ({"task": "detection"}, "boxes"),
        ({"task": "detection", "raw_head": True}, "raw"),
        ({"task": "detection", "nms": True}, "boxes"),
        ({"task": "segmentation"}, "logits"),
        ({"task": "segmentation", "upsample": True, "argmax": True}, "upsampled classes"),
    ],
)
def test_options_name_an_ending_of_their_task(given: dict[str, object], ending: str) -> None:
    options = Options(target="onnx", **given)

    assert ending_of(options, str(given["task"])) == ending
    assert ending in ENDINGS[str(given["task"])]

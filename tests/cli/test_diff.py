"""mvit-diff: every change that is injected is found, and nothing where nothing changed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import mvit_deploy
from mvit_deploy import images
from mvit_deploy.cli.diff import main
from mvit_deploy.report import Report
from mvit_deploy.runtimes.coreml.package import read_specification, specification_path
from tests.cli import shipped
from tests.conftest import LABELS, PHOTOS, SIZE, sensitive, without_library

SAME, DIFFERS, USAGE, NOT_COMPARED, MISSING = 0, 1, 2, 3, 4
HOW = {"resize": 288, "crop": [256, 256], "resampling": "bicubic", "color_order": "RGB", "half_pixel": "down",
       "rounding": "nearest"}  # fmt: skip
Captured = pytest.CaptureFixture[str]


def compared(capfd: Captured, *arguments: object) -> tuple[int, dict[str, object], str]:
    """Exit code, the comparison, and what a person reads."""
    capfd.readouterr()
    code = main([*map(str, arguments), "--json"])
    captured = capfd.readouterr()
    (found,) = json.loads(captured.out, parse_constant=pytest.fail)
    assert found["exit_code"] == code
    return code, found, captured.err


@pytest.fixture(scope="module")
def fp32(labelled: dict[str, Report]) -> Path:
    return labelled["onnx fp32"].path


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """ONNX files of another size, ending and task, from the same seed or classes."""
    model = sensitive("xxs", len(LABELS))
    classifier = {"labels": LABELS, "target": "onnx", "verify": False}
    made = {
        "size": mvit_deploy.export(model, image_size=64, output=tmp_path_factory.mktemp("a"), **classifier),
        "ending": mvit_deploy.export(
            model, image_size=SIZE, probabilities=True, output=tmp_path_factory.mktemp("b"), **classifier
        ),
    }
    heads = {"target": "onnx", "image_size": SIZE, "num_classes": 4, "verify": False}
    made["segmentation"] = mvit_deploy.export("xxs", task="segmentation", output=tmp_path_factory.mktemp("c"), **heads)
    made["detection"] = mvit_deploy.export("xxs", task="detection", output=tmp_path_factory.mktemp("d"), **heads)
    made["nms"] = mvit_deploy.export("xxs", task="detection", nms=True, output=tmp_path_factory.mktemp("e"), **heads)
    return {name: reports[0].path for name, reports in made.items()}


# The same


@pytest.mark.parametrize("name", ["onnx fp32", "tflite fp16", "mlpackage fp16", "mlmodel fp32"])
def test_a_copy_is_said_to_be_the_same_bytes(
    labelled: dict[str, Report], tmp_path: Path, capfd: Captured, name: str
) -> None:
    path = labelled[name].path
    copy = tmp_path / path.name
    shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)

    code, found, err = compared(capfd, path, copy)

    assert (code, found["identical"], found["verdict"]) == (SAME, True, "same")
    assert "the same, byte for byte" in err


def _described(model: onnx.ModelProto) -> None:
    model.doc_string = "written again"


def _repacked(source: Path, target: Path) -> Path:
    """Other bytes that mean the same."""
    if source.suffix == ".onnx":
        return shipped.edited_onnx(source, target, _described)
    if source.suffix == ".tflite":
        content = shipped.parse(source.read_bytes())
        content.description = b"written again"
        archive = source.read_bytes()
        target.write_bytes(shipped.pack(content) + archive[archive.rindex(b"PK\x03\x04") :])
        return target
    shipped._copy(source, target)
    spec = read_specification(target)
    spec.description.metadata.shortDescription = "written again"
    specification_path(target).write_bytes(spec.SerializeToString())
    return target


@pytest.mark.parametrize("name", ["onnx fp16", "tflite fp32", "mlpackage fp16", "onnx w8a8"])
def test_nothing_is_found_where_only_bytes_differ(
    labelled: dict[str, Report], tmp_path: Path, capfd: Captured, name: str
) -> None:
    path = labelled[name].path

    code, found, err = compared(capfd, path, _repacked(path, tmp_path / f"again{path.suffix}"))

    assert (code, found["identical"], found["contract"], found["differs_in"]) == (SAME, False, [], [])
    assert (found["operators"], found["weights"]) == ({}, {})
    assert found["labels"] == {"counts": [5, 5], "renamed": [], "added": [], "removed": [], "moved": []}
    assert [output["sqnr_db"] for output in found["numbers"]["outputs"]] == [300]  # not a bit
    assert found["numbers"]["other_labels"] == []
    for word in ("same: labels", "inputs", "operators", "weights by type"):
        assert word in err


@pytest.mark.parametrize("name", ["tflite fp32", "mlpackage fp32", "mlmodel fp32"])
def test_files_of_one_network_are_the_same_in_every_format(
    labelled: dict[str, Report], fp32: Path, capfd: Captured, name: str
) -> None:
    """Layouts, and that ONNX gives logits where Core ML gives a label and probabilities, are the formats' own."""
    code, found, _ = compared(capfd, fp32, labelled[name].path)

    assert (code, found["differs_in"], found["operators"]) == (SAME, [], None)
    assert {each["field"] for each in found["contract"] if not each["counted"]} <= {"outputs"}
    (output,) = found["numbers"]["outputs"]
    assert output["sqnr_db"] > 80
    assert found["numbers"]["images"] == 15


def test_precisions_differ_and_are_held_to_the_floors_of_the_looser(
    labelled: dict[str, Report], fp32: Path, capfd: Captured
) -> None:
    code, found, _ = compared(capfd, fp32, labelled["onnx w8"].path)
    assert (code, found["differs_in"][0], found["numbers"]["floors_of"]) == (DIFFERS, "precision", "w8")
    assert found["weights"]["int8"][0] == {"elements": 0, "bytes": 0}

    code, found, _ = compared(capfd, labelled["onnx w8"].path, fp32, "--allow", "precision")
    assert (code, found["differs_in"], found["verdict"]) == (SAME, [], "same")
    assert 20 < found["numbers"]["outputs"][0]["photos"]["sqnr_db"] < 80


# One change at a time


@pytest.mark.parametrize(
    ("entries", "field"),
    [
        ({"task": "segmentation"}, "task"),
        ({"mode": "xs"}, "mode"),
        ({"variant": "kornia"}, "variant"),
        ({"precision": "fp16"}, "precision"),
        ({"author": "somebody else"}, "author"),
        ({"license": "MIT"}, "license"),
        ({"version": "2"}, "version"),
        ({"weights_sha256": "0" * 64}, "weights_sha256"),
        ({"preprocessing": json.dumps(HOW)}, "preprocessing"),
        ({"normalization": json.dumps({"mean": [0.5] * 3, "std": [0.5] * 3})}, "normalization"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_changed_statement_is_found_alone(
    fp32: Path, tmp_path: Path, capfd: Captured, entries: dict[str, str], field: str
) -> None:
    changed = shipped.saying(fp32, tmp_path / "x.onnx", **entries)

    code, found, err = compared(capfd, fp32, changed)

    assert (code, found["differs_in"]) == (DIFFERS, [field])
    assert f"differs in {field}" in err


def test_what_is_allowed_to_differ_is_told_and_does_not_count(fp32: Path, tmp_path: Path, capfd: Captured) -> None:
    changed = shipped.saying(fp32, tmp_path / "x.onnx", version="2", author="somebody else")
    assert compared(capfd, fp32, changed, "--allow", "version")[1]["differs_in"] == ["author"]

    code, found, err = compared(capfd, fp32, changed, "--allow", "version,author")

    assert (code, [each["field"] for each in found["contract"]]) == (SAME, ["author", "version"])
    assert "allowed to differ: author, version" in err


@pytest.mark.parametrize(
    ("entries", "detail"),
    [({"color_order": "BGR"}, "image color_order"), ({"value_range": "[-1.0, 1.0]"}, "image range")],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_another_way_of_giving_pixels_shows_in_the_numbers_too(
    fp32: Path, tmp_path: Path, capfd: Captured, entries: dict[str, str], detail: str
) -> None:
    code, found, _ = compared(capfd, fp32, shipped.saying(fp32, tmp_path / "x.onnx", **entries))

    assert (code, found["differs_in"]) == (DIFFERS, ["inputs", "numbers"])
    assert [each["detail"] for each in found["contract"]] == [detail]


@pytest.mark.parametrize(
    ("labels", "key", "expected"),
    [
        (["daisy", "dandelion", "roses", "sunflower", "tulip"], "renamed", [{"place": 2, "a": "rose", "b": "roses"}]),
        (
            ["dandelion", "daisy", "rose", "sunflower", "tulip"],
            "moved",
            [{"label": "daisy", "a": 0, "b": 1}, {"label": "dandelion", "a": 1, "b": 0}],
        ),
        (["daisy", "dandelion", "rose", "sunflower"], "removed", [{"place": 4, "label": "tulip"}]),
        ([*LABELS, "weed"], "added", [{"place": 5, "label": "weed"}]),
    ],
    ids=["renamed", "moved", "removed", "added"],
)
def test_changed_labels_are_found(
    fp32: Path, tmp_path: Path, capfd: Captured, labels: list[str], key: str, expected: object
) -> None:
    code, found, _ = compared(capfd, fp32, shipped.saying(fp32, tmp_path / "x.onnx", labels=json.dumps(labels)))

    assert (code, found["labels"][key], "labels" in found["differs_in"]) == (DIFFERS, expected, True)


def _head(model: onnx.ModelProto) -> tuple[onnx.TensorProto, onnx.TensorProto]:
    """Weight (5, 320) and bias (5) of the classifier's last product."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    (gemm,) = [node for node in model.graph.node if node.op_type == "Gemm"]
    return tensors[gemm.input[1]], tensors[gemm.input[2]]


def _with(tensor: onnx.TensorProto, values: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def test_labels_alone_in_another_order_are_another_answer(fp32: Path, tmp_path: Path, capfd: Captured) -> None:
    """Each label's own number is compared: it has become another class's."""
    shuffled = json.dumps([LABELS[place] for place in (1, 2, 3, 4, 0)])

    code, found, err = compared(capfd, fp32, shipped.saying(fp32, tmp_path / "x.onnx", labels=shuffled))

    assert (code, found["differs_in"], found["numbers"]["by_label"]) == (DIFFERS, ["labels", "numbers"], True)
    assert len(found["numbers"]["other_labels"]) == 15
    assert "the same label on 0 of 15 images" in err


def test_classes_and_labels_in_another_order_together_are_the_same_answer(
    fp32: Path, tmp_path: Path, capfd: Captured
) -> None:
    order = [1, 2, 3, 4, 0]

    def change(model: onnx.ModelProto) -> None:
        for tensor in _head(model):
            _with(tensor, numpy_helper.to_array(tensor)[order])

    moved = shipped.edited_onnx(fp32, tmp_path / "moved.onnx", change)
    labels = json.dumps([LABELS[place] for place in order])
    changed = shipped.saying(moved, tmp_path / "x.onnx", labels=labels)

    code, found, _ = compared(capfd, fp32, changed)
    assert (code, found["differs_in"], found["numbers"]["other_labels"]) == (DIFFERS, ["labels"], [])
    assert compared(capfd, fp32, changed, "--allow", "labels")[0] == SAME


def test_a_changed_bias_is_measured_to_its_last_digit(fp32: Path, tmp_path: Path, capfd: Captured) -> None:
    """Half a unit more for one class: max_abs is 0.5, and rel_max that over what ONNX Runtime itself gives."""

    def change(model: onnx.ModelProto) -> None:
        bias = _head(model)[1]
        _with(bias, numpy_helper.to_array(bias) + np.array([0, 0, 0.5, 0, 0], np.float32))

    code, found, err = compared(capfd, fp32, shipped.edited_onnx(fp32, tmp_path / "x.onnx", change))

    pixels = images.verification_set(SIZE, seed=0).pixels
    batch = (pixels.transpose(0, 3, 1, 2) / np.float32(255)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(fp32))
    logits = np.concatenate([session.run(None, {"image": image[None]})[0] for image in batch])
    (output,) = found["numbers"]["outputs"]
    assert (code, found["differs_in"]) == (DIFFERS, ["numbers"])
    assert output["max_abs"] == pytest.approx(0.5, abs=1e-5)
    assert output["rel_max"] == pytest.approx(0.5 / np.abs(logits).max(), rel=1e-4)
    assert output["sqnr_db"] == pytest.approx(10 * np.log10((logits**2).sum() / (0.25 * len(logits))), abs=1e-3)
    moved = logits + np.array([0, 0, 0.5, 0, 0])
    changed = (logits.argmax(1) != moved.argmax(1)).sum()
    assert len(found["numbers"]["other_labels"]) == changed
    assert f"the same label on {15 - changed} of 15 images" in err


def test_an_operator_more_is_told_and_does_not_count(fp32: Path, tmp_path: Path, capfd: Captured) -> None:
    def change(model: onnx.ModelProto) -> None:
        last = model.graph.node[-1]
        last.output[0] = "before"
        model.graph.node.append(helper.make_node("Identity", ["before"], ["logits"]))

    code, found, err = compared(capfd, fp32, shipped.edited_onnx(fp32, tmp_path / "x.onnx", change))

    assert (code, found["operators"]) == (SAME, {"Identity": [0, 1]})
    assert "operators Identity" in err


def test_another_size_is_found_and_photos_alone_are_compared(
    fp32: Path, others: dict[str, Path], capfd: Captured
) -> None:
    code, found, _ = compared(capfd, fp32, others["size"])

    assert (code, found["differs_in"][0]) == (DIFFERS, "inputs")
    assert {"field": "inputs", "detail": "image shape", "a": [1, 3, 64, 96], "b": [1, 3, 64, 64], "counted": True} in (
        found["contract"]
    )
    assert found["numbers"]["images"] == len(list(PHOTOS.glob("*.jpg")))


def test_logits_and_probabilities_differ_within_a_format_and_are_made_comparable(
    fp32: Path, others: dict[str, Path], capfd: Captured
) -> None:
    code, found, _ = compared(capfd, fp32, others["ending"])

    assert (code, found["differs_in"]) == (DIFFERS, ["outputs"])
    (output,) = found["numbers"]["outputs"]
    assert (output["name"], output["verdict"], output["sqnr_db"] > 80) == ("probabilities", "match", True)


def test_another_task_is_found_and_no_numbers_are_compared(
    fp32: Path, others: dict[str, Path], capfd: Captured
) -> None:
    code, found, err = compared(capfd, fp32, others["segmentation"])

    assert (code, {"task", "outputs", "labels"} <= set(found["differs_in"])) == (DIFFERS, True)
    assert found["numbers"]["verdict"] == "not_run"
    assert "one is for classification, the other for segmentation" in err


# Detectors


def test_detectors_with_and_without_suppression_are_compared_in_front_of_it(
    others: dict[str, Path], capfd: Captured
) -> None:
    code, found, err = compared(capfd, others["detection"], others["nms"])

    assert (code, found["differs_in"]) == (DIFFERS, ["outputs", "suppression"])
    assert {each["name"]: each["verdict"] for each in found["numbers"]["outputs"]} == {
        "boxes": "match", "scores": "match",
    }  # fmt: skip
    assert "not compared: detections" in err


def test_a_threshold_that_only_the_operator_has_is_found(
    others: dict[str, Path], tmp_path: Path, capfd: Captured
) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "nms/score_threshold")
        _with(tensor, np.array([0.3], np.float32))

    changed = shipped.edited_onnx(others["nms"], tmp_path / "x.onnx", change)

    code, found, err = compared(capfd, others["nms"], changed)

    assert (code, found["differs_in"], found["contract"]) == (DIFFERS, ["numbers"], [])
    matched = found["numbers"]["detections"]
    assert matched["b"] == matched["matched"] < matched["a"]
    assert "score_threshold=0.3" in err


def test_a_detector_is_the_same_as_itself(others: dict[str, Path], tmp_path: Path, capfd: Captured) -> None:
    again = shipped.edited_onnx(others["nms"], tmp_path / "x.onnx", _described)

    code, found, _ = compared(capfd, others["nms"], again)

    matched = found["numbers"]["detections"]
    assert (code, matched["largest_score_difference"]) == (SAME, 0)
    assert matched["a"] == matched["b"] == matched["matched"] > 0


# Files of other tools


def test_a_file_that_says_nothing_of_its_images_differs_from_one_that_does(
    fp32: Path, tmp_path: Path, capfd: Captured
) -> None:
    code, found, err = compared(capfd, fp32, shipped.without_metadata(fp32, tmp_path))

    assert (code, found["differs_in"][0], found["numbers"]["verdict"]) == (DIFFERS, "metadata", "not_run")
    assert "the second file does not say how its images are prepared" in err


def test_what_cannot_be_compared_is_never_said_to_be_the_same(fp32: Path, tmp_path: Path, capfd: Captured) -> None:
    foreign = shipped.without_metadata(fp32, tmp_path)
    again = shipped.edited_onnx(foreign, tmp_path / "x.onnx", _described)

    assert compared(capfd, foreign, again)[0] == NOT_COMPARED
    assert compared(capfd, foreign, again, "--allow", "numbers")[0] == SAME


def test_foreign_files_differ_by_inputs_and_operators(tmp_path: Path, capfd: Captured) -> None:
    code, found, _ = compared(
        capfd, shipped.two_inputs(tmp_path / "two.onnx"), shipped.no_inputs(tmp_path / "none.onnx")
    )

    assert (code, {"inputs", "outputs", "specification"} <= set(found["differs_in"])) == (DIFFERS, True)
    assert found["operators"]["MatMul"] == [1, 0]


# The command line


def test_photos_of_a_folder_join_the_built_in_images(fp32: Path, tmp_path: Path, capfd: Captured) -> None:
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    shutil.copy(PHOTOS / "cat.jpg", tmp_path / "photos" / "deep" / "kitten.jpg")
    again = shipped.edited_onnx(fp32, tmp_path / "x.onnx", _described)

    code, found, _ = compared(capfd, fp32, again, "--images", tmp_path / "photos")

    assert (code, found["numbers"]["images"]) == (SAME, 16)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give two files to compare, not 0"),
        (["FILE"], "give two files to compare, not 1"),
        (["FILE"] * 3, "give two files to compare, not 3"),
        (["FILE", "nowhere.onnx"], "there is no file nowhere.onnx"),
        (["FILE", "model.onx"], "not a file of a known target"),
        (["FILE", "FILE", "--allow", "precison"], "did you mean 'precision'?"),
        (["FILE", "FILE", "--images", "nowhere"], "nowhere is not a folder of images"),
        (["FILE", "FILE", "--imges", "nowhere"], "--images"),
    ],
)
def test_misuse_is_exit_2_and_json_stays_an_array(
    fp32: Path, capfd: Captured, arguments: list[str], words: str
) -> None:
    code = main([*(str(fp32) if word == "FILE" else word for word in arguments), "--json"])

    out, err = capfd.readouterr()
    assert (code, out) == (USAGE, "[]\n")
    assert words in err


def test_a_damaged_file_is_exit_1_and_one_line(fp32: Path, tmp_path: Path, capfd: Captured) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model at all")

    code = main([str(fp32), str(tmp_path / "x.onnx"), "--json"])

    out, err = capfd.readouterr()
    assert (code, out, err.count("\n")) == (DIFFERS, "[]\n", 1)


def test_a_missing_library_names_its_extra(fp32: Path, labelled: dict[str, Report]) -> None:
    result = without_library("ai_edge_litert", "diff", fp32, labelled["tflite fp32"].path)

    assert (result.returncode, "mvit-deploy[tflite]" in result.stderr) == (MISSING, True)


def test_neither_pytorch_nor_a_converter_is_loaded(fp32: Path, labelled: dict[str, Report]) -> None:
    heavy = ["torch", "tensorflow", "tf_keras", "onnx2tf", "coremltools", "matplotlib"]
    for name in ("tflite fp32", "mlpackage fp32"):
        code = (
            "import sys; from mvit_deploy.cli.diff import main;"
            f"code = main([{str(fp32)!r}, {str(labelled[name].path)!r}, '--json']);"
            f"print([m for m in {heavy} if m in sys.modules], code)"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

        assert result.stdout.splitlines()[-1] == "[] 0"

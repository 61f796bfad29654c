"""Damaged or false files that sort boxes out are a mismatch, in one line: never a match or another exception."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from flatbuffers import flexbuffers

import mvit_deploy
from mvit_deploy import images
from mvit_deploy.metadata import PREFIX
from mvit_deploy.parity import MATCH, MISMATCH, NOT_RUN
from mvit_deploy.reference import image_tensors
from mvit_deploy.runtimes.coreml.package import pb
from mvit_deploy.runtimes.tflite_file import pack, schema
from mvit_deploy.verification import Expectation, verify
from tests.exporters.test_nms import SETTINGS, SIZE, contract, model, write
from tests.runtimes.suppressed_edits import (
    behind,
    change_core_ml,
    constant,
    doubled,
    exchange_outputs,
    first_row,
    nested,
    operator,
    stage,
    with_anchors,
    with_entries,
    with_inputs,
    with_options,
    with_raw_options,
    without_labels,
    without_task_metadata,
)

RULE = f"{PREFIX}suppression"
core_ml_forms = pytest.mark.parametrize("form", ["mlpackage", "mlmodel"])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("suppressed")
    return {form: write(folder, form, model(), contract(form)) for form in SETTINGS}


@pytest.fixture(scope="module")
def expectation() -> Expectation:
    """Of one photo: the contract is each form's own."""
    whole = images.verification_set(SIZE, seed=0)
    inputs = replace(whole, pixels=whole.pixels[:1], kinds=whole.kinds[:1], names=whole.names[:1])
    with torch.no_grad():
        boxes, scores = model()(image_tensors(inputs.pixels, "RGB"))
    return Expectation(contract("onnx"), "fp32", inputs, {"boxes": boxes.numpy(), "scores": scores.numpy()})


def reason(file: Path, expectation: Expectation) -> str:
    """Why the file does not match, here and without a report, where there is nothing to hold it to."""
    found = verify(file, replace(expectation, contract=contract(file.suffix[1:])))
    (again,) = mvit_deploy.verify(file)

    assert again.verdict in (MISMATCH, NOT_RUN)
    assert found.verdict == MISMATCH, found.reason
    assert "\n" not in found.reason + again.reason
    return found.reason


@pytest.mark.parametrize("form", SETTINGS)
def test_the_whole_files_match(files: dict[str, Path], expectation: Expectation, form: str) -> None:
    assert verify(files[form], replace(expectation, contract=contract(form))).verdict == MATCH


# What a file says of its rule.


@pytest.mark.parametrize("form", SETTINGS)
@pytest.mark.parametrize(
    "said",
    [
        "{", "null", "[1]", '{"other": 1}', '{"score_threshold": "0.05"}', '{"score_threshold": null}',
        '{"score_threshold": NaN}', '{"iou_threshold": 1.5}', '{"kept": 0}', '{"kept_per_class": true}',
        '{"kept_per_class": 1.5}', '{"one_class": 1}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_rule_that_is_none_is_refused(
    files: dict[str, Path], tmp_path: Path, expectation: Expectation, form: str, said: str
) -> None:
    file = with_entries(files[form], tmp_path / f"a.{form}", {RULE: said})

    assert reason(file, expectation).startswith("the file's metadata do not give what they should")


@pytest.mark.parametrize("entry", [["fp32"], {}, 5, None])
def test_metadata_that_are_no_strings_are_refused(
    files: dict[str, Path], tmp_path: Path, expectation: Expectation, entry: object
) -> None:
    file = with_entries(files["tflite"], tmp_path / "a.tflite", {f"{PREFIX}precision": entry})

    assert "no JSON object of strings" in reason(file, expectation)


# ONNX.


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda n: behind(n, "scores", "Mul", np.float32(0.999)), "no box of the network"),
        (lambda n: behind(n, "boxes", "Gather", np.array([1, 0, 3, 2]), axis=1), "no box of the network"),
        (lambda n: constant(n, "nms/one", np.int64(0)), "none of 1 to 3"),
        (lambda n: constant(n, "nms/first_class", np.array([0])), "scores: outputs have shape"),
        (lambda n: first_row(n, "scores"), "of the shapes"),
        (lambda n: first_row(n, "boxes"), "of the shapes"),
        (lambda n: constant(n, "nms/iou_threshold", np.full(2, 0.5, np.float32)), "not one number"),
        (lambda n: constant(n, "nms/iou_threshold", np.zeros(0, np.float32)), "not one number"),
        (lambda n: constant(n, "nms/score_threshold", np.full(1, np.nan, np.float32)), "score_threshold=nan"),
        (lambda n: n.graph.ClearField("output"), "outputs: the file says []"),
    ],
)
def test_onnx_files_that_find_something_else(
    files: dict[str, Path],
    tmp_path: Path,
    expectation: Expectation,
    change: Callable[[onnx.ModelProto], object],
    named: str,
) -> None:
    network = onnx.load(files["onnx"])
    change(network)
    onnx.save(network, tmp_path / "a.onnx")

    assert named in reason(tmp_path / "a.onnx", expectation)


def test_onnx_metadata_that_are_no_text(files: dict[str, Path], tmp_path: Path, expectation: Expectation) -> None:
    content = files["onnx"].read_bytes()
    (tmp_path / "a.onnx").write_bytes(content.replace(b'"score_threshold"', b'"score_threshol\xff"'))

    assert "are no text" in reason(tmp_path / "a.onnx", expectation)


# TFLite.


@pytest.mark.parametrize(
    ("change", "named"),
    [
        *[(lambda n, o=o: doubled(n, o), "outputs are not those") for o in (b"boxes", b"scores", b"classes", b"count")],
        (exchange_outputs, "outputs are not those"),
        (lambda n: with_options(n, nms_score_threshold="a"), "no number"),
        (lambda n: with_options(n, num_classes=[3]), "no number"),
        (lambda n: with_options(n, num_classes=4), "scores: outputs have shape"),
        (lambda n: with_options(n, y_scale=0.0), "not positive"),
        (lambda n: with_options(n, w_scale=float("nan")), "not positive"),
        (lambda n: with_options(n, max_detections=-1), "LiteRT cannot run"),
        (lambda n: with_options(n, use_regular_nms=False), "class by class"),
        (lambda n: with_raw_options(n, None), "cannot be read"),
        (lambda n: with_raw_options(n, b"no flexbuffer"), "cannot be read"),
        (lambda n: with_raw_options(n, bytes(flexbuffers.Dumps({}))), "cannot be read"),
        (lambda n: with_inputs(n, 0, 10**6), "LiteRT cannot run"),
        (lambda n: with_inputs(n, 1, -1), "LiteRT cannot run"),
        (lambda n: setattr(operator(n), "inputs", None), "of our form"),
        (lambda n: setattr(n.subgraphs[0], "operators", None), "0 TFLite_Detection_PostProcess"),
        (lambda n: setattr(n.signatureDefs[0].outputs[0], "tensorIndex", 10**6), "LiteRT cannot open"),
        (lambda n: setattr(n.signatureDefs[0], "subgraphIndex", 3), "a signature of none"),
        (lambda n: setattr(n, "subgraphs", None), "no graph"),
        (lambda n: with_anchors(n, np.ones((71, 4))), "anchors (71, 4)"),
        (lambda n: with_anchors(n, np.ones((142, 5))), "anchors (142, 5)"),
        (lambda n: with_anchors(n, np.ones(4)), "LiteRT cannot run"),
        (lambda n: with_anchors(n, np.full((142, 4), 3e38)), "boxes: "),
    ],
)
def test_tflite_files_that_find_something_else(
    files: dict[str, Path],
    tmp_path: Path,
    expectation: Expectation,
    change: Callable[[schema.ModelT], object],
    named: str,
) -> None:
    network = without_task_metadata(files["tflite"])
    change(network)
    (tmp_path / "a.tflite").write_bytes(pack(network))

    assert named in reason(tmp_path / "a.tflite", expectation)


# Core ML.


@core_ml_forms
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: setattr(stage(s), "coordinatesOutputFeatureName", "confidence"), "calls its features"),
        (lambda s: setattr(stage(s), "iouThresholdInputFeatureName", "confidenceThreshold"), "calls its features"),
        (
            lambda s: setattr(stage(s), "coordinatesInputFeatureName", "other"),
            "not give what the suppression takes",
        ),
        (lambda s: s.pipeline.models[0].description.ClearField("output"), "not give what the suppression takes"),
        (lambda s: s.pipeline.models[0].description.ClearField("input"), "does not take the network's image"),
        (lambda s: s.pipeline.models[1].ClearField("description"), "does not take the network's image"),
        (lambda s: s.description.ClearField("input"), "does not take the network's image"),
        (lambda s: s.description.ClearField("output"), "does not give what the suppression gives"),
        (
            lambda s: setattr(s.pipeline.models[0].description.input[0].type.imageType, "colorSpace", 30),  # BGR
            "does not take the network's image",
        ),
        (lambda s: stage(s).int64ClassLabels.vector.extend([1, 2, 3]), "labels"),
        (lambda s: stage(s).stringClassLabels.vector.append("other"), "labels"),
        (lambda s: s.pipeline.models.pop(), "holds neither"),
        (lambda s: s.pipeline.models.add().CopyFrom(s.pipeline.models[1]), "holds neither"),
        (lambda s: s.pipeline.ClearField("models"), "holds neither"),
        (nested, "holds neither"),
    ],
)
def test_core_ml_pipelines_whose_parts_do_not_fit(
    files: dict[str, Path],
    tmp_path: Path,
    expectation: Expectation,
    form: str,
    change: Callable[[pb.Model], object],
    named: str,
) -> None:
    change_core_ml(files[form], tmp_path / f"a.{form}", change)

    assert named in reason(tmp_path / f"a.{form}", expectation)


@core_ml_forms
@pytest.mark.parametrize("kept", [0, 2])
def test_core_mls_suppression_names_every_class(
    files: dict[str, Path], tmp_path: Path, expectation: Expectation, form: str, kept: int
) -> None:
    """Where the metadata have no labels, the count of the suppression's own is held to the scores."""
    change_core_ml(files[form], tmp_path / f"a.{form}", lambda spec: without_labels(spec, kept))
    unlabelled = replace(contract(form), labels=None)

    found = verify(tmp_path / f"a.{form}", replace(expectation, contract=unlabelled))

    assert (found.verdict, found.reason.split(", and ")[-1]) == (MISMATCH, f"names {kept} classes")

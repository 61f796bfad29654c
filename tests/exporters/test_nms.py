"""Detectors that sort their boxes out in the file, by each target's own operator, are held to the promised rule."""

import importlib
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mvit_deploy
from exporters import TARGETS
from mvit_deploy import images, parity, runtimes
from mvit_deploy.cli.export import main
from mvit_deploy.detection import non_maximum_suppression
from mvit_deploy.errors import UsageError
from mvit_deploy.metadata import entries
from mvit_deploy.nn.build import seeded_detector
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.nn.heads.detection import Decoded
from mvit_deploy.parity import MATCH, MISMATCH, NOT_RUN
from mvit_deploy.reference import image_tensors
from mvit_deploy.runtimes import suppressed
from mvit_deploy.spec import SUPPRESSIONS, Contract, Output, Settings
from mvit_deploy.verification import NOTHING_FOUND, Expectation, verify
from tests.conftest import PHOTOS, quick_blame

SIZE, CLASSES = (64, 64), 4
LABELS = ("background", "cat", "dog", "bird")
SETTINGS = {
    "onnx": ("onnx", Settings("onnx")),
    "mlpackage": ("coreml", Settings("mlpackage", 16)),
    "mlmodel": ("coreml", Settings("mlmodel", 13)),
    "tflite": ("tflite", Settings("tflite")),
}
every_form = pytest.mark.parametrize("form", SETTINGS)


def model() -> Decoded:
    return Decoded(seeded_detector("xxs", CLASSES, seed=3), SIZE).eval()


def contract(form: str) -> Contract:
    anchors = len(model().centres[0])
    outputs = (Output("boxes", (anchors, 4)), Output("scores", (anchors, CLASSES)))
    suppression = SUPPRESSIONS[SETTINGS[form][0]]
    return Contract("xxs", "detection", "paper", SIZE, outputs, LABELS, suppression=suppression)


def write(path: Path, form: str, module: Decoded, promised: Contract) -> Path:
    target, settings = SETTINGS[form]
    exporter = importlib.import_module(f"exporters.{target}")
    file = path / f"a.{form}"
    exporter.write(exporter.lower(fuse(module), promised, settings), "fp32", file)
    return file


@pytest.fixture(scope="module")
def expectation() -> Expectation:
    """What PyTorch gives; the contract is each form's own."""
    inputs = images.verification_set(SIZE, seed=0)
    with torch.no_grad():
        boxes, scores = model()(image_tensors(inputs.pixels, "RGB"))
    return Expectation(contract("onnx"), "fp32", inputs, {"boxes": boxes.numpy(), "scores": scores.numpy()})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("nms")
    return {form: write(folder, form, model(), contract(form)) for form in SETTINGS}


@every_form
def test_files_match_and_say_what_they_give(files: dict[str, Path], expectation: Expectation, form: str) -> None:
    promised = contract(form)

    found = verify(files[form], replace(expectation, contract=promised))

    assert (found.verdict, found.reason) == (MATCH, "")
    assert list(found.judgements) == ["boxes", "scores"]
    assert found.findings["suppression"]["detections"] > 100
    assert found.interface.suppression == promised.suppression
    names = {output.name for output in found.interface.outputs}
    assert names == {
        "onnx": {"boxes", "scores", "classes"},
        "tflite": {"boxes", "scores", "classes", "count"},
    }.get(form, {"coordinates", "confidence"})


@every_form
def test_every_form_finds_the_same_good_boxes(files: dict[str, Path], form: str) -> None:
    """Held to NumPy's suppression of PyTorch's output: the best of each class, whose order no limit changes."""
    pixels = images.verification_set(SIZE, seed=0).pixels[:3]

    given = suppressed.detect(files[form], pixels)

    for found, boxes, scores in zip(given.detections, given.boxes, given.scores, strict=True):
        expected = non_maximum_suppression(boxes, np.pad(scores, ((0, 0), (1, 0))))
        assert found.scores[0] == pytest.approx(expected.scores[0], abs=1e-6)
        assert found.boxes[0] == pytest.approx(expected.boxes[0], abs=1e-5)
        assert found.classes[0] == expected.classes[0]


@dataclass(frozen=True)
class Lying(Contract):
    """What is written into the file's metadata is promised, what the file does is not."""

    promised: Contract | None = None


@pytest.fixture(autouse=True)
def lies_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let exporters write the metadata of what is promised."""
    for name in ("onnx", "coreml", "tflite"):
        module = importlib.import_module(f"exporters.{name}")
        monkeypatch.setattr(module, "entries", lambda said, word: entries(getattr(said, "promised", said), word))


def lying(promised: Contract, **wrong: object) -> Lying:
    said = {field.name: getattr(promised, field.name) for field in fields(Contract)}
    return Lying(**said | wrong, promised=promised)


@every_form
@pytest.mark.parametrize(
    "wrong", [{"score_threshold": 0.3}, pytest.param({"iou_threshold": 0.9}, marks=pytest.mark.slow)]
)
def test_another_rule_than_the_promised_is_a_mismatch(
    tmp_path: Path, expectation: Expectation, form: str, wrong: dict[str, float]
) -> None:
    promised = contract(form)
    other = lying(promised, suppression=replace(promised.suppression, **wrong))

    found = verify(write(tmp_path, form, model(), other), replace(expectation, contract=promised))

    assert found.verdict == MISMATCH
    assert found.reason.startswith("the file's suppression is Suppression(")
    assert {name: each.verdict for name, each in found.judgements.items()} == {"boxes": MATCH, "scores": MATCH}


@every_form
def test_another_network_is_a_mismatch_of_its_boxes_and_scores(
    tmp_path: Path, expectation: Expectation, form: str
) -> None:
    wrong = model()
    with torch.no_grad():
        wrong.head.predict[0].pointwise.bias[:1] += 0.5

    found = verify(write(tmp_path, form, wrong, contract(form)), replace(expectation, contract=contract(form)))

    assert (found.verdict, found.reason[:7]) == (MISMATCH, "boxes: ")


@pytest.mark.parametrize("form", ["mlpackage", "mlmodel"])
def test_shuffled_labels_of_core_mls_suppression_are_a_mismatch(
    tmp_path: Path, expectation: Expectation, form: str
) -> None:
    promised = contract(form)
    file = write(tmp_path, form, model(), lying(promised, labels=("background", "dog", "cat", "bird")))

    found = verify(file, replace(expectation, contract=promised))

    assert (found.verdict, found.reason) == (MISMATCH, "the suppression's labels and those in the metadata differ")


def test_a_common_factor_of_the_scores_is_an_error_of_theirs() -> None:
    scores = np.random.default_rng(0).dirichlet([1.0] * CLASSES, 50).astype(np.float32)

    same, other = (parity.foreground(scores, scores[:, 1:] * factor) for factor in (1, 0.9))

    assert parity.measure(reference=same[0], candidate=same[1]).max_abs == 0
    assert parity.measure(reference=other[0], candidate=other[1]).max_abs == pytest.approx(-np.log(0.9), rel=1e-4)


@every_form
def test_where_nothing_is_found_nothing_is_proved(tmp_path: Path, form: str) -> None:
    silent = seeded_detector("xxs", CLASSES, seed=3)
    with torch.no_grad():
        for layer in silent.head.last_layers:
            layer.bias.reshape(-1, 4 + CLASSES)[:, 4] += 100  # the background's
    target, settings = SETTINGS[form]
    options = {"format": settings.format} if target == "coreml" else {}

    (report,) = mvit_deploy.export(
        silent, target=target, precision="fp32", image_size=64, nms=True, output=tmp_path, **options
    )

    assert (report.verdict, report.reason, report.exit_code) == (NOT_RUN, NOTHING_FOUND, 3)


@pytest.mark.parametrize("target", [pytest.param(t, marks=[pytest.mark.slow] * (t != "onnx")) for t in TARGETS])
def test_integer_files_sort_boxes_out_too(tmp_path: Path, target: str) -> None:
    with quick_blame():
        (report,) = mvit_deploy.export(
            "xxs",
            task="detection",
            num_classes=CLASSES,
            target=target,
            precision="w8a8",
            calibration=PHOTOS,
            image_size=64,
            nms=True,
            output=tmp_path,
        )

    assert report.verdict == MATCH, report.reason
    assert report.content["verification"]["suppression"]["detections"] > 10
    assert report.content["artifact"]["int8"]["weight_fraction"] > 0.5


def test_the_command_writes_such_files_and_verify_judges_them_again(tmp_path: Path) -> None:
    options = ["--task", "detection", "--mode", "xxs", "--image-size", "64", "--num-classes", str(CLASSES), "--nms"]

    assert main([*options, "--target", "onnx,coreml", "--output", str(tmp_path)]) == 0

    files = [tmp_path / f"mobilevit_xxs_detection_{name}" for name in ("fp16.mlpackage", "fp32.onnx")]
    again = [*mvit_deploy.verify(files), *mvit_deploy.verify(files, live=True)]
    assert [(report.verdict, report.reason) for report in again] == [(MATCH, "")] * 4
    assert all(report.content["verification"]["suppression"]["detections"] for report in again)


@every_form
def test_outputs_of_several_images_are_no_array(files: dict[str, Path], form: str) -> None:
    with pytest.raises(UsageError, match="another number on each image"):
        runtimes.open_file(files[form]).run(np.zeros((2, *SIZE, 3), np.uint8))

"""Every mode, task, format and precision matches PyTorch at the floors of its precision."""

import itertools
from pathlib import Path

import pytest

import mvit_deploy
from exporters import TARGETS
from mvit_deploy.nn.config import MODES
from mvit_deploy.nn.endings import ENDINGS
from mvit_deploy.parity import MATCH
from mvit_deploy.spec import NEEDS_CALIBRATION, PRECISIONS, TASKS, VARIANTS
from tests.conftest import PHOTOS, quick_blame

SIZE = (64, 96)
FORMATS = [(name, form) for name, target in TARGETS.items() for form in target.formats]
FLOAT = ("fp32", "fp16")
INTEGER = ("w8", "w8a16", "w8a8")
CASES = list(itertools.product(("xxs", "xs", "s"), ("classification", "detection", "segmentation"), FORMATS))
# One mode for each task, so that every target of every task is in each run; of the classic format classifiers alone.
THIN = {"classification": "xs", "detection": "xxs", "segmentation": "xxs"}
PARTS = ("upsampled", "classes")  # of the ending that is both
QUICK = {("onnx", "segmentation")}  # integer files of heads; the others in the full matrix


def case(mode: str, task: str, form: tuple[str, str]) -> object:
    is_thin = THIN[task] == mode and (form[1] != "mlmodel" or task == "classification")
    marks = () if is_thin else (pytest.mark.slow,)
    return pytest.param(mode, task, *form, id=f"{mode} {task} {form[1]}", marks=marks)


def test_the_matrix_holds_every_mode_task_target_and_precision_that_there_is() -> None:
    modes, tasks, forms = (set(axis) for axis in zip(*CASES, strict=True))

    assert modes == set(MODES)
    assert tasks == set(TASKS) == set(ENDINGS)
    assert {target for target, _ in forms} == set(TARGETS)
    assert {*FLOAT, *INTEGER} == set(PRECISIONS)
    assert set(VARIANTS) == {"paper", "kornia"}


@pytest.mark.parametrize(("mode", "task", "target", "form"), [case(*each) for each in CASES])
def test_float_files_match(tmp_path: Path, mode: str, task: str, target: str, form: str) -> None:
    options = {"format": form} if target == "coreml" else {}

    reports = mvit_deploy.export(
        mode, task=task, target=target, precision=FLOAT, image_size=SIZE, output=tmp_path, **options
    )

    assert [(r.path.name, r.verdict, r.reason) for r in reports] == [(r.path.name, MATCH, "") for r in reports]
    assert [r.content["artifact"]["precision"] for r in reports] == [*FLOAT]
    outputs = [output["name"] for output in reports[0].content["verification"]["outputs"]]
    assert outputs == sorted(next(iter(ENDINGS[task].values())), key=outputs.index)


@pytest.mark.parametrize(
    ("target", "task"),
    [
        pytest.param(target, task, marks=[pytest.mark.slow] * ((target, task) not in QUICK))
        for target in TARGETS
        for task in ("detection", "segmentation")
    ],
)
def test_integer_files_of_every_task_are_written_and_run(tmp_path: Path, task: str, target: str) -> None:
    """With random weights w8 alone is held to floors."""
    precisions = [word for word in INTEGER if word in TARGETS[target].precisions]

    with quick_blame():
        reports = mvit_deploy.export(
            "xxs", task=task, target=target, precision=precisions, calibration=PHOTOS, image_size=64, output=tmp_path
        )

    assert [r.verdict for r in reports] == [MATCH] * len(precisions), [r.reason for r in reports]
    for report in reports:
        precision, int8 = report.content["artifact"]["precision"], report.content["artifact"]["int8"]
        assert int8["weight_fraction"] > 0.5
        assert (report.reason == "") == (precision not in NEEDS_CALIBRATION)
        assert any(
            ".predict." in each["layer"] or ".aspp." in each["layer"]
            for each in report.content["quantization"]["blame"]
        )


@pytest.mark.parametrize(
    ("target", "task", "ending"),
    [
        pytest.param(target, task, ending, marks=[pytest.mark.slow] * (target != "onnx" and ending in PARTS))
        for target in TARGETS
        for task, endings in ENDINGS.items()
        for ending in [*endings][1:]
    ],
)
def test_other_endings_match(tmp_path: Path, task: str, ending: str, target: str) -> None:
    options = {"raw_head": ending == "raw", "upsample": "upsampled" in ending, "argmax": "classes" in ending}

    reports = mvit_deploy.export(
        "xxs", task=task, target=target, precision="fp32", image_size=64, output=tmp_path, **options
    )

    assert [(r.verdict, r.reason) for r in reports] == [(MATCH, "")]
    assert reports[0].content["model"]["ending"] == ending


@pytest.mark.parametrize("target", [pytest.param(t, marks=[pytest.mark.slow] * (t != "onnx")) for t in TARGETS])
def test_segmenters_of_output_stride_8_match_and_are_judged_again_as_such(tmp_path: Path, target: str) -> None:
    options = {"task": "segmentation", "output_stride": 8, "image_size": 64, "target": target, "precision": "fp32"}

    (report,) = mvit_deploy.export("xxs", output=tmp_path, **options)

    assert (report.verdict, report.reason) == (MATCH, "")
    shape = report.content["artifact"]["outputs"][0]["shape"]
    assert tuple(shape) == ((1, 8, 8, 21) if target == "tflite" else (1, 21, 8, 8))
    again = [*mvit_deploy.verify(report.path), *mvit_deploy.verify(report.path, live=True)]
    assert [(each.verdict, each.reason) for each in again] == [(MATCH, "")] * 2


@pytest.mark.parametrize("target", TARGETS)
def test_kornias_network_matches(tmp_path: Path, target: str) -> None:
    reports = mvit_deploy.export(
        "xxs", variant="kornia", target=target, precision=FLOAT, image_size=64, output=tmp_path
    )

    assert [(r.verdict, r.reason) for r in reports] == [(MATCH, "")] * 2
    assert [r.path.stem for r in reports] == ["mobilevit_xxs_kornia_fp32", "mobilevit_xxs_kornia_fp16"]
    assert reports[0].content["artifact"]["outputs"][0]["name"] == "features"


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("target", TARGETS)
def test_float_files_match_at_the_size_of_their_task(tmp_path: Path, task: str, target: str) -> None:
    """At 512x512 a map of xxs has as many channels as rows and columns."""
    reports = mvit_deploy.export("xxs", task=task, target=target, precision="fp32", output=tmp_path)

    assert [(r.verdict, r.reason) for r in reports] == [(MATCH, "")]

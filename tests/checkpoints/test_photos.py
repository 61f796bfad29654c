"""Photos that a person gives are prepared as the checkpoint itself says, when exporting and when judging again."""

import json
from pathlib import Path

import numpy as np
import pytest

import mvit_deploy
from mvit_deploy import images
from mvit_deploy.calibration import photos
from mvit_deploy.decoding import decode
from mvit_deploy.metadata import preprocessing_to_json
from mvit_deploy.report import Report, report_path
from mvit_deploy.spec import OWN, Preprocessing
from tests.checkpoints.samples import saved, state
from tests.conftest import PHOTOS

HOW = Preprocessing(80, (64, 64), "bicubic", "BGR")
SETTINGS = {"size": {"shortest_edge": 80}, "crop_size": {"height": 64, "width": 64}, "resample": 3}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder as transformers saves it, for 64x64, bicubic."""
    folder = tmp_path / "model"
    folder.mkdir()
    saved(folder / "model.safetensors", state("huggingface", "classification"))
    (folder / "preprocessor_config.json").write_text(json.dumps(SETTINGS))
    return folder


def exported(weights: Path, output: Path, **options: object) -> Report:
    given = {"target": "onnx", "image_size": 64, "verify_images": PHOTOS, "output": output} | options
    (report,) = mvit_deploy.export(None, weights=str(weights), **given)
    return report


def inputs_of(report: Report) -> dict[str, object]:
    return report.content["verification"]["inputs"]


@pytest.mark.parametrize("side", [64, 128])
def test_photos_are_those_of_transformers_processor_scaled_to_the_size(side: int) -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.MobileViTImageProcessor(
        size={"shortest_edge": 80 * side // 64}, crop_size={"height": side, "width": side}, resample=3
    )

    found = images.verification_set((side, side), seed=0, folder=PHOTOS, how=HOW)

    for name, pixels in list(zip(found.names, found.pixels, strict=True))[-len(images.list_images(PHOTOS)) :]:
        values = processor(decode(PHOTOS / name), return_tensors="np")["pixel_values"][0]
        theirs = np.asarray(values, np.float64).transpose(1, 2, 0)[..., ::-1] * 255
        assert np.abs(theirs - pixels).max() <= 1


def test_an_export_takes_the_checkpoints_way_and_says_so(checkpoint: Path, tmp_path: Path) -> None:
    steps: list[str] = []

    report = exported(checkpoint, tmp_path / "out", on_step=steps.append)

    assert inputs_of(report)["sha256"] == images.verification_set((64, 64), seed=0, folder=PHOTOS, how=HOW).sha256
    assert inputs_of(report)["preprocessing"] == {
        "of": "checkpoint", "resize": 80, "crop": [64, 64], "resampling": "bicubic", "color_order": "BGR",
        "half_pixel": "down", "rounding": "down",
    }  # fmt: skip
    assert "note: your photos are prepared as the checkpoint says: short side 80, centre 64x64, bicubic" in steps


def test_a_checkpoint_that_says_none_leaves_photos_to_this_projects_way(checkpoint: Path, tmp_path: Path) -> None:
    """Also where its source is known to have one: the numbers of bare files do not change."""
    report = exported(checkpoint / "model.safetensors", tmp_path / "out")

    assert inputs_of(report)["sha256"] == images.verification_set((64, 64), seed=0, folder=PHOTOS).sha256
    assert inputs_of(report)["preprocessing"] == {"of": "mvit-deploy"} | preprocessing_to_json(OWN)


@pytest.mark.parametrize("way", ["as it was", "the checkpoint no longer says it", "the weights alone are given"])
def test_a_file_is_judged_again_on_the_same_photos(checkpoint: Path, tmp_path: Path, way: str) -> None:
    report = exported(checkpoint, tmp_path / "out")
    if way == "the checkpoint no longer says it":
        (checkpoint / "preprocessor_config.json").unlink()
    weights = checkpoint / "model.safetensors" if way == "the weights alone are given" else None

    (again,) = mvit_deploy.verify(report.path, weights=weights, live=True)

    assert (report.exit_code, again.exit_code) == (0, 0)
    assert inputs_of(again) == inputs_of(report)


def test_without_a_report_the_weights_say_how(checkpoint: Path, tmp_path: Path) -> None:
    report = exported(checkpoint, tmp_path / "out")
    report_path(report.path).unlink()

    (again,) = mvit_deploy.verify(report.path, weights=checkpoint, verify_images=PHOTOS)

    assert inputs_of(again)["sha256"] == inputs_of(report)["sha256"]


def test_a_report_from_before_photos_were_prepared_so_still_holds(checkpoint: Path, tmp_path: Path) -> None:
    report = exported(checkpoint / "model.safetensors", tmp_path / "out")
    beside = report_path(report.path)
    content = json.loads(beside.read_text())
    del content["verification"]["inputs"]["preprocessing"], content["certificate"]
    beside.write_text(json.dumps(content))

    (again,) = mvit_deploy.verify(report.path, weights=checkpoint)

    assert inputs_of(again)["sha256"] == inputs_of(report)["sha256"]


def test_a_quantized_file_is_judged_on_the_same_photos_too(checkpoint: Path, tmp_path: Path) -> None:
    report = exported(checkpoint, tmp_path / "out", precision="w8")
    judging = images.load_folder(PHOTOS, (64, 64), HOW)

    (again,) = mvit_deploy.verify(report.path, live=True)

    expected = images.quantized_verification_set((64, 64), seed=0, photos=judging)
    assert inputs_of(report)["sha256"] == inputs_of(again)["sha256"] == expected.sha256


@pytest.mark.parametrize("count", [None, 8])
def test_calibration_photos_are_prepared_so_too(count: int | None) -> None:
    chosen = photos((64, 64), calibration=PHOTOS, count=count, verify_images=None, on_warning=print, how=HOW)

    for found in (chosen.calibration, chosen.judging):
        expected = [images.prepare(PHOTOS / name, (64, 64), HOW) for name in found.names]
        assert np.array_equal(found.pixels, expected)

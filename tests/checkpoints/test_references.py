"""Checkpoints as references: what an export is made from and what a shipped file is held to later."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mvit_deploy
from mvit_deploy import adopt, certificate, reference
from mvit_deploy.checkpoints import hub, kornia
from mvit_deploy.errors import AbsentCheckpointError, UsageError
from mvit_deploy.nn.build import randomize
from mvit_deploy.nn.heads.classification import classifier
from tests.checkpoints.samples import model_for, saved, state
from tests.checkpoints.test_against_libraries import images_of, transformers_twin


def test_kornias_weights_are_a_reference_of_its_variant(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", state("kornia", "backbone"))

    found = reference.from_weights(None, str(path), num_classes=None, seed=0)

    assert (found.mode, found.variant, found.color_order) == ("xxs", "kornia", "RGB")
    assert found.weights["layout"] == "kornia"


def test_a_file_from_kornias_documented_sequential_matches_and_is_held_to_it_again(tmp_path: Path) -> None:
    model = randomize(classifier("xxs", 5, variant="kornia"), seed=0, qk_gain=1.0, level=0.1)  # as seeded_kornia
    path = saved(tmp_path / "x.safetensors", kornia.state_dict_for(model))

    (report,) = mvit_deploy.export(None, weights=str(path), target="onnx", image_size=64, output=tmp_path / "out")
    (again,) = mvit_deploy.verify(report.path, live=True)

    assert (report.exit_code, again.exit_code) == (0, 0)
    assert report.path.stem == "mobilevit_xxs_kornia_fp32"
    assert report.content["artifact"]["outputs"][0]["name"] == "logits"
    assert report.content["model"]["num_classes"] == 5


def test_weights_of_another_task_are_not_taken_for_a_classifier(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", state("cvnets", "segmentation"))

    with pytest.raises(UsageError, match="--task classification contradicts the weights, which are for segmentation"):
        reference.from_weights(None, str(path), num_classes=None, seed=0, task="classification")
    assert reference.from_weights(None, str(path), num_classes=None, seed=0).task == "segmentation"


def test_a_users_own_module_of_transformers_keeps_bgr() -> None:
    """What is rebuilt of it takes what it takes; only checkpoints are turned to RGB."""
    twin, image = transformers_twin("classification", "xxs"), images_of((64, 96))

    with torch.no_grad():
        theirs, ours = twin(image).logits, adopt.adopt(twin)(image)

    assert type(adopt.adopt(twin)).__name__ == "Classifier"
    assert ((ours - theirs).abs().max() / theirs.abs().max()).item() <= 1e-5
    assert reference.from_module(twin, color_order=None).color_order == "BGR"


@pytest.fixture
def exported(tmp_path: Path) -> mvit_deploy.Report:
    """An ONNX file from a folder as transformers saves it."""
    folder = tmp_path / "model"
    folder.mkdir()
    saved(folder / "model.safetensors", state("huggingface", "classification"))
    (report,) = mvit_deploy.export(
        None, weights=str(folder), target="onnx", image_size=(64, 96), output=tmp_path / "out"
    )
    return report


def test_a_file_made_from_a_folder_matches_and_is_held_to_it_again(exported: mvit_deploy.Report) -> None:
    (again,) = mvit_deploy.verify(exported.path, live=True)

    assert (exported.exit_code, again.exit_code) == (0, 0)
    assert exported.content["model"]["weights"]["layout"] == "huggingface"


def test_a_file_from_a_repository_that_cannot_be_had_is_not_judged(
    exported: mvit_deploy.Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(repository: str) -> Path:
        raise AbsentCheckpointError(f"hf:{repository} cannot be downloaded")

    monkeypatch.setattr(hub, "download", download)
    beside = exported.path.with_name(exported.path.name + ".report.json")
    content = json.loads(beside.read_text())
    content["model"]["weights"]["source"] = "hf:someone/mobilevit"
    certificate.seal(content)
    beside.write_text(json.dumps(content))

    (again,) = mvit_deploy.verify(exported.path, live=True)

    assert again.content["verification"]["verdict"] == "not_run"
    assert "hf:someone/mobilevit cannot be downloaded" in again.content["verification"]["reason"]


def test_a_red_picture_is_red_to_weights_for_bgr(tmp_path: Path) -> None:
    """transformers' processor and model against a file's way: 8-bit RGB pixels, then ours."""
    transformers = pytest.importorskip("transformers")
    twin = transformers_twin("classification", "xxs")
    picture = Image.new("RGB", (64, 64), (200, 30, 10))
    processor = transformers.MobileViTImageProcessor(do_resize=False, do_center_crop=False, do_rescale=True)
    found = reference.from_weights(None, str(saved(tmp_path / "x.pt", twin.state_dict())), num_classes=None, seed=0)
    pixels = np.asarray(picture)[None]

    with torch.no_grad():
        theirs = twin(torch.as_tensor(processor(picture, return_tensors="np")["pixel_values"])).logits.numpy()

    assert abs(reference.run(found, pixels)["logits"] - theirs).max() <= 1e-5 * abs(theirs).max()
    assert model_for("huggingface", "classification").num_classes == theirs.shape[1]

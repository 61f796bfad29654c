"""Weights in a library's own model and in ours, loaded from what the library saves, give the same outputs."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mvit_deploy.checkpoints import cvnets, huggingface, kornia, load_checkpoint
from mvit_deploy.nn.build import randomize
from mvit_deploy.nn.config import CONFIGS
from tests.checkpoints.samples import CLASSES, model_for, saved
from tests.twins import transformers_model

SIZES = [(96, 160), (128, 128)]


def transformers_twin(task: str, mode: str, **settings: object) -> nn.Module:
    """transformers' class of a task with sensitive weights, as if it had been trained on BGR."""
    kind, stride = {
        "classification": ("MobileViTForImageClassification", 32),
        "segmentation": ("MobileViTForSemanticSegmentation", 16),
        "backbone": ("MobileViTModel", 32),
    }[task]
    options = {"num_labels": CLASSES[task]} if CLASSES[task] else {}
    model = transformers_model(kind, mode, **{"output_stride": stride} | options | settings)
    model.load_state_dict(huggingface.state_dict_for(model_for("huggingface", task, mode)), strict=True)
    return model.eval()


def test_a_folder_of_output_stride_8_gives_transformers_outputs(tmp_path: Path) -> None:
    twin = transformers_twin("segmentation", "xxs", output_stride=8, atrous_rates=[12, 24, 36])
    twin.save_pretrained(tmp_path)
    image = images_of((96, 160))

    with torch.no_grad():
        theirs, ours = twin(image[:, [2, 1, 0]]).logits, load_checkpoint(tmp_path).model(image)

    assert ours.shape[2:] == (12, 20)
    assert rel_max(ours, theirs) <= 1e-5


def images_of(size: tuple[int, int]) -> Tensor:
    """RGB in [0, 1]."""
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))


def rel_max(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize(("task", "mode"), [
    ("classification", "xxs"), ("classification", "xs"), ("classification", "s"),
    ("segmentation", "xxs"), ("segmentation", "xs"), ("segmentation", "s"), ("backbone", "xxs"),
])  # fmt: skip
def test_a_folder_saved_by_transformers_gives_its_outputs(
    tmp_path: Path, task: str, mode: str, size: tuple[int, int]
) -> None:
    """transformers' model gets BGR, ours RGB."""
    twin = transformers_twin(task, mode)
    twin.save_pretrained(tmp_path)
    image = images_of(size)

    loaded = load_checkpoint(tmp_path)
    with torch.no_grad():
        output = twin(image[:, [2, 1, 0]])
        theirs = output.last_hidden_state if task == "backbone" else output.logits
        ours = loaded.model(image)

    assert (loaded.source, loaded.task, loaded.mode) == ("huggingface", task, mode)
    assert rel_max(ours, theirs) <= 1e-5


def test_a_segmenter_of_ml_cvnets_is_the_one_of_transformers(tmp_path: Path) -> None:
    """Two spellings of one network: the published one of Apple, and what transformers made of it."""
    twin = transformers_twin("segmentation", "xxs")
    path = saved(tmp_path / "x.pt", cvnets.state_dict_for(model_for("cvnets", "segmentation")))
    image = images_of((96, 160))

    with torch.no_grad():
        assert rel_max(load_checkpoint(path).model(image), twin(image[:, [2, 1, 0]]).logits) <= 1e-5


@pytest.mark.parametrize("size", [(64, 64), (128, 192), (256, 256)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("mode", CONFIGS)
def test_weights_of_kornias_class_give_its_map(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    """These weights enlarge rounding, so only Kornia's own order of operations comes so near in fp32."""
    vit_mobile = pytest.importorskip("kornia.models.vit_mobile")
    twin = vit_mobile.MobileViT(mode).eval()
    twin.load_state_dict(kornia.state_dict_for(model_for("kornia", "backbone", mode)), strict=True)
    image = images_of(size)

    loaded = load_checkpoint(saved(tmp_path / "x.pt", twin.state_dict()))
    with torch.no_grad():
        ours, theirs = loaded.model(image), twin(image)

    assert (loaded.source, loaded.variant, loaded.preprocessing) == ("kornia", "kornia", None)
    assert rel_max(ours, theirs) <= 1e-5


def documented(mode: str, pool: nn.Module, *between: nn.Module) -> nn.Sequential:
    """The nn.Sequential of Kornia's documentation around its class, five classes and sensitive weights."""
    vit_mobile = pytest.importorskip("kornia.models.vit_mobile")
    width = CONFIGS[mode].out_channels
    model = nn.Sequential(vit_mobile.MobileViT(mode), pool, nn.Flatten(), *between, nn.Linear(width, 5))
    return randomize(model, seed=0).eval()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("mode", CONFIGS)
def test_weights_of_kornias_documented_sequential_give_its_logits(tmp_path: Path, mode: str, suffix: str) -> None:
    twin, image = documented(mode, nn.AvgPool2d(256 // 32, 1)), images_of((256, 256))

    loaded = load_checkpoint(saved(tmp_path / f"x{suffix}", twin.state_dict()))
    with torch.no_grad():
        ours, theirs = loaded.model(image), twin(image)

    assert (loaded.source, loaded.task, loaded.mode, loaded.num_classes) == ("kornia", "classification", mode, 5)
    assert loaded.variant == "kornia"
    assert rel_max(ours, theirs) <= 1e-5


def test_the_linear_layer_may_stand_anywhere_behind_kornias_class(tmp_path: Path) -> None:
    twin, image = documented("xxs", nn.AdaptiveAvgPool2d(1), nn.Dropout(0.2)), images_of((64, 192))

    loaded = load_checkpoint(saved(tmp_path / "x.pt", twin.state_dict()))
    with torch.no_grad():
        ours, theirs = loaded.model(image), twin(image)

    assert rel_max(ours, theirs) <= 1e-5
    assert any("layer 4 of the nn.Sequential is its classifier" in note for note in loaded.notes)
    assert any("taken to be a mean" in note for note in loaded.notes)

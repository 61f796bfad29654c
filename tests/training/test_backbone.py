"""A classifier's backbone under another head: every weight of it, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mvit_deploy.checkpoints import cvnets, kornia, timm
from mvit_deploy.errors import CheckpointError
from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.heads.classification import Classifier, classifier
from mvit_deploy.nn.heads.detection import detector
from mvit_deploy.nn.heads.segmentation import segmenter
from mvit_deploy.training.backbone import load_backbone
from tests.conftest import sensitive


def saved(state: dict[str, torch.Tensor], folder: Path) -> Path:
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


@pytest.mark.parametrize("source", [timm, cvnets])
@pytest.mark.parametrize("build", [detector, segmenter])
def test_the_maps_are_the_classifiers(source: object, build: Callable[..., nn.Module], tmp_path: Path) -> None:
    """ml-cvnets' checkpoints are for BGR: RGB images must give the same all the same."""
    trained, model = sensitive("xxs", 5), build("xxs", 3).eval()
    head = {key: tensor.clone() for key, tensor in model.head.state_dict().items()}
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    load_backbone(model, saved(source.state_dict_for(trained), tmp_path))

    with torch.no_grad():
        expected, maps = trained.backbone.maps(image), model.backbone.maps(image)
        own = trained.backbone.state_dict()
    assert torch.equal(maps["layer_4"], expected["layer_4"])
    assert all(torch.equal(tensor, own[key]) for key, tensor in model.backbone.state_dict().items())
    assert all(torch.equal(tensor, head[key]) for key, tensor in model.head.state_dict().items())


def test_a_classifier_takes_the_last_convolution_too(tmp_path: Path) -> None:
    trained, model = sensitive("xxs", 5), classifier("xxs", 2)

    load_backbone(model, saved(timm.state_dict_for(trained), tmp_path))

    expected = trained.backbone.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in model.backbone.state_dict().items())


def test_timms_tensors_without_a_head_are_as_good(tmp_path: Path) -> None:
    """As timm has them with num_classes=0."""
    trained, model = sensitive("xxs", 5), detector("xxs", 2)
    tensors = timm.state_dict_for(trained)

    load_backbone(model, saved({k: v for k, v in tensors.items() if not k.startswith("head.")}, tmp_path))

    expected = trained.backbone.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in model.backbone.state_dict().items())


def test_a_head_that_lacks_its_bias_is_refused(tmp_path: Path) -> None:
    tensors = timm.state_dict_for(sensitive("xxs", 5))
    del tensors["head.fc.bias"]

    with pytest.raises(CheckpointError, match=r"missing: head\.fc\.bias"):
        load_backbone(detector("xxs", 2), saved(tensors, tmp_path))


def test_a_classifier_cannot_start_from_a_detector(tmp_path: Path) -> None:
    """A detector's backbone has no last convolution; a random one in its place would go unseen."""
    path = saved(cvnets.state_dict_for(detector("xxs", 3)), tmp_path)

    with pytest.raises(CheckpointError, match="missing: conv_exp"):
        load_backbone(classifier("xxs", 2), path)


@pytest.mark.parametrize("build", [detector, segmenter])
def test_another_mode_is_refused(build: Callable[..., nn.Module], tmp_path: Path) -> None:
    path = saved(timm.state_dict_for(sensitive("xxs", 5)), tmp_path)

    with pytest.raises(CheckpointError, match="another network than the xs backbone"):
        load_backbone(build("xs", 3), path)


def test_another_variant_is_refused(tmp_path: Path) -> None:
    backbone = MobileViT("xxs", variant="kornia")
    path = saved({k: v.contiguous() for k, v in kornia.state_dict_for(backbone).items()}, tmp_path)

    with pytest.raises(CheckpointError, match="another network than the xxs backbone"):
        load_backbone(Classifier(MobileViT("xxs"), 2), path)

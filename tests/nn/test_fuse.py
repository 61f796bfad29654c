"""The deployment form: numerically equal, leaner, and made without touching the original."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mvit_deploy import images
from mvit_deploy.checkpoints import load_checkpoint
from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.build import QK_GAIN, randomize
from mvit_deploy.nn.channels_last import channels_last
from mvit_deploy.nn.encoder import Attention
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.nn.layers import ConvNorm
from tests.conftest import sensitive


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("mode", ["xxs", "xs", "s"])
@pytest.mark.parametrize("size", [(256, 256), (160, 288)])
def test_the_deployment_form_gives_the_same_logits(mode: str, size: tuple[int, int]) -> None:
    model, image = sensitive(mode), torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        assert relative(fuse(model)(image), model(image)) <= 1e-5


def test_trained_logits_differ_by_at_most_2e_5(flowers: Path) -> None:
    model = load_checkpoint(flowers / "mobilevit_xxs_flowers_timm.pth").model
    photos = images.load_folder(flowers / "dev" / "roses", (256, 256)).pixels
    pixels = torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 255

    with torch.no_grad():
        assert (fuse(model)(pixels) - model(pixels)).abs().max().item() <= 2e-5


def test_no_norm_with_statistics_or_affine_and_no_dropout_remains() -> None:
    fused = fuse(sensitive("xs"))

    assert not any(isinstance(m, nn.BatchNorm2d | ConvNorm) for m in fused.modules())
    assert all(m.weight is None for m in fused.modules() if isinstance(m, nn.LayerNorm))
    assert not any(isinstance(m, nn.Dropout) for m in fused.backbone.modules())


def test_the_original_is_not_modified() -> None:
    model = randomize(nn.Sequential(MobileViT("xxs"), nn.AvgPool2d(2, 1), nn.Flatten(), nn.Linear(320, 7)), seed=2)
    model.train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}

    fused = fuse(model)
    with torch.no_grad():
        for parameter in fused.parameters():
            parameter.zero_()

    assert model.training
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_users_own_module_around_the_backbone_is_fused_inside() -> None:
    model = randomize(nn.Sequential(MobileViT("xxs"), nn.AvgPool2d(2, 1), nn.Flatten(), nn.Linear(320, 7)), seed=2)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    fused = fuse(model.eval())

    with torch.no_grad():
        assert relative(fused(image), model(image)) <= 2e-5
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())


@pytest.mark.parametrize("mode", ["xxs", "xs", "s"])
@pytest.mark.parametrize("size", [(64, 96), (128, 128), (224, 224)])
def test_the_channels_last_form_gives_the_same_logits(mode: str, size: tuple[int, int]) -> None:
    model, image = sensitive(mode), torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        assert relative(channels_last(fuse(model))(image), model(image)) <= 1e-5


def test_the_channels_last_form_of_kornias_network_keeps_its_layer_norms() -> None:
    """Its tokens start behind an activation, so their mean cannot be moved into weights."""
    model = randomize(MobileViT("xxs", variant="kornia"), seed=0).eval()
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, Attention):  # the gain makes this network chaotic: fp32 itself is 1e-3 from float64
                part.qkv.weight /= QK_GAIN
    image = torch.rand(2, 3, 128, 64, generator=torch.Generator().manual_seed(0))

    form = channels_last(fuse(model))

    assert any(isinstance(m, nn.LayerNorm) for m in form.modules())
    with torch.no_grad():
        assert relative(form(image), model(image)) <= 2e-5


def test_the_channels_last_form_leaves_the_fused_module_alone() -> None:
    fused = fuse(sensitive("xxs"))
    before = {key: tensor.clone() for key, tensor in fused.state_dict().items()}

    channels_last(fused)

    assert all(torch.equal(before[key], tensor) for key, tensor in fused.state_dict().items())

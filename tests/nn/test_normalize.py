"""Mean and deviation in front of a network: computed as torchvision's Normalize does, exact at the borders too."""

import pytest
import torch
from torch import nn

from mvit_deploy.nn.fuse import fuse
from mvit_deploy.nn.normalize import Centre, Normalize, normalized
from mvit_deploy.spec import Normalization
from tests.conftest import sensitive

IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SCALED = Normalization((0.0, 0.0, 0.0), (0.5, 0.25, 2.0))
IMAGE = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def by_hand(image: torch.Tensor, normalization: Normalization) -> torch.Tensor:
    """torchvision.transforms.functional.normalize, channel by channel."""
    channels = zip(image.unbind(1), normalization.mean, normalization.std, strict=True)
    return torch.stack([(channel - mean) / std for channel, mean, std in channels], 1)


def stem_error(module: nn.Module, normalization: Normalization) -> torch.Tensor:
    """How far the first layer's map is from the original's on the normalized image, over the largest value."""
    original = sensitive("xxs").backbone
    with torch.no_grad():
        expected = original.stem(by_hand(IMAGE, normalization))
        found = module.backbone.stem(module.backbone.normalize(IMAGE))
    return (found - expected).abs() / expected.abs().max()


@pytest.mark.parametrize("normalization", [IMAGENET, SCALED])
def test_a_network_computes_what_it_computes_of_normalized_images(normalization: Normalization) -> None:
    model = sensitive("xxs")

    with torch.no_grad():
        assert torch.equal(normalized(model, normalization)(IMAGE), model(by_hand(IMAGE, normalization)))


@pytest.mark.parametrize("normalization", [IMAGENET, SCALED])
def test_the_deployment_form_is_exact_at_the_borders_too(normalization: Normalization) -> None:
    assert stem_error(fuse(normalized(sensitive("xxs"), normalization)), normalization).max() <= 2e-6


def test_the_mean_in_the_bias_would_be_wrong_at_the_borders_alone() -> None:
    """What a converter's folding does, and why the form here does not."""
    folded = fuse(normalized(sensitive("xxs"), IMAGENET))
    conv = folded.backbone.stem[0]
    mean = folded.backbone.normalize.mean
    conv.bias = nn.Parameter(conv.bias - (conv.weight * mean).sum(dim=(1, 2, 3)))
    folded.backbone.normalize = nn.Identity()

    error = stem_error(folded, IMAGENET)

    assert error[..., 1:, 1:].max() <= 2e-6
    assert error[..., 0, :].max() > 1e-2


def test_what_is_left_in_the_deployment_form_is_one_subtraction_or_nothing() -> None:
    assert isinstance(fuse(normalized(sensitive("xxs"), IMAGENET)).backbone.normalize, Centre)
    assert isinstance(fuse(normalized(sensitive("xxs"), SCALED)).backbone.normalize, nn.Identity)


def test_the_original_and_its_weights_by_name_stay() -> None:
    model = sensitive("xxs")

    changed = normalized(model, IMAGENET)

    assert isinstance(model.backbone.normalize, nn.Identity)
    assert changed.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("module", [nn.Conv2d(3, 4, 3), sensitive("xxs").backbone])
def test_any_module_can_be_normalized(module: nn.Module) -> None:
    with torch.no_grad():
        expected = module(by_hand(IMAGE, IMAGENET))
        assert torch.equal(normalized(module, IMAGENET)(IMAGE), expected)
        found = fuse(normalized(module, IMAGENET))(IMAGE)

    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_its_numbers_are_no_weights() -> None:
    assert not Normalize(IMAGENET).state_dict()

"""The same weights in Hugging Face transformers' MobileViT give the same logits."""

import pytest
import torch

from mvit_deploy.checkpoints import huggingface
from mvit_deploy.nn.config import CONFIGS
from mvit_deploy.nn.heads.classification import Classifier
from tests.conftest import sensitive
from tests.twins import transformers_model

SIZES = [(256, 256), (224, 224), (192, 320), (160, 288)]


def hugging_face_twin(model: Classifier) -> torch.nn.Module:
    """transformers' classifier with a model's weights; that these fit is what strict loading over there says."""
    twin = transformers_model("MobileViTForImageClassification", model.mode, num_labels=model.num_classes)
    twin.load_state_dict(huggingface.rename(model.state_dict()), strict=True)
    return twin.eval()


@pytest.mark.parametrize("mode", CONFIGS)
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_logits_equal_transformers_with_the_same_weights(mode: str, size: tuple[int, int]) -> None:
    """At 224 and 160x288 a map is odd, so the bilinear resize inside the block is compared too."""
    model = sensitive(mode)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        expected, logits = hugging_face_twin(model)(images).logits, model(images)

    assert ((logits - expected).abs().max() / expected.abs().max()).item() <= 1e-5

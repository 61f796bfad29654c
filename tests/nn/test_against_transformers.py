"""The same weights in Hugging Face transformers' MobileViT give the same logits."""

import re

import pytest
import torch

from mvit_deploy.nn.config import CONFIGS
from mvit_deploy.nn.heads.classification import Classifier
from tests.conftest import sensitive

transformers = pytest.importorskip("transformers")

SIZES = [(256, 256), (224, 224), (192, 320), (160, 288)]
_RENAMES = [
    (r"^head\.fc\.", "classifier."),
    (r"^backbone\.stem\.", "mobilevit.conv_stem."),
    (r"^backbone\.conv_exp\.", "mobilevit.conv_1x1_exp."),
    (r"^backbone\.layer_([12])\.(\d)\.", r"mobilevit.encoder.layer.{\1}.layer.\2."),
    (r"^backbone\.layer_([345])\.0\.", r"mobilevit.encoder.layer.{\1}.downsampling_layer."),
    (r"^backbone\.layer_([345])\.1\.", r"mobilevit.encoder.layer.{\1}."),
    (r"\.expand\.", ".expand_1x1."),
    (r"\.depthwise\.", ".conv_3x3."),
    (r"\.reduce\.", ".reduce_1x1."),
    (r"\.local_conv\.", ".conv_kxk."),
    (r"\.local_proj\.", ".conv_1x1.conv."),
    (r"\.proj\.(?=conv|bn)", ".conv_projection."),
    (r"\.transformer\.(\d)\.", r".transformer.layer.\1."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"(layer\.\{\d\})\.norm\.", r"\1.layernorm."),
    (r"\.attention\.out\.", ".attention.output.dense."),
    (r"\.ffn\.fc1\.", ".intermediate.dense."),
    (r"\.ffn\.fc2\.", ".output.dense."),
    (r"\.conv\.", ".convolution."),
    (r"\.bn\.", ".normalization."),
]


def hugging_face_twin(model: Classifier) -> torch.nn.Module:
    """transformers' classifier with a model's weights."""
    config = CONFIGS[model.mode]
    widths = [config.stem_channels, config.channels_1, config.channels_2, *(s.channels for s in config.stages)]
    twin = transformers.MobileViTForImageClassification(
        transformers.MobileViTConfig(
            hidden_sizes=[s.dim for s in config.stages],
            neck_hidden_sizes=[*widths, config.out_channels],
            expand_ratio=float(config.expansion),
            num_labels=model.num_classes,
        )
    )
    twin.load_state_dict(_hugging_face_state(model), strict=True)
    return twin.eval()


def _hugging_face_state(model: Classifier) -> dict[str, torch.Tensor]:
    state = {}
    for key, tensor in model.state_dict().items():
        name = key
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"\{(\d)\}", lambda m: str(int(m[1]) - 1), name)
        if ".attention.qkv." in name:
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                state[name.replace("attention.qkv", f"attention.attention.{part}")] = rows
        else:
            state[name] = tensor
    return state


@pytest.mark.parametrize("mode", CONFIGS)
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_logits_equal_transformers_with_the_same_weights(mode: str, size: tuple[int, int]) -> None:
    """At 224 and 160x288 a map is odd, so the bilinear resize inside the block is compared too."""
    model = sensitive(mode)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        expected, logits = hugging_face_twin(model)(images).logits, model(images)

    assert ((logits - expected).abs().max() / expected.abs().max()).item() <= 1e-5

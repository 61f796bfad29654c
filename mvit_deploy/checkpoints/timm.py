"""timm's MobileViT (mobilevit_xxs, mobilevit_xs, mobilevit_s): the same network under other names, RGB.

Source: huggingface/pytorch-image-models timm/models/mobilevit.py and byobnet.py.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from mvit_deploy.checkpoints.networks import state_of

NAME = "timm"
TASKS = ("classification",)
VARIANT = "paper"
COLOR_ORDER = "RGB"
_BLOCK_PARTS = {
    "local_conv": "conv_kxk",
    "local_proj": "conv_1x1",
    "proj": "conv_proj",
    "fusion": "conv_fusion",
    "expand": "conv1_1x1",
    "depthwise": "conv2_kxk",
    "reduce": "conv3_1x1",
}
_LAYER_PARTS = {"attention.qkv": "attn.qkv", "attention.out": "attn.proj", "ffn.fc1": "mlp.fc1", "ffn.fc2": "mlp.fc2"}


def key_of(ours: str) -> str:
    """timm's key for one of ours."""
    if ours.startswith("head."):
        return ours
    name = ours.removeprefix("backbone.")
    name = name.replace("conv_exp.", "final_conv.")
    name = re.sub(r"^layer_(\d)\.", lambda m: f"stages.{int(m[1]) - 1}.", name)
    name = re.sub(r"\.(\w+)\.(?=conv\.|bn\.|weight$)", _rename_block_part, name)
    for part, theirs in _LAYER_PARTS.items():
        name = name.replace(f".{part}.", f".{theirs}.")
    return name


def _rename_block_part(match: re.Match) -> str:
    return f".{_BLOCK_PARTS.get(match[1], match[1])}."


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under timm's keys."""
    return {key_of(key): tensor for key, tensor in state.items()}


def restore(tensors: Mapping[str, Tensor], ours: Iterable[str]) -> dict[str, Tensor]:
    """timm's tensors under our keys, those of ours that are there."""
    return {key: tensors[key_of(key)] for key in ours if key_of(key) in tensors}


def state_dict_for(model: nn.Module) -> dict[str, Tensor]:
    """A classifier's tensors as a timm checkpoint has them. Raises: UsageError for any other module."""
    return rename(state_of(model, NAME, TASKS))

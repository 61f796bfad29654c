"""timm's MobileViT (mobilevit_xxs, mobilevit_xs, mobilevit_s): the same network under other names, RGB.

Source: huggingface/pytorch-image-models timm/models/mobilevit.py and byobnet.py.
"""

import re
from dataclasses import dataclass

from torch import Tensor, nn

from mvit_deploy.checkpoints.strict import load_strictly
from mvit_deploy.errors import CheckpointError
from mvit_deploy.nn.config import mode_of_width
from mvit_deploy.nn.heads.classification import Classifier, classifier

_LAST_CONV = "final_conv.conv.weight"
_HEAD = "head.fc.weight"
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


@dataclass(frozen=True)
class Recognised:
    """What a checkpoint's tensors say they are."""

    mode: str
    num_classes: int


def recognise(tensors: dict[str, Tensor]) -> Recognised:
    """Mode and number of classes by the shapes of the last convolution and the head.

    Raises: CheckpointError when these keys are missing or fit no mode, with the first keys of the file.
    """
    missing = [key for key in (_LAST_CONV, _HEAD) if key not in tensors]
    if missing:
        raise CheckpointError(
            f"not a timm MobileViT classifier: missing {', '.join(missing)}; "
            f"the file has {len(tensors)} tensors, first: {', '.join(list(tensors)[:5])}"
        )
    channels = tensors[_LAST_CONV].shape[0]
    mode = mode_of_width(channels)
    if mode is None or tensors[_HEAD].dim() != 2:
        raise CheckpointError(f"no mode of MobileViT has {channels} channels in {_LAST_CONV} and such a head")
    return Recognised(mode, tensors[_HEAD].shape[0])


def load(tensors: dict[str, Tensor], found: Recognised) -> Classifier:
    """A classifier with these weights. Raises: CheckpointError unless every key and every shape fits."""
    model = classifier(found.mode, found.num_classes)
    load_strictly(model, tensors, key_of)
    return model


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


def state_dict_for(model: nn.Module) -> dict[str, Tensor]:
    """A classifier's tensors under timm's keys, to be saved as a timm checkpoint."""
    return {key_of(key): tensor for key, tensor in model.state_dict().items()}

"""Apple's ml-cvnets: the paper's networks as they were published, all three tasks, BGR.

Source: apple/ml-cvnets branch cvnets-v0.1, cvnets/models and cvnets/modules; later versions keep these keys but for
segmentation, whose network is another one there.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from mvit_deploy.checkpoints.networks import state_of, with_stem_flipped
from mvit_deploy.checkpoints.strict import first_five
from mvit_deploy.errors import CheckpointError
from mvit_deploy.nn.config import CONFIGS

NAME = "cvnets"
TASKS = ("classification", "detection", "segmentation")
VARIANT = "paper"
COLOR_ORDER = "BGR"
_PREFIX = "encoder."  # of the backbone where the head is not the classifier's
_DEPTHS = {index: stage.depth for index, stage in enumerate(CONFIGS["xxs"].stages, 3)}  # the same in every mode
_LATER_SEGMENTER = ("seg_head.classifier.block.", "seg_head.aux_head.")
_INVERTED = {"expand": "exp_1x1", "depthwise": "conv_3x3", "reduce": "red_1x1"}
_BLOCK_PARTS = {
    "local_conv": "local_rep.conv_3x3",
    "local_proj": "local_rep.conv_1x1",
    "proj": "conv_proj",
    "fusion": "fusion",
}
_LAYER_PARTS = {
    "norm1": "pre_norm_mha.0",
    "attention.qkv": "pre_norm_mha.1.qkv_proj",
    "attention.out": "pre_norm_mha.1.out_proj",
    "norm2": "pre_norm_ffn.0",
    "ffn.fc1": "pre_norm_ffn.1",
    "ffn.fc2": "pre_norm_ffn.4",
}
_SEPARABLE = {"depthwise": "dw_conv", "pointwise": "pw_conv"}
_STRIDES = ("os_64", "os_128", "os_256")
_HEAD_RULES: tuple[tuple[str, str], ...] = (  # (ours, theirs), whole names without what follows conv or bn
    (r"head\.fc\.(\w+)", r"classifier.fc.\1"),
    (r"head\.proj\.(\d)\.(conv|bn)\.(\w+)", r"ssd_heads.\1.proj_layer.block.\2.\3"),
    (r"head\.predict\.(\d)\.depthwise\.(conv|bn)\.(\w+)", r"ssd_heads.\1.loc_cls_layer.dw_conv.block.\2.\3"),
    (r"head\.predict\.(\d)\.pointwise\.(\w+)", r"ssd_heads.\1.loc_cls_layer.pw_conv.block.conv.\2"),
    (r"head\.predict\.(\d)\.(weight|bias)", r"ssd_heads.\1.loc_cls_layer.block.conv.\2"),
    (r"head\.pool_conv\.weight", r"extra_layers.os_-1.1.block.conv.weight"),
    (r"head\.aspp\.(\d)\.(conv|bn)\.(\w+)", r"seg_head.aspp.aspp_layer.convs.\1.block.\2.\3"),
    (r"head\.pool_conv\.(conv|bn)\.(\w+)", r"seg_head.aspp.aspp_layer.convs.4.aspp_pool.conv_1x1.block.\1.\2"),
    (r"head\.project\.(conv|bn)\.(\w+)", r"seg_head.aspp.aspp_layer.project.block.\1.\2"),
    (r"head\.classify\.(\w+)", r"seg_head.classifier.classifier.block.conv.\1"),
)


def key_of(ours: str, prefix: str = "") -> str:
    """ml-cvnets' key for one of ours. prefix: what its backbone's keys begin with, "" or "encoder."."""
    if ours.startswith("head."):
        return _head_key(ours).replace(".bn.", ".norm.")
    return prefix + _backbone_key(ours.removeprefix("backbone.")).replace(".bn.", ".norm.")


def _head_key(ours: str) -> str:
    if match := re.fullmatch(r"head\.extra\.(\d)\.(depthwise|pointwise)\.(.+)", ours):
        index, part, leaf = match.groups()
        return f"extra_layers.{_STRIDES[int(index)]}.{_SEPARABLE[part]}.block.{leaf}"
    for pattern, theirs in _HEAD_RULES:
        if match := re.fullmatch(pattern, ours):
            return match.expand(theirs)
    raise ValueError(f"no key of ml-cvnets for {ours}")


def _backbone_key(name: str) -> str:
    if match := re.fullmatch(r"(stem|conv_exp)\.(.+)", name):
        return f"{'conv_1' if match[1] == 'stem' else 'conv_1x1_exp'}.block.{match[2]}"
    if match := re.fullmatch(r"(layer_\d\.\d)\.(expand|depthwise|reduce)\.(.+)", name):
        return f"{match[1]}.block.{_INVERTED[match[2]]}.block.{match[3]}"
    if match := re.fullmatch(r"(layer_\d\.1)\.transformer\.(\d)\.(.+)\.(\w+)", name):
        return f"{match[1]}.global_rep.{match[2]}.{_LAYER_PARTS[match[3]]}.{match[4]}"
    if match := re.fullmatch(r"layer_(\d)\.1\.norm\.(\w+)", name):  # stands behind the layers, numbered along
        return f"layer_{match[1]}.1.global_rep.{_DEPTHS[int(match[1])]}.{match[2]}"
    layer, part, leaf = re.fullmatch(r"(layer_\d\.1)\.(\w+)\.(.+)", name).groups()
    return f"{layer}.{_BLOCK_PARTS[part]}.block.{'conv.weight' if leaf == 'weight' else leaf}"


def _prefix_of(ours: Iterable[str]) -> str:
    """Only the classifier, the one network that keeps its last expansion, has its backbone at the top."""
    return "" if any(key.startswith("backbone.conv_exp.") for key in ours) else _PREFIX


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one of our networks under ml-cvnets' keys, in whatever colour order they are."""
    prefix = _prefix_of(state)
    return {key_of(key, prefix): tensor for key, tensor in state.items()}


def restore(tensors: Mapping[str, Tensor], ours: Iterable[str]) -> dict[str, Tensor]:
    """ml-cvnets' tensors under our keys (all of a network's), those of ours that are there."""
    keys = list(ours)
    theirs = {key: key_of(key, _prefix_of(keys)) for key in keys}
    return {key: tensors[name] for key, name in theirs.items() if name in tensors}


def state_dict_for(model: nn.Module) -> dict[str, Tensor]:
    """A model's tensors as an ml-cvnets checkpoint has them, BGR. Raises: UsageError for a module that is not ours."""
    return rename(with_stem_flipped(state_of(model, NAME, TASKS)))


def refuse_later_segmenter(tensors: Mapping[str, Tensor]) -> None:
    """Raises: CheckpointError for DeepLabv3 as ml-cvnets v0.2 and later have it."""
    found = [key for key in tensors if key.startswith(_LATER_SEGMENTER)]
    if found:
        raise CheckpointError(
            "this is DeepLabv3 of ml-cvnets v0.2 or later, another network than the published MobileViT ones (output "
            "stride 8, ASPP of 512 channels with rates 12, 24, 36, an auxiliary head), and is not supported; "
            f"its keys: {first_five(found)}"
        )

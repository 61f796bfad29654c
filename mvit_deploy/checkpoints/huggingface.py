"""Hugging Face transformers' MobileViT: the paper's network, q, k and v apart, BGR as published.

Source: huggingface/transformers src/transformers/models/mobilevit/modeling_mobilevit.py.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mvit_deploy.checkpoints.networks import BACKBONE, state_of, with_stem_flipped

NAME = "huggingface"
TASKS = ("classification", "segmentation", BACKBONE)
VARIANT = "paper"
COLOR_ORDER = "BGR"
_PREFIX = "mobilevit."  # of the backbone inside a model with a head
_JOINED = ".attention.qkv."
_APART = ("query", "key", "value")  # the rows of ours, in this order
_PARTS = {
    "expand": "expand_1x1",
    "depthwise": "conv_3x3",
    "reduce": "reduce_1x1",
    "local_conv": "conv_kxk",
    "proj": "conv_projection",
    "conv": "convolution",
    "bn": "normalization",
    "norm": "layernorm",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attention.out": "attention.output.dense",
    "ffn.fc1": "intermediate.dense",
    "ffn.fc2": "output.dense",
}
_HEAD_PARTS = {
    "head.fc": "classifier",
    "head.aspp": "segmentation_head.aspp.convs",
    "head.pool_conv": "segmentation_head.aspp.convs.4.conv_1x1",
    "head.project": "segmentation_head.aspp.project",
    "head.classify": "segmentation_head.classifier.convolution",
}


def key_of(ours: str) -> str:
    """transformers' key for one of ours, with q, k and v joined."""
    if ours.startswith("head."):
        part, leaf = re.fullmatch(r"(head\.\w+)\.(.+)", ours).groups()
        return f"{_HEAD_PARTS[part]}.{_with_their_parts(leaf)}"
    name = ours.removeprefix("backbone.")
    name = re.sub(r"\blocal_proj\.", "conv_1x1.conv.", name)
    name = re.sub(r"\.transformer\.(\d)", r".transformer.layer.\1", _with_their_parts(name))
    name = re.sub(r"^layer_([12])\.", lambda m: f"encoder.layer.{int(m[1]) - 1}.layer.", name)
    name = re.sub(r"^layer_([345])\.0\.", lambda m: f"encoder.layer.{int(m[1]) - 1}.downsampling_layer.", name)
    name = re.sub(r"^layer_([345])\.1\.", lambda m: f"encoder.layer.{int(m[1]) - 1}.", name)
    name = re.sub(r"^stem\.", "conv_stem.", re.sub(r"^conv_exp\.", "conv_1x1_exp.", name))
    return (_PREFIX if ours.startswith("backbone.") else "") + name


def _with_their_parts(name: str) -> str:
    for part, theirs in _PARTS.items():
        name = re.sub(rf"(?<![\w]){re.escape(part)}\.", f"{theirs}.", name)
    return name


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one of our networks under transformers' keys, in whatever colour order they are."""
    renamed = {}
    for key, tensor in state.items():
        name = key_of(key)
        rows = tensor.chunk(3) if _JOINED in name else (tensor,)
        renamed |= zip(_names(name), rows, strict=True)
    return renamed


def restore(tensors: Mapping[str, Tensor], ours: Iterable[str]) -> dict[str, Tensor]:
    """transformers' tensors under our keys, those of ours that are there."""
    theirs = {key: _names(key_of(key)) for key in ours}
    there = {key: names for key, names in theirs.items() if all(name in tensors for name in names)}
    return {
        key: tensors[names[0]] if len(names) == 1 else torch.cat([tensors[name] for name in names])
        for key, names in there.items()
    }


def _names(joined: str) -> tuple[str, ...]:
    """One key, or those of query, key and value."""
    if _JOINED not in joined:
        return (joined,)
    return tuple(joined.replace(_JOINED, f".attention.attention.{part}.") for part in _APART)


def state_dict_for(model: nn.Module) -> dict[str, Tensor]:
    """A model's tensors as a transformers checkpoint has them, BGR as the published ones.

    Raises: UsageError for a module that is not ours, or a detector, which transformers has not.
    """
    return rename(with_stem_flipped(state_of(model, NAME, TASKS)))

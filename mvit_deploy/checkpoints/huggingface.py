"""Hugging Face transformers' MobileViT: the paper's network, q, k and v apart.

Source: huggingface/transformers src/transformers/models/mobilevit/modeling_mobilevit.py.
"""

import re

import torch
from torch import Tensor, nn

from mvit_deploy.checkpoints.strict import load_strictly
from mvit_deploy.errors import CheckpointError
from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.config import mode_of_width
from mvit_deploy.nn.heads.classification import Classifier

_PREFIX = "mobilevit."
_LAST_CONV = "conv_1x1_exp.convolution.weight"
_QUERY = re.compile(r"(.*\.attention\.)attention\.query\.(weight|bias)")
_SEGMENTATION_PARTS = {
    "aspp": "aspp.convs",
    "pool_conv": "aspp.convs.4.conv_1x1",
    "project": "aspp.project",
    "classify": "classifier.convolution",
}
_QKV = ("query", "key", "value")
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


def load(tensors: dict[str, Tensor]) -> Classifier | MobileViT:
    """The classifier, or the backbone where the tensors have no classifier, with these weights, in eval mode.

    The colour order is left as it is: BGR in the published checkpoints.
    Raises: CheckpointError unless the tensors are those of transformers' class, every key and shape.
    """
    has_head = "classifier.weight" in tensors
    prefix = _PREFIX if has_head else ""
    last = tensors.get(prefix + _LAST_CONV)
    mode = None if last is None else mode_of_width(len(last))
    if mode is None:
        raise CheckpointError(f"not transformers' MobileViT: no {prefix}{_LAST_CONV} of a known width")
    backbone = MobileViT(mode)
    model: nn.Module = Classifier(backbone, len(tensors["classifier.weight"])) if has_head else backbone
    load_strictly(model, join_qkv(tensors), lambda ours: key_of(ours, prefix))
    return model.eval()


def join_qkv(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with each query, key and value joined to one "qkv"."""
    joined = dict(tensors)
    for key in tensors:
        if match := _QUERY.fullmatch(key):
            parts = [f"{match[1]}attention.{part}.{match[2]}" for part in _QKV]
            if all(part in joined for part in parts):
                joined[f"{match[1]}qkv.{match[2]}"] = torch.cat([joined.pop(part) for part in parts])
    return joined


def key_of(ours: str, prefix: str = _PREFIX) -> str:
    """transformers' key for one of ours, with q, k and v joined."""
    if ours.startswith("head.fc."):
        return ours.replace("head.fc", "classifier")
    if ours.startswith("head."):
        return _key_of_segmentation_head(ours.removeprefix("head."))
    name = ours.removeprefix("backbone.")
    name = re.sub(r"\blocal_proj\.", "conv_1x1.conv.", name)
    for part, theirs in _PARTS.items():
        name = re.sub(rf"(?<![\w]){re.escape(part)}\.", f"{theirs}.", name)
    name = re.sub(r"\.transformer\.(\d)", r".transformer.layer.\1", name)
    name = re.sub(r"^layer_([12])\.", lambda m: f"encoder.layer.{int(m[1]) - 1}.layer.", name)
    name = re.sub(r"^layer_([345])\.0\.", lambda m: f"encoder.layer.{int(m[1]) - 1}.downsampling_layer.", name)
    name = re.sub(r"^layer_([345])\.1\.", lambda m: f"encoder.layer.{int(m[1]) - 1}.", name)
    name = re.sub(r"^stem\.", "conv_stem.", re.sub(r"^conv_exp\.", "conv_1x1_exp.", name))
    return prefix + name


def state_dict_for(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a classifier, segmenter or backbone under transformers' keys, q, k and v apart.

    The colour order is left as it is.
    """
    prefix = "" if isinstance(model, MobileViT) else _PREFIX
    state = {}
    for key, tensor in model.state_dict().items():
        name = key_of(key, prefix)
        parts = zip(_QKV, tensor.chunk(3), strict=True) if ".qkv." in name else [("", tensor)]
        state |= {name.replace(".qkv.", f".attention.{part}."): rows for part, rows in parts}
    return state


def _key_of_segmentation_head(ours: str) -> str:
    name = ours.replace(".conv.", ".convolution.").replace(".bn.", ".normalization.")
    part, _, rest = name.partition(".")
    return f"segmentation_head.{_SEGMENTATION_PARTS[part]}.{rest}"

"""Kornia's MobileViT: another network under the same name (its own variant here), alone or with a linear layer.

Kornia has no head; its documentation makes a classifier of nn.Sequential(MobileViT(), AvgPool2d(256 // 32, 1),
Flatten(), Linear(320, 1000)), whose keys are taken for those of one here.
Source: kornia 0.9.0 kornia/models/vit_mobile.py (kornia/contrib/vit_mobile.py before 0.9).
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from mvit_deploy.checkpoints.networks import BACKBONE, state_of
from mvit_deploy.checkpoints.strict import check
from mvit_deploy.errors import CheckpointError
from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.config import mode_of_width

NAME = "kornia"
TASKS = (BACKBONE, "classification")
VARIANT = "kornia"
COLOR_ORDER = "RGB"
_FIRST, _LINEAR = "0.", "3."  # places of backbone and linear layer in the documented nn.Sequential
_INVERTED = {"1.0": 0, "2.0": 1, "2.1": 2, "2.2": 3, "3.0": 4, "4.0": 5, "5.0": 6}  # layer.block -> index in mv2
_BLOCK_PARTS = {"local_conv": "conv1", "local_proj": "conv2", "proj": "conv3", "fusion": "conv4"}
_CONVOLUTIONS = {"expand": (0, 1), "depthwise": (3, 4), "reduce": (6, 7)}  # positions of conv and bn
_LAYER_PARTS = {
    "norm1": "0.norm",
    "attention.qkv": "0.fn.to_qkv",
    "attention.out": "0.fn.to_out.0",
    "norm2": "1.norm",
    "ffn.fc1": "1.fn.net.0",
    "ffn.fc2": "1.fn.net.3",
}


def load(tensors: Mapping[str, Tensor], patch_size: tuple[int, int]) -> MobileViT:
    """The backbone with a module's weights, for its patch size and channels of the image, which may be any; eval mode.

    Raises: CheckpointError unless the tensors are those of Kornia's class, every key and shape.
    """
    last, stem = tensors.get("conv2.0.weight"), tensors.get("conv1.0.weight")
    mode = None if last is None or stem is None else mode_of_width(len(last))
    if mode is None:
        raise CheckpointError("not Kornia's MobileViT: no conv2.0.weight of a known width")
    model = MobileViT(mode, in_channels=stem.shape[1], patch_size=patch_size, variant=VARIANT)
    check(tensors, rename(model.state_dict()), f"Kornia's {mode}")
    model.load_state_dict(restore(tensors, model.state_dict()), strict=False)
    return model.eval()


def with_linear_in_place(tensors: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Tensors of an nn.Sequential that begins with Kornia's class and has one linear layer, this at its documented
    place wherever it was, and a note on what no tensor tells; all others as they are."""
    rest = {key for key in tensors if not key.startswith(_FIRST)}
    places = {key.partition(".")[0] for key in rest}
    if f"{_FIRST}conv1.0.weight" not in tensors or len(places) != 1:
        return tensors, ()
    (place,) = places
    if not place.isdecimal() or not rest <= {f"{place}.weight", f"{place}.bias"}:
        return tensors, ()
    note = f"layer {place} of the nn.Sequential is its classifier; the pooling before it is taken to be a mean"
    return {_LINEAR + key.removeprefix(f"{place}.") if key in rest else key: t for key, t in tensors.items()}, (note,)


def key_of(ours: str) -> str:
    """Kornia's key for one of ours, of a backbone or of a classifier."""
    if ours.startswith("head.fc."):
        return _LINEAR + ours.removeprefix("head.fc.")
    if ours.startswith("backbone."):
        return _FIRST + _backbones(ours.removeprefix("backbone."))
    return _backbones(ours)


def _backbones(ours: str) -> str:
    if match := re.fullmatch(r"layer_(\d\.\d)\.(expand|depthwise|reduce)\.(conv|bn)\.(\w+)", ours):
        block, part, kind, leaf = match.groups()
        return f"mv2.{_INVERTED[block]}.conv.{_CONVOLUTIONS[part][kind == 'bn']}.{leaf}"
    if match := re.fullmatch(r"layer_(\d)\.1\.transformer\.(\d)\.(.+)\.(\w+)", ours):
        stage, layer, part, leaf = match.groups()
        return f"mvit.{int(stage) - 3}.transformer.layers.{layer}.{_LAYER_PARTS[part]}.{leaf}"
    name = re.sub(r"^layer_(\d)\.1\.(\w+)", lambda m: f"mvit.{int(m[1]) - 3}.{_BLOCK_PARTS[m[2]]}", ours)
    name = re.sub(r"^stem\b", "conv1", re.sub(r"^conv_exp\b", "conv2", name))
    return name.replace(".conv.", ".0.").replace(".bn.", ".1.")


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors of this variant under Kornia's keys."""
    return {key_of(key): tensor for key, tensor in state.items()}


def restore(tensors: Mapping[str, Tensor], ours: Iterable[str]) -> dict[str, Tensor]:
    """Kornia's tensors under our keys, those of ours that are there."""
    return {key: tensors[key_of(key)] for key in ours if key_of(key) in tensors}


def state_dict_for(model: nn.Module) -> dict[str, Tensor]:
    """A backbone's tensors as Kornia's class has them, a classifier's as the documented nn.Sequential has them.

    Raises: UsageError for any but one of variant kornia.
    """
    return rename(state_of(model, NAME, TASKS, VARIANT))

"""The networks that checkpoints are of, by task, and what loading has to know of their tensors."""

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor, nn

from mvit_deploy.errors import UsageError
from mvit_deploy.nn.anchors import anchors_per_point
from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.config import COCO_CLASSES, PAPER_CLASSES, VOC_CLASSES
from mvit_deploy.nn.heads.classification import Classifier, classifier
from mvit_deploy.nn.heads.detection import BOX, Detector, detector
from mvit_deploy.nn.heads.segmentation import Segmenter, segmenter

BACKBONE = "backbone"  # no task of its own: a checkpoint without a head
_BUILDERS: dict[str, Callable[[str, int], nn.Module]] = {"detection": detector, "segmentation": segmenter}
_TASKS = {Classifier: "classification", Detector: "detection", Segmenter: "segmentation", MobileViT: BACKBONE}
PUBLISHED_CLASSES = {"classification": PAPER_CLASSES, "detection": COCO_CLASSES, "segmentation": VOC_CLASSES}
LAST_BIAS = {
    "classification": "head.fc.bias",
    "detection": "head.predict.5.bias",
    "segmentation": "head.classify.bias",
}
OUTPUT_STRIDES = {"classification": 32, "detection": 32, "segmentation": 16, BACKBONE: 32}  # of the published ones
PATCH_SIZE = (2, 2)


def build(task: str, mode: str, num_classes: int | None, variant: str = "paper") -> nn.Module:
    """A network as it is before weights are loaded; a backbone has no classes."""
    if task == BACKBONE:
        return MobileViT(mode, variant=variant)
    if task == "classification":
        return classifier(mode, num_classes, variant=variant)
    return _BUILDERS[task](mode, num_classes)


@cache
def empty_state(task: str, mode: str, num_classes: int | None, variant: str) -> Mapping[str, Tensor]:
    """Keys and shapes of a network: its state dict on PyTorch's meta device, without memory or numbers."""
    with torch.device("meta"):
        return build(task, mode, num_classes, variant).state_dict()


def task_of(model: nn.Module) -> str:
    """The task of one of our networks, or "backbone". Raises: UsageError for any other module."""
    task = _TASKS.get(type(model))
    if task is None:
        raise UsageError(f"{type(model).__name__} is none of {', '.join(kind.__name__ for kind in _TASKS)}")
    return task


def classes_of(task: str, bias: Tensor | None) -> int | None:
    """Number of classes by the bias of a head's last layer, the published one where it says none; None of a backbone.

    A detector's and a segmenter's include the background.
    """
    if task == BACKBONE:
        return None
    rows = len(bias) if bias is not None and bias.dim() == 1 else 0
    count = rows // anchors_per_point()[-1] - BOX if task == "detection" else rows
    least = 1 if task == "classification" else 2
    return count if count >= least else PUBLISHED_CLASSES[task]


def state_of(model: nn.Module, source: str, tasks: tuple[str, ...], variant: str = "paper") -> dict[str, Tensor]:
    """A model's state dict, to be saved in a source's keys.

    Raises: UsageError when the source has no such network: another task or variant, or one that its keys would not tell
    from the published one, with another output stride, channels of the image or patch size.
    """
    task, backbone = task_of(model), getattr(model, "backbone", model)
    if task not in tasks or backbone.config.variant != variant:
        raise UsageError(f"{source} has no keys for {backbone.config.variant}'s {task}; it has: {', '.join(tasks)}")
    state = model.state_dict()
    published = empty_state(task, backbone.config.mode, getattr(model, "num_classes", None), variant)
    same_shapes = {key: t.shape for key, t in state.items()} == {key: t.shape for key, t in published.items()}
    if not same_shapes or (backbone.output_stride, backbone.patch_size) != (OUTPUT_STRIDES[task], PATCH_SIZE):
        raise UsageError(f"{source} has no keys for a {task} network other than the published one")
    return state


def with_stem_flipped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of ours whose first convolution takes BGR where it took RGB, or the reverse."""
    return {key: t[:, [2, 1, 0]] if key.endswith("stem.conv.weight") else t for key, t in state.items()}

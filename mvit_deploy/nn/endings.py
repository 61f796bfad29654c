"""How the graph of a network ends in a file: in what its head gives, or in what an app works with."""

from torch import nn

from mvit_deploy.nn.heads.detection import Decoded, Detector, Joined
from mvit_deploy.nn.heads.segmentation import Ended, Segmenter

# By task, each ending with the names of its outputs; the first is the default.
ENDINGS = {
    "classification": {"logits": ("logits",)},
    "detection": {"boxes": ("boxes", "scores"), "raw": ("locations", "logits")},
    "segmentation": {
        "logits": ("logits",),
        "upsampled": ("logits",),
        "classes": ("classes",),
        "upsampled classes": ("classes",),
    },
}


def ended(module: nn.Module, ending: str, image_size: tuple[int, int]) -> nn.Module:
    """A network of ours with an ending of its task, sharing the parts; its names of layers stay. Others as they are."""
    if isinstance(module, Detector):
        return Decoded(module, image_size) if ending == "boxes" else Detector(module.backbone, module.head)
    if isinstance(module, Segmenter):
        return Ended(module, upsampled="upsampled" in ending, classes="classes" in ending)
    return module


def measured(module: nn.Module) -> nn.Module:
    """The network, whatever its ending, with the one output on which quantization is judged: what the head gives."""
    if isinstance(module, Detector):
        return Joined(module.backbone, module.head)
    return Ended(module) if isinstance(module, Segmenter) else module

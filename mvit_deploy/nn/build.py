"""Ready networks: seeded random weights that are sensitive to every fault, and the counts of a network."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mvit_deploy.errors import UsageError
from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.config import COCO_CLASSES, PAPER_CLASSES, VOC_CLASSES
from mvit_deploy.nn.encoder import Attention
from mvit_deploy.nn.heads.classification import Classifier, classifier
from mvit_deploy.nn.heads.detection import Detector, detector
from mvit_deploy.nn.heads.segmentation import Segmenter, segmenter

QK_GAIN = 3.0
PREDICTION_GAIN = 0.25
CALM_QK_GAIN, CALM_LEVEL = 1.5, 0.05


def seeded(mode: str, task: str, variant: str, num_classes: int | None, *, seed: int) -> nn.Module:
    """The network of a task in eval mode with sensitive random weights; num_classes None is the published number.

    Raises: UsageError for an unknown mode, too few classes, or a head for Kornia's variant, which has none.
    """
    if variant == "kornia":
        if task != "classification" or num_classes is not None:
            raise UsageError("the kornia variant is a backbone: it has no task but features, and no classes")
        return seeded_kornia(mode, seed=seed)
    make = {"classification": seeded_classifier, "detection": seeded_detector, "segmentation": seeded_segmenter}[task]
    return make(mode, seed=seed) if num_classes is None else make(mode, num_classes, seed=seed)


def seeded_kornia(mode: str, *, seed: int = 0) -> MobileViT:
    """Kornia's variant of the backbone, calmer still than a segmenter, its q and k at their usual gain: with more, fp32
    itself would lose its way in its narrow attention."""
    return randomize(MobileViT(mode, variant="kornia"), seed=seed, qk_gain=1.0, level=2 * CALM_LEVEL).eval()


def seeded_classifier(mode: str, num_classes: int = PAPER_CLASSES, *, seed: int = 0) -> Classifier:
    """A classifier in eval mode whose random weights depend on the seed alone and react to any fault in a graph."""
    return randomize(classifier(mode, num_classes), seed=seed).eval()


def seeded_detector(mode: str, num_classes: int = COCO_CLASSES, *, seed: int = 0) -> Detector:
    """A detector like seeded_classifier's classifier. Its predictions are kept small enough for softmax and exp to let
    a fault through."""
    model = randomize(detector(mode, num_classes), seed=seed)
    with torch.no_grad():
        for layer in model.head.last_layers:
            layer.weight *= PREDICTION_GAIN
    return model.eval()


def seeded_segmenter(mode: str, num_classes: int = VOC_CLASSES, *, output_stride: int = 16, seed: int = 0) -> Segmenter:
    """A segmenter like seeded_classifier's classifier, and calmer: nothing averages over its points, so that what each
    layer rounds in fp16, 66 dB below its output, would grow to 35 dB at the end."""
    model = segmenter(mode, num_classes, output_stride=output_stride)
    return randomize(model, seed=seed, qk_gain=CALM_QK_GAIN, level=CALM_LEVEL).eval()


def randomize(model: nn.Module, *, seed: int, qk_gain: float = QK_GAIN, level: float = 0.0) -> nn.Module:
    """Draw every parameter and statistic of a model anew, in place, so that a wrong graph shows in the output.

    Plain initialisation makes attention nearly uniform and normalisation the identity: swapped q and k, a lost scale
    or a wrong axis would go unseen. Here convolutions and linear layers are Kaiming-normal, q and k have three times
    that gain, and the affines and statistics of BatchNorm and LayerNorm are far from 1 and 0. The filters of
    convolutions have a mean of 0, or means of so many times their gain: what is the same at all points passes then.
    """
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            _randomize_module(module, draw)
        for module in model.modules():
            if level and _mixes_channels(module):
                _add_level(module, level, draw)
            if isinstance(module, Attention):
                module.qkv.weight[: 2 * module.qkv.in_features] *= qk_gain
    return model


def _randomize_module(module: nn.Module, draw: torch.Generator) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        fan_in = module.weight[0].numel()
        _normal(module.weight, fan_in**-0.5, draw)
        if _mixes_channels(module):
            module.weight -= module.weight.mean(dim=(1, 2, 3), keepdim=True)
        if module.bias is not None:
            _normal(module.bias, 0.1, draw)
    elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
        _uniform(module.weight, 0.7, 1.5, draw)
        _normal(module.bias, 0.2, draw)
    if isinstance(module, nn.BatchNorm2d):
        _normal(module.running_mean, 0.2, draw)
        _uniform(module.running_var, 0.3, 0.9, draw)


def _mixes_channels(module: nn.Module) -> bool:
    """A convolution of maps, neither depthwise nor of the image."""
    return isinstance(module, nn.Conv2d) and module.in_channels > 3 and module.groups == 1


def _add_level(conv: nn.Conv2d, level: float, draw: torch.Generator) -> None:
    std = level * conv.weight[0].numel() ** -0.5
    conv.weight += torch.randn(len(conv.weight), 1, 1, 1, generator=draw) * std


def _normal(tensor: Tensor, std: float, draw: torch.Generator) -> None:
    tensor.copy_(torch.randn(tensor.shape, generator=draw) * std)


def _uniform(tensor: Tensor, low: float, high: float, draw: torch.Generator) -> None:
    tensor.copy_(torch.rand(tensor.shape, generator=draw) * (high - low) + low)


def count_parameters(model: nn.Module) -> int:
    """Trainable and frozen parameters; statistics of BatchNorm are not parameters."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: nn.Module, image_size: tuple[int, int], in_channels: int = 3) -> int:
    """Multiply-accumulates of convolutions, linear layers and attention products for one image of (height, width)."""
    image = torch.zeros(1, in_channels, *image_size)
    was_training = model.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(image)
    model.train(was_training)
    return counter.get_total_flops() // 2

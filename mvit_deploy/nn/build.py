"""Ready networks: seeded random weights that are sensitive to every fault, and the counts of a network."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mvit_deploy.nn.config import COCO_CLASSES, PAPER_CLASSES, VOC_CLASSES
from mvit_deploy.nn.encoder import Attention
from mvit_deploy.nn.heads.classification import Classifier, classifier
from mvit_deploy.nn.heads.detection import DetectionHead, Detector, detector
from mvit_deploy.nn.heads.segmentation import Segmenter, segmenter

QK_GAIN = 3.0
PREDICT_GAIN = 0.25


def seeded_classifier(mode: str, num_classes: int = PAPER_CLASSES, *, seed: int = 0) -> Classifier:
    """A classifier in eval mode whose random weights depend on the seed alone and react to any fault in a graph."""
    model = classifier(mode, num_classes)
    randomize(model, seed=seed)
    return model.eval()


def seeded_detector(mode: str, num_classes: int = COCO_CLASSES, *, seed: int = 0) -> Detector:
    """A detector likewise. num_classes counts the background."""
    model = detector(mode, num_classes)
    randomize(model, seed=seed)
    return model.eval()


def seeded_segmenter(mode: str, num_classes: int = VOC_CLASSES, *, output_stride: int = 16, seed: int = 0) -> Segmenter:
    """A segmenter likewise. num_classes counts the background."""
    model = segmenter(mode, num_classes, output_stride=output_stride)
    randomize(model, seed=seed)
    return model.eval()


def randomize(model: nn.Module, *, seed: int) -> nn.Module:
    """Draw every parameter and statistic of a model anew, in place, so that a wrong graph shows in the output.

    Plain initialisation makes attention nearly uniform and normalisation the identity: swapped q and k, a lost scale
    or a wrong axis would go unseen. Here convolutions and linear layers are Kaiming-normal, q and k have three times
    that gain, and the affines and statistics of BatchNorm and LayerNorm are far from 1 and 0. What predicts boxes has a
    quarter of it: the scores would be 0 and 1, the boxes a hundred times the image.
    """
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            _randomize_module(module, draw)
        for module in model.modules():
            if isinstance(module, Attention):
                module.qkv.weight[: 2 * module.qkv.in_features] *= QK_GAIN
            elif isinstance(module, DetectionHead):
                for convolution in module.predictors:
                    convolution.weight *= PREDICT_GAIN
    return model


def _randomize_module(module: nn.Module, draw: torch.Generator) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        fan_in = module.weight[0].numel()
        _normal(module.weight, fan_in**-0.5, draw)
        if isinstance(module, nn.Conv2d) and module.in_channels > 3 and module.groups == 1:
            module.weight -= module.weight.mean(dim=(1, 2, 3), keepdim=True)
        if module.bias is not None:
            _normal(module.bias, 0.1, draw)
    elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
        _uniform(module.weight, 0.7, 1.5, draw)
        _normal(module.bias, 0.2, draw)
    if isinstance(module, nn.BatchNorm2d):
        _normal(module.running_mean, 0.2, draw)
        _uniform(module.running_var, 0.3, 0.9, draw)


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

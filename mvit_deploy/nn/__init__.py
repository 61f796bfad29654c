"""The reference network, in PyTorch only."""

from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.build import count_macs, count_parameters, seeded_classifier, seeded_detector, seeded_segmenter
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.nn.heads.classification import Classifier, classifier
from mvit_deploy.nn.heads.detection import Decoded, Detector, detector
from mvit_deploy.nn.heads.segmentation import Ended, Segmenter, segmenter
from mvit_deploy.nn.patches import fold, unfold

__all__ = [
    "Classifier",
    "Decoded",
    "Detector",
    "Ended",
    "MobileViT",
    "Segmenter",
    "classifier",
    "count_macs",
    "count_parameters",
    "detector",
    "fold",
    "fuse",
    "seeded_classifier",
    "seeded_detector",
    "seeded_segmenter",
    "segmenter",
    "unfold",
]

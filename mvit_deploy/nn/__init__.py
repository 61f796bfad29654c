"""The reference network, in PyTorch only."""

from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.build import count_macs, count_parameters, seeded_classifier
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.nn.heads.classification import Classifier, classifier
from mvit_deploy.nn.patches import fold, unfold

__all__ = [
    "Classifier",
    "MobileViT",
    "classifier",
    "count_macs",
    "count_parameters",
    "fold",
    "fuse",
    "seeded_classifier",
    "unfold",
]

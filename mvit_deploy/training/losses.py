"""What training makes small, by task."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mvit_deploy.nn.patches import resize
from mvit_deploy.training.matching import BACKGROUND
from mvit_deploy.training.metrics import IGNORED

NEGATIVES = 3  # of the background, for each anchor that has a box


def multibox_loss(
    locations: Tensor, logits: Tensor, target_labels: Tensor, target_locations: Tensor, negatives: int = NEGATIVES
) -> Tensor:
    """Smooth L1 of the positives' locations and cross entropy of positives and hard negatives, for each positive.

    Positives are the anchors that have a box. Each image adds, for each of its positives, the given number of anchors
    of the background with the largest cross entropy, so that thousands of easy ones do not drown the rest; an image
    without positives adds nothing. Without any in the batch, the loss is 0.
    Shapes: locations and target_locations (B, A, 4); logits (B, A, num_classes); target_labels int64 (B, A) -> ().
    Source: arXiv 1512.02325 section 2.2; apple/ml-cvnets v0.1 trains with the same ratio and divisor.
    """
    positive = target_labels != BACKGROUND
    entropies = F.cross_entropy(logits.transpose(1, 2), target_labels, reduction="none")  # (B, A)
    counted = positive | _hardest(entropies.detach().masked_fill(positive, -torch.inf), positive, negatives)
    distances = F.smooth_l1_loss(locations[positive], target_locations[positive], reduction="sum")
    return (distances + entropies[counted].sum()) / positive.sum().clamp(min=1)


def _hardest(entropies: Tensor, positive: Tensor, negatives: int) -> Tensor:
    """The anchors of the largest entropy, a number for each positive of the image. Shapes: (B, A) -> bool (B, A)."""
    ranks = entropies.argsort(dim=1, descending=True).argsort(dim=1)
    return ranks < negatives * positive.sum(dim=1, keepdim=True)


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross entropy of the points that are of a class, logits brought to the mask's size as a segmenter's are.

    Without any such point, the loss is 0.
    Shapes: logits (B, num_classes, h, w), target int64 (B, H, W), 255 for points that do not count -> ().
    """
    logits = resize(logits, (int(target.shape[1]), int(target.shape[2])))
    total = F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum")
    return total / (target != IGNORED).sum().clamp(min=1)

"""Which box each anchor of a detector answers for, and what its locations must then say."""

import torch
from torch import Tensor

from mvit_deploy.errors import ShapeError, UsageError
from mvit_deploy.nn.anchors import CENTRE_VARIANCE, SIZE_VARIANCE

BACKGROUND = 0
LEAST_IOU = 0.5  # of an anchor with a box for which it is not the best


def matched(anchors: Tensor, boxes: Tensor, labels: Tensor, iou: float = LEAST_IOU) -> tuple[Tensor, Tensor]:
    """The class of every anchor of one image, and the locations that turn it into its box.

    Each box gets one anchor for itself, that of the largest intersection over union among those still free, pairs
    with a larger one first; every other anchor belongs to the box of its largest, where that is at least iou, else to
    the background, class 0, whose locations are 0 and mean nothing.
    Shapes: anchors (A, 4), centre x, centre y, width, height; boxes (n, 4), corners [x1, y1, x2, y2], both in units of
    the image's sides; labels (n,), from 1 on -> int64 (A,), float (A, 4).
    Raises: ShapeError for other shapes or more boxes than anchors; UsageError for a box without area or not finite, and
    for a label below 1.
    Source: arXiv 1512.02325 section 2.2. apple/ml-cvnets v0.1 differs where two boxes have the same best anchor: there
    the first of them may get none.
    """
    _check(anchors, boxes, labels)
    if not len(boxes):
        return labels.new_zeros(len(anchors), dtype=torch.int64), torch.zeros_like(anchors)
    owners = _owners(intersection_over_union(corners_of(anchors), boxes), iou)
    is_matched = owners >= 0
    classes = torch.where(is_matched, labels.long()[owners], BACKGROUND)
    return classes, encoded(anchors, boxes[owners]) * is_matched[:, None]


def encoded(anchors: Tensor, boxes: Tensor) -> Tensor:
    """The locations that Decoded turns into these boxes, anchor by anchor.

    Shapes: anchors (A, 4), centre x, centre y, width, height; boxes (A, 4), corners -> (A, 4), shifts of the centre and
    logarithms of the growth, both in units of the variances.
    Source: apple/ml-cvnets v0.1 misc/box_utils.py.
    """
    centres, sizes = anchors.split(2, dim=1)
    shifts = ((boxes[:, :2] + boxes[:, 2:]) / 2 - centres) / sizes
    growth = ((boxes[:, 2:] - boxes[:, :2]) / sizes).log()
    return torch.cat((shifts / CENTRE_VARIANCE, growth / SIZE_VARIANCE), dim=1)


def corners_of(boxes: Tensor) -> Tensor:
    """Shapes: (n, 4), centre x, centre y, width, height -> (n, 4), corners [x1, y1, x2, y2]."""
    centres, sizes = boxes.split(2, dim=1)
    return torch.cat((centres - sizes / 2, centres + sizes / 2), dim=1)


def intersection_over_union(boxes: Tensor, others: Tensor) -> Tensor:
    """Of every pair; boxes have an area. Shapes: (n, 4) and (m, 4), corners -> (n, m), in [0, 1]."""
    top_left = torch.maximum(boxes[:, None, :2], others[None, :, :2])  # (n, m, 2)
    bottom_right = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=2)
    areas, other_areas = ((b[:, 2:] - b[:, :2]).prod(dim=1) for b in (boxes, others))
    return intersection / (areas[:, None] + other_areas[None] - intersection)


def _owners(overlaps: Tensor, iou: float) -> Tensor:
    """The box of every anchor, -1 for the background. Shapes: (A, n) -> int64 (A,)."""
    best, owners = overlaps.max(dim=1)
    owners[best < iou] = -1
    free = overlaps.clone()
    for _ in range(free.shape[1]):
        anchor, box = divmod(int(free.argmax()), free.shape[1])
        owners[anchor] = box
        free[anchor] = free[:, box] = -1  # below every overlap: both are taken
    return owners


def _check(anchors: Tensor, boxes: Tensor, labels: Tensor) -> None:
    if anchors.dim() != 2 or anchors.shape[1] != 4 or boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ShapeError(f"anchors and boxes must be (A, 4) and (n, 4), not {(*anchors.shape,)} and {(*boxes.shape,)}")
    if labels.shape != boxes.shape[:1]:
        raise ShapeError(f"{len(boxes)} boxes need as many labels, not {(*labels.shape,)}")
    if len(boxes) > len(anchors):
        raise ShapeError(f"{len(boxes)} boxes are more than the {len(anchors)} anchors")
    if not boxes.isfinite().all() or (boxes[:, 2:] <= boxes[:, :2]).any():
        raise UsageError("a box to train on is not finite or has no area; corners are [x1, y1, x2, y2]")
    if (labels <= BACKGROUND).any():
        raise UsageError("a box to train on has a label below 1; 0 is the background")

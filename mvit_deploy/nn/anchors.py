"""The anchor boxes of the detector, and the maps that they stand on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mvit_deploy.nn.config import check_image_size

ANCHORS_PER_CELL = (6, 6, 6, 6, 6, 4)  # by map: two squares, and two oblongs for each aspect ratio
_ASPECT_RATIOS = ((2, 3),) * 5 + ((2,),)
_SCALES = (0.1, 1.05)  # of the first map, and behind the last; those between are evenly spaced

Size = tuple[int, int]


def map_sizes(image_size: Size) -> tuple[Size, ...]:
    """Height and width of the six maps of the detector: strides 16, 32, 64, 128 and 256, and the one of 1x1 behind.

    A side that no stride divides is rounded up, so that every map exists for every image: of 32x32 px the last five
    are 1x1.
    Raises: ShapeError for an image size that is not a multiple of 32.
    """
    check_image_size(*image_size)
    strided = tuple((-(-image_size[0] // stride), -(-image_size[1] // stride)) for stride in (16, 32, 64, 128, 256))
    return (*strided, (1, 1))


def anchor_boxes(sizes: Sequence[Size]) -> Tensor:
    """Centre-size boxes [cx, cy, w, h] as fractions of the image's width and height, within [0, 1].

    Map by map, its cells row by row, in each cell the anchors in the order of ANCHORS_PER_CELL.
    Shapes: sizes of the six maps, (height, width) each -> (A, 4), float32, A = 3232 for an image of 320x320.
    Source: apple/ml-cvnets v0.1 misc/anchor_generator.py (SSD, arXiv 1512.02325 s2.2), computed in float64 here.
    """
    steps = len(_ASPECT_RATIOS)
    scales = torch.linspace(*_SCALES, steps + 1, dtype=torch.float64)
    boxes = [
        _boxes_on_map(size, _box_sizes(scales[i], scales[i + 1], _ASPECT_RATIOS[i]))
        for i, size in zip(range(steps), sizes, strict=True)
    ]
    return torch.cat(boxes).clamp(0, 1).float()


def _box_sizes(scale: Tensor, next_scale: Tensor, ratios: Sequence[int]) -> Tensor:
    """Widths and heights of one cell's anchors. Shapes: -> (2 + 2 * len(ratios), 2)."""
    larger = (scale * next_scale).sqrt()
    sizes = [(scale, scale), (larger, larger)]
    for ratio in ratios:
        longer, shorter = scale * ratio**0.5, scale / ratio**0.5
        sizes += [(longer, shorter), (shorter, longer)]
    return torch.tensor(sizes, dtype=torch.float64)


def _boxes_on_map(size: Size, box_sizes: Tensor) -> Tensor:
    """Each of the boxes in the middle of each cell. Shapes: box_sizes (n, 2) -> (height*width*n, 4)."""
    height, width = size
    y = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    x = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    centres = torch.cartesian_prod(y, x).flip(1)  # (height*width, 2) as (cx, cy)
    return torch.cat(
        (centres.repeat_interleave(len(box_sizes), dim=0), box_sizes.repeat(len(centres), 1)),
        dim=1,
    )

"""Anchors of SSDLite: boxes of several sizes and shapes around each point of each map.

Source: apple/ml-cvnets v0.1 misc/anchor_generator.py, config/detection/ssd_mobilevit_*_320.yaml; arXiv 1512.02325, 2.2.
"""

from itertools import pairwise

import torch
from torch import Tensor

from mvit_deploy.nn.config import check_image_size

SMALLEST, LARGEST = 0.1, 1.05  # sides of a square anchor on the first map and behind the last, in units of the image
RATIOS = ((2, 3),) * 5 + ((2,),)  # of the sides of the other anchors, by map
FIRST_STRIDE = 16
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2  # units in which locations are given


def anchors_per_point() -> tuple[int, ...]:
    """By map: two squares, and each ratio lying and standing."""
    return tuple(2 + 2 * len(ratios) for ratios in RATIOS)


def map_sizes(image_size: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of the six maps: each half of the one before, rounded up, the last a single point.

    Raises: ShapeError for an image whose sides are no multiples of 32.
    """
    check_image_size(*image_size)
    sizes = [tuple(side // FIRST_STRIDE for side in image_size)]
    while len(sizes) < len(RATIOS) - 1:
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return [*sizes, (1, 1)]


def anchors_of_image(image_size: tuple[int, int]) -> Tensor:
    """All anchors for images of (height, width), in the order in which the head gives them.

    Shapes: (A, 4), centre x, centre y, width, height in units of the image's sides, in [0, 1].
    """
    step = (LARGEST - SMALLEST) / len(RATIOS)
    sides = pairwise(SMALLEST + step * place for place in range(len(RATIOS) + 1))
    rows = []
    for (height, width), ratios, (side, following) in zip(map_sizes(image_size), RATIOS, sides, strict=True):
        shapes = _shapes(side, following, ratios)
        rows += [
            ((x + 0.5) / width, (y + 0.5) / height, *shape)
            for y in range(height)
            for x in range(width)
            for shape in shapes
        ]
    return torch.tensor(rows, dtype=torch.float64).clamp(0, 1).float()


def _shapes(side: float, following: float, ratios: tuple[int, ...]) -> list[tuple[float, float]]:
    """Width and height of the anchors around a point: a square, one between it and the next map's, then the ratios."""
    between = (side * following) ** 0.5
    found = [(side, side), (between, between)]
    for ratio in ratios:
        long, short = side * ratio**0.5, side / ratio**0.5
        found += [(long, short), (short, long)]
    return found

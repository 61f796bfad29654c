"""What a person says of images: their size, how photos are brought to it, mean and deviation."""

import re
from dataclasses import replace
from numbers import Integral

from mvit_deploy.errors import UsageError
from mvit_deploy.hints import choose
from mvit_deploy.spec import RESAMPLINGS, Normalization, Preprocessing

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation, RGB


def parse_image_size(given: str | int | tuple[int, int]) -> tuple[int, int]:
    """N, "N", "HxW" or (H, W) as (height, width). Raises: UsageError for anything else."""
    if isinstance(given, str):
        match = re.fullmatch(r"(\d{1,5})(?:[xX×](\d{1,5}))?", given.strip())
        sides = (int(match[1]), int(match[2] or match[1])) if match else ()
    else:
        sides = tuple(given) if isinstance(given, list | tuple) else (given, given)
    if len(sides) != 2 or not all(isinstance(side, Integral) and not isinstance(side, bool) for side in sides):
        raise UsageError(f"cannot read the image size {given!r}; give N or HxW, for instance 256 or 192x320")
    return int(sides[0]), int(sides[1])


def parse_normalization(given: str | None, color_order: str) -> Normalization | None:
    """imagenet, none, "M,S" or "M,M,M,S,S,S", the latter in the network's order of colours, for values in [0, 1].

    Raises: UsageError for anything else. Source: the means and deviations of torchvision's models.
    """
    if given is None or given.strip() == "none":
        return None
    if given.strip() == "imagenet":
        mean, std = IMAGENET if color_order == "RGB" else (values[::-1] for values in IMAGENET)
        return Normalization(mean, std)
    try:
        numbers = tuple(float(word) for word in given.split(","))
        if len(numbers) not in (2, 6):
            raise ValueError("two or six numbers")
        mean, std = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
        return Normalization(mean * (3 // len(mean)), std * (3 // len(std)))
    except ValueError as error:
        known = "imagenet, none, M,S or M,M,M,S,S,S with deviations above 0, for instance 0.5,0.5"
        raise UsageError(f"cannot read --normalize {given!r}; give {known}") from error


def preprocessing_of(
    source: Preprocessing, resize: str | int | tuple[int, int] | None, resampling: str | None, size: tuple[int, int]
) -> Preprocessing:
    """How photos are prepared: as asked for, and the rest as the source of the weights does it.

    resize: N is the short side before the centre is cropped to size, HxW both sides, whatever a photo's proportions.
    Raises: UsageError for what cannot be read, another filter, or a side below the image's.
    """
    if resampling is not None:
        choose(resampling, RESAMPLINGS, "--resampling")
        source = replace(source, resampling=resampling)
    if resize is None:
        return source
    is_side = isinstance(resize, int) or str(resize).strip().isdigit()
    height, width = parse_image_size(resize)
    if height < size[0] or width < size[1]:
        raise UsageError(f"--resize {resize} is smaller than the image, {size[0]}x{size[1]}")
    return replace(source, resize=height if is_side else (height, width), crop=size)

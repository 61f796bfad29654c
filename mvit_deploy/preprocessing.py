"""Preparing pictures with Pillow as a network's pictures were prepared by those who trained it."""

from math import ceil

import numpy as np
from PIL import Image

from mvit_deploy.errors import UsageError
from mvit_deploy.metadata import preprocessing_from_json, preprocessing_to_json
from mvit_deploy.spec import OWN, RESAMPLINGS, Preprocessing

LONGEST_RATIO = 32  # the most that is resized, to the crop: a strip 1 x 60000 would otherwise grow to 15 GB
RESAMPLING = {name: Image.Resampling[name.upper()] for name in RESAMPLINGS}


def to_json(how: Preprocessing, *, asked: bool = False) -> dict[str, object]:
    """What a report says of the photos' preprocessing, and whose it is: asked for, else the checkpoint's own or this
    project's."""
    owner = "request" if asked else "mvit-deploy" if how == OWN else "checkpoint"
    return {"of": owner} | preprocessing_to_json(how)


def from_json(said: dict[str, object] | None) -> Preprocessing:
    """The inverse. A report from before there was such an entry, or from when it held no more than this project's name,
    has this project's. Raises: UsageError for what to_json does not give.
    """
    if said is None or said == {"of": "mvit-deploy"}:
        return OWN
    try:
        values = dict(said)
        owner = values.pop("of")
        how = preprocessing_from_json(values)
        if owner not in ("request", to_json(how)["of"]):
            raise ValueError("of another source")
        return how
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the report's preprocessing cannot be read: {said}") from error


def apply(image: Image.Image, how: Preprocessing, size: tuple[int, int]) -> np.ndarray:
    """An RGB picture resized and cropped to size = (height, width), black where it is smaller, as in transformers.

    For a size that is not the source's own, what the picture is resized to is scaled along.
    Shapes: -> uint8 (height, width, 3), RGB whatever how.color_order is.
    """
    image = _without_far_ends(image, _resized(image, how, size), size)
    height, width = _resized(image, how, size)
    resized = image.resize((width, height), RESAMPLING[how.resampling])
    top, left = _half(height - size[0], how.half_pixel), _half(width - size[1], how.half_pixel)
    return np.asarray(resized.crop((left, top, left + size[1], top + size[0])))


def _resized(image: Image.Image, how: Preprocessing, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) that a picture is resized to: the side that decides exactly, the other one as how.rounding says.

    Truncation is the rule of torchvision's Resize, transformers' get_resize_output_image_size and ml-cvnets alike.
    """
    if how.resize is None:
        return image.height, image.width
    box = how.resize if isinstance(how.resize, tuple) else (how.resize, how.resize)
    own = how.crop or box
    height, width = round(box[0] * size[0] / own[0]), round(box[1] * size[1] / own[1])
    if isinstance(how.resize, tuple):
        return height, width
    if height * image.width >= width * image.height:  # the height decides: with it the width is covered too
        return height, _whole(height * image.width / image.height, how)
    return _whole(width * image.height / image.width, how), width


def _without_far_ends(image: Image.Image, resized: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    """The middle of a strip that would grow to more than LONGEST_RATIO times the size: (height, width) all."""
    return middle(
        image,
        ceil(LONGEST_RATIO * size[1] * image.width / resized[1]),
        ceil(LONGEST_RATIO * size[0] * image.height / resized[0]),
    )


def _whole(side: float, how: Preprocessing) -> int:
    return round(side) if how.rounding == "nearest" else int(side)


def _half(margin: int, half_pixel: str) -> int:
    return round(margin / 2) if half_pixel == "even" else margin // 2


def middle(image: Image.Image, width: int, height: int) -> Image.Image:
    """At most width x height of an image, or one more where only so the centre stays where it is."""
    left, top = (max(0, image.width - width) // 2, max(0, image.height - height) // 2)
    return image.crop((left, top, image.width - left, image.height - top)) if left or top else image

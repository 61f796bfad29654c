"""How the pictures of a network were prepared by those who trained it, as a value, and doing it with Pillow."""

from dataclasses import asdict, dataclass
from math import ceil

import numpy as np
from PIL import Image

from mvit_deploy.errors import UsageError

LONGEST_RATIO = 32  # the most that is resized, to the crop: a strip 1 x 60000 would otherwise grow to 15 GB
RESAMPLING = {filter.name.lower(): filter for filter in Image.Resampling}


@dataclass(frozen=True)
class Preprocessing:
    """Resize, then crop the centre; values are scaled to [0, 1], without mean and deviation.

    resize: the short side in pixels, or (height, width) whatever the picture's proportions, or None for as it is.
    crop: (height, width), None for all of it. resampling: Pillow's name of the filter in lower case, antialiased.
    color_order: what the source's own network takes, RGB or BGR; ours take RGB. half_pixel: where the centre goes when
    the margin is odd, down (transformers) or even (torchvision: to the even side of Python's round).
    Raises: ValueError for a side that is no positive integer, or another word.
    """

    resize: int | tuple[int, int] | None
    crop: tuple[int, int] | None
    resampling: str
    color_order: str
    half_pixel: str = "down"

    def __post_init__(self) -> None:
        sizes = (self.resize is None or _is_side(self.resize) or _is_size(self.resize)) and (
            self.crop is None or _is_size(self.crop)
        )
        words = self.color_order in ("RGB", "BGR") and self.half_pixel in ("down", "even")
        if not sizes or not words or self.resampling not in RESAMPLING:
            raise ValueError(f"not a preprocessing: {asdict(self)}")

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) that the source's network sees; None where that depends on the picture."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)

    def __str__(self) -> str:
        resized = "as they are"
        if self.resize is not None:
            resized = f"short side {self.resize}" if isinstance(self.resize, int) else "x".join(map(str, self.resize))
        cropped = "" if self.crop is None else f", centre {self.crop[0]}x{self.crop[1]}"
        return f"{resized}{cropped}, {self.resampling}"


def to_json(how: Preprocessing | None) -> dict[str, object]:
    """What a report says of the photos' preprocessing: the checkpoint's own, or this project's for None."""
    if how is None:
        return {"of": "mvit-deploy"}
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(how).items()}
    return {"of": "checkpoint"} | values


def from_json(said: dict[str, object] | None) -> Preprocessing | None:
    """The inverse. None, of a report before there was such an entry, is this project's.

    Raises: UsageError for what to_json does not give.
    """
    if said is None or said == to_json(None):
        return None
    try:
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
        if values.pop("of") != "checkpoint":
            raise ValueError("of another source")
        return Preprocessing(**values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the report's preprocessing cannot be read: {said}") from error


def _is_side(value: object) -> bool:
    return type(value) is int and value > 0


def _is_size(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_side, value))


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
    """(height, width) that a picture is resized to: the side that decides exactly, the other one truncated.

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
        return height, int(height * image.width / image.height)
    return int(width * image.height / image.width), width


def _without_far_ends(image: Image.Image, resized: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    """The middle of a strip that would grow to more than LONGEST_RATIO times the size: (height, width) all."""
    return middle(
        image,
        ceil(LONGEST_RATIO * size[1] * image.width / resized[1]),
        ceil(LONGEST_RATIO * size[0] * image.height / resized[0]),
    )


def _half(margin: int, half_pixel: str) -> int:
    return round(margin / 2) if half_pixel == "even" else margin // 2


def middle(image: Image.Image, width: int, height: int) -> Image.Image:
    """At most width x height of an image, or one more where only so the centre stays where it is."""
    left, top = (max(0, image.width - width) // 2, max(0, image.height - height) // 2)
    return image.crop((left, top, image.width - left, image.height - top)) if left or top else image

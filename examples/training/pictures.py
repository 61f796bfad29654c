"""Parts of pictures, as squares that the networks take."""

import numpy as np
from PIL import Image
from torch import Tensor

from mvit_deploy.reference import image_tensors

LEAST_WINDOW = 0.6  # of each side of a picture, that a crop keeps
Window = tuple[float, float, float, float]  # left, top, right, bottom in units of the picture's sides
WHOLE: Window = (0.0, 0.0, 1.0, 1.0)


def random_window(generator: np.random.Generator) -> Window:
    """A part of a picture, each side at least LEAST_WINDOW of the whole: scale, shape and place vary."""
    width, height = generator.uniform(LEAST_WINDOW, 1, 2)
    left, top = generator.uniform(0, 1 - width), generator.uniform(0, 1 - height)
    return left, top, left + width, top + height


def cut(picture: Image.Image, window: Window, side: int, *, resample: Image.Resampling) -> Image.Image:
    """A window of a picture as a square of side pixels; its shape is not kept, as in training of SSD."""
    width, height = picture.size
    left, top, right, bottom = window
    return picture.resize((side, side), resample, box=(left * width, top * height, right * width, bottom * height))


def as_input(picture: Image.Image) -> Tensor:
    """Shapes: RGB -> float (3, H, W), [0, 1]."""
    return image_tensors(np.asarray(picture)[None], "RGB")[0]

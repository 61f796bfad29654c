"""Pictures for a page: thumbnails, boxes and maps of classes drawn on them, as data URIs."""

import base64
import colorsys
import io
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

THUMBNAIL_PX, DRAWN_PX = 128, 208  # the longer side
QUALITY = 85
MAP_SHARE = 0.6


def thumbnail(pixels: np.ndarray, side: int = THUMBNAIL_PX) -> Image.Image:
    """An image whose longer side is side. Shapes: uint8 RGB (height, width, 3)."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)


def data_uri(image: Image.Image) -> str:
    """As a JPEG in the page itself; the same image gives the same text."""
    written = io.BytesIO()
    image.save(written, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode('ascii')}"


def with_boxes(pixels: np.ndarray, found: Iterable[tuple[np.ndarray, int]]) -> Image.Image:
    """A thumbnail with boxes, corners [x1, y1, x2, y2] in units of the image's sides, each of a class, the last ones on
    top."""
    image = thumbnail(pixels, DRAWN_PX)
    draw = ImageDraw.Draw(image)
    ends = np.array([image.width - 1, image.height - 1] * 2)
    for box, label in found:
        corners = [float(value) for value in np.clip(box, 0, 1) * ends]
        if corners[2] >= corners[0] and corners[3] >= corners[1]:  # Pillow refuses a box that is inside out
            draw.rectangle(corners, outline=colour(label), width=2)
    return image


def with_classes(pixels: np.ndarray, classes: np.ndarray) -> Image.Image:
    """A thumbnail under the colours of its classes, of which 0, the background, has none.

    Shapes: classes (height, width), of any size; each point colours its part of the image.
    """
    image = thumbnail(pixels, DRAWN_PX)
    known = np.unique(classes)
    colours = np.array([colour(int(label)) for label in known], np.uint8)[np.searchsorted(known, classes)]
    layer = Image.fromarray(colours).resize(image.size, Image.Resampling.NEAREST)
    mask = Image.fromarray(np.where(classes > 0, round(255 * MAP_SHARE), 0).astype(np.uint8))
    image.paste(layer, mask=mask.resize(image.size, Image.Resampling.NEAREST))
    return image


def colour(label: int) -> tuple[int, int, int]:
    """Neighbouring classes in colours far apart: a golden step round the circle of hues."""
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(label * 0.618 % 1, 0.85, 0.95))

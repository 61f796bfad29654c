"""Image files as upright 8-bit RGB, whatever they hold; what is not a sound image is one error that names the file."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from mvit_deploy.errors import UsageError

# Files are opened as these and nothing else, whatever they are called: Pillow's EPS would start Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 2**27  # more than a 108-megapixel camera gives; decoded, 4 bytes each, half a gigabyte
# What brings an image upright, by its EXIF orientation. ImageOps.exif_transpose also writes the rest of EXIF anew, and
# raises on sound photos whose other tags are odd.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TIFF_BITS, TIFF_PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0


def decode(path: Path) -> Image.Image:
    """An image file as upright RGB; transparency is laid on black, the first frame is taken.

    CMYK is taken as plain ink, in a JPEG with Adobe's inversion, as training pipelines on Pillow do.
    Raises: UsageError when the file is not a readable image, is truncated, or has more than MAX_PIXELS.
    """
    try:
        # Pillow warns, with lines of its source, of odd EXIF and of sizes that MAX_PIXELS already judges.
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            return _decoded(file)
    except UnidentifiedImageError as error:
        raise UsageError(f"cannot read the image {path}: it is no {', '.join(FORMATS)}, or damaged") from error
    except Exception as error:  # a decoder raises whatever its parsing stumbles over, struct.error for one
        raise UsageError(f"cannot read the image {path}: {str(error) or type(error).__name__}") from error


def _decoded(file: BinaryIO) -> Image.Image:
    """The image of an open file: given a path, Pillow 13 maps it and scrambles an uncompressed TIFF on its side."""
    with Image.open(file, formats=FORMATS) as image:
        _check_area(image)
        image.load()  # turns a TIFF, which then says no orientation any more
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
        rgb = _rgb(image)
        return rgb if turn is None else rgb.transpose(turn)


def _check_area(image: Image.Image) -> None:
    """Before anything is decoded: a header costs nothing to write. Raises: ValueError."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} are more than {MAX_PIXELS} pixels")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """The upper 8 bits of gray with 12 or 16, black where a PNG says transparent.

    Raises: ValueError for 32-bit and float pixels, whose white nobody knows.
    """
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F" or (image.mode == "I" and tags):  # elsewhere, mode I holds 16 bits
        raise ValueError("its pixels are signed, of 32 bits or floats, and what is white is not known")
    values = np.asarray(image).astype(np.int64)
    gray = values >> (tags.get(TIFF_BITS, (16,))[0] - 8)
    if tags.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO:
        gray = 255 - gray
    if "transparency" in image.info:
        gray = np.where(values == image.info["transparency"], 0, gray)
    return Image.fromarray(gray.clip(0, 255).astype(np.uint8))

"""Images: decoding, resizing, cropping, and the set of inputs on which every file is judged."""

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mvit_deploy.errors import UsageError

RESIZE_RATIO = 288 / 256  # short side before the centre crop, to the crop (apple/ml-cvnets v0.1 imagenet.py)
NOISE_COUNT = 4
CHECKER_PX = 16
EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm"}


@dataclass(frozen=True)
class ImageSet:
    """Images on which a file is judged.

    pixels: uint8 (count, height, width, 3), RGB. kinds: noise, extreme or photo for each. names: for people.
    """

    pixels: np.ndarray
    kinds: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Digest over the shape and every pixel, in order."""
        header = "x".join(str(side) for side in self.pixels.shape).encode()
        return hashlib.sha256(header + b"\0" + self.pixels.tobytes()).hexdigest()

    def where(self, kind: str) -> np.ndarray:
        """A boolean mask of the images of one kind."""
        return np.array([k == kind for k in self.kinds])


def decode(path: Path) -> Image.Image:
    """An image file as upright RGB; transparency is laid on black, the first frame is taken.

    Raises: UsageError when the file is not a readable image.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                layer = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
            elif upright.mode.startswith("I;16") or upright.mode == "I":
                upright = Image.fromarray((np.asarray(upright).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
            return upright.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise UsageError(f"cannot read the image {path}: {error}") from error


def resize_and_crop(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, antialiased resize so that the image just covers 1.125 times the size, then a centre crop.

    For a square size this is ml-cvnets' "short side 288, centre 256".
    Shapes: -> uint8 (height, width, 3), RGB, size = (height, width).
    """
    height, width = size
    scale = RESIZE_RATIO * max(height / image.height, width / image.width)
    resized = image.resize(
        (max(width, round(image.width * scale)), max(height, round(image.height * scale))), Image.Resampling.BILINEAR
    )
    left, top = (resized.width - width) // 2, (resized.height - height) // 2
    return np.asarray(resized.crop((left, top, left + width, top + height)))


def list_images(folder: Path) -> list[Path]:
    """Image files below a folder at any depth, by their extension, in the order of their POSIX paths.

    Raises: UsageError when the folder does not exist or holds none.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder of images")
    found = sorted(
        (p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file()), key=lambda p: p.as_posix()
    )
    if not found:
        raise UsageError(f"no images below {folder} (looked for {', '.join(sorted(EXTENSIONS))})")
    return found


def load_folder(folder: Path, size: tuple[int, int]) -> ImageSet:
    """Every image below a folder, resized and cropped to size = (height, width).

    Raises: UsageError for a missing or empty folder and for an image that cannot be read.
    """
    paths = list_images(folder)
    pixels = np.stack([resize_and_crop(decode(path), size) for path in paths])
    return ImageSet(pixels, ("photo",) * len(paths), tuple(path.relative_to(folder).as_posix() for path in paths))


def builtin_photos(size: tuple[int, int]) -> ImageSet:
    """The photos that lie in this package (origins in photos/ORIGINS.md), resized and cropped to size."""
    with resources.as_file(resources.files("mvit_deploy") / "photos") as folder:
        return load_folder(folder, size)


def noise(size: tuple[int, int], seed: int, count: int = NOISE_COUNT) -> ImageSet:
    """Uniform noise, one seed an image: seed, seed + 1, …"""
    seeds = range(seed, seed + count)
    pixels = np.stack([np.random.default_rng(s).integers(0, 256, (*size, 3), dtype=np.uint8) for s in seeds])
    return ImageSet(pixels, ("noise",) * count, tuple(f"noise seed {s}" for s in seeds))


def extremes(size: tuple[int, int]) -> ImageSet:
    """All 0, all 255 and a checkerboard of both."""
    rows, columns = np.indices(size) // CHECKER_PX
    checker = np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    pixels = np.stack([np.zeros((*size, 3), np.uint8), np.full((*size, 3), 255, np.uint8), checker])
    return ImageSet(pixels, ("extreme",) * 3, ("all 0", "all 255", "checkerboard"))


def verification_set(size: tuple[int, int], *, seed: int, folder: Path | None = None) -> ImageSet:
    """The 8-bit images on which files of every target are judged: photos, noise, extremes and a folder's."""
    parts = [builtin_photos(size), noise(size, seed), extremes(size)]
    if folder is not None:
        parts.append(load_folder(folder, size))
    return ImageSet(
        np.concatenate([part.pixels for part in parts]),
        tuple(kind for part in parts for kind in part.kinds),
        tuple(name for part in parts for name in part.names),
    )

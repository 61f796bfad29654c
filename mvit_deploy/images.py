"""Images: resizing, cropping, and the sets on which files are calibrated and judged, kept apart by digest."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np

from mvit_deploy.decoding import decode
from mvit_deploy.errors import UsageError
from mvit_deploy.preprocessing import apply
from mvit_deploy.spec import OWN, Preprocessing

NOISE_COUNT = 4
CHECKER_PX = 16
LEAST_CALIBRATION = 8
ADVISED_CALIBRATION = 100
HELD_OUT_EVERY = 5
EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm"}


@dataclass(frozen=True)
class ImageSet:
    """Images on which a file is calibrated or judged.

    pixels: uint8 (count, height, width, 3), RGB. names: for people. kinds, one each: photo, which is judged; builtin,
    a photo that is only reported; noise; extreme.
    """

    pixels: np.ndarray
    kinds: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Digest over the shape and every pixel, in order."""
        return _digest(self.pixels)

    @property
    def digests(self) -> tuple[str, ...]:
        """Digest of each image over its shape and pixels: a photo is the same under whatever name and format."""
        return tuple(_digest(image) for image in self.pixels)

    def where(self, kind: str) -> np.ndarray:
        """A boolean mask of the images of one kind."""
        return np.array([k == kind for k in self.kinds])

    def take(self, places: Iterable[int]) -> "ImageSet":
        """The images at some places, in the order of these."""
        chosen = list(places)
        return ImageSet(
            self.pixels[np.array(chosen, dtype=int)],
            tuple(self.kinds[place] for place in chosen),
            tuple(self.names[place] for place in chosen),
        )


def _digest(pixels: np.ndarray) -> str:
    header = "x".join(str(side) for side in pixels.shape).encode()
    return hashlib.sha256(header + b"\0" + pixels.tobytes()).hexdigest()


def prepare(path: Path, size: tuple[int, int], how: Preprocessing = OWN) -> np.ndarray:
    """An image file as a network takes it: decoded, resized and cropped to size = (height, width).

    Shapes: -> uint8 (height, width, 3), RGB. Raises: UsageError when the file is not a readable image.
    """
    return apply(decode(path), how, size)


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


def load_folder(folder: Path, size: tuple[int, int], how: Preprocessing = OWN) -> ImageSet:
    """Every image below a folder as prepare() gives it.

    Raises: UsageError for a missing or empty folder and for an image that cannot be read.
    """
    paths = list_images(folder)
    return _photos(folder, paths, np.stack([prepare(path, size, how) for path in paths]))


def _photos(folder: Path, paths: list[Path], pixels: np.ndarray) -> ImageSet:
    return ImageSet(pixels, ("photo",) * len(paths), tuple(path.relative_to(folder).as_posix() for path in paths))


def calibration_set(
    folder: Path,
    size: tuple[int, int],
    *,
    count: int | None = None,
    on_warning: Callable[[str], None],
    how: Preprocessing = OWN,
) -> ImageSet:
    """The different readable images below a folder, at any depth, as prepare() gives them, ordered by their digests.

    count keeps that many, evenly spread over the order. on_warning is told of each file that cannot be read, and of
    images that are there more than once, of which one is kept.
    Raises: UsageError for a missing folder, one with fewer than 8 different readable images, or a count below 8.
    """
    if count is not None and count < LEAST_CALIBRATION:
        raise UsageError(f"--calibration-count {count}: {_needed()}")
    paths = list_images(folder)
    found, pixels, unreadable = _distinct(paths, lambda path: prepare(path, size, how), on_warning, keep=count is None)
    if len(found) < LEAST_CALIBRATION:
        raise UsageError(
            f"{len(found)} different calibration images found below {folder}, {unreadable} skipped; {_needed()}"
        )
    if count is not None and count > len(found):
        on_warning(f"--calibration-count {count}: there are {len(found)} different images, all are used")
    chosen = _evenly(sorted(found), count)
    images = [pixels[digest] if digest in pixels else prepare(found[digest], size, how) for digest in chosen]
    return _photos(folder, [found[digest] for digest in chosen], np.stack(images))


def _needed() -> str:
    return (
        f"calibration needs at least {LEAST_CALIBRATION} (every fifth judges, without --verify-images); "
        f"{ADVISED_CALIBRATION} or more are advised"
    )


def _distinct(
    paths: list[Path], read: Callable[[Path], np.ndarray], on_warning: Callable[[str], None], *, keep: bool
) -> tuple[dict[str, Path], dict[str, np.ndarray], int]:
    """The first path of each digest, the pixels of each, and the number of files that cannot be read.

    Without keep no pixels are held: a few out of a folder of any size are cheaper to decode again.
    """
    found: dict[str, Path] = {}
    pixels: dict[str, np.ndarray] = {}
    copies: list[tuple[Path, Path]] = []
    unreadable = 0
    for path in paths:
        try:
            image = read(path)
        except UsageError as error:
            on_warning(f"{error}; skipped")
            unreadable += 1
            continue
        digest = _digest(image)
        if digest in found:
            copies.append((path, found[digest]))
            continue
        found[digest] = path
        if keep:
            pixels[digest] = image
    if copies:
        on_warning(_said_of(copies))
    return found, pixels, unreadable


def _said_of(copies: list[tuple[Path, Path]]) -> str:
    first, original = copies[0]
    if len(copies) == 1:
        return f"the calibration image {first} is a copy of {original.name} and is left out"
    return f"{len(copies)} calibration images are copies of others and are left out, {first} of {original.name} for one"


def _evenly(items: list[str], count: int | None) -> list[str]:
    """count of the items, evenly spread; all of them for None or where there are no more."""
    if count is None or count >= len(items):
        return items
    return [items[place * len(items) // count] for place in range(count)]


def split_calibration(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Images to calibrate on, and every fifth in the order of the digests, held out to judge on.

    A fifth, rounded down, is held out: of 8 or 9 images one, so that 7 or 8 are calibrated on; of fewer than 5 none.
    """
    digests = images.digests
    order = sorted(range(len(digests)), key=digests.__getitem__)
    held_out = order[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    kept = [place for rank, place in enumerate(order, 1) if rank % HELD_OUT_EVERY]
    return images.take(kept), images.take(held_out)


def without(images: ImageSet, others: ImageSet) -> ImageSet:
    """Verification images that are not among the calibration images, by digest. Raises: UsageError if none remains."""
    known = set(others.digests)
    kept = [place for place, digest in enumerate(images.digests) if digest not in known]
    if not kept:
        raise UsageError(
            f"each of the {len(images.digests)} verification images is also a calibration image; "
            "give --verify-images a folder with others"
        )
    return images.take(kept)


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


def verification_set(
    size: tuple[int, int], *, seed: int, folder: Path | None = None, how: Preprocessing = OWN
) -> ImageSet:
    """The 8-bit images on which files of every target are judged: photos, noise, extremes and a folder's.

    how: of the folder's photos, as prepare() takes it; the built-in ones are the same for every checkpoint.
    """
    parts = [builtin_photos(size), noise(size, seed), extremes(size)]
    return _joined(parts if folder is None else [*parts, load_folder(folder, size, how)])


def quantized_verification_set(size: tuple[int, int], *, seed: int, photos: ImageSet | None) -> ImageSet:
    """The 8-bit images on which quantized files are judged: photos, the built-in ones, noise, extremes.

    photos are --verify-images or what calibration held out; the built-in ones are then reported only (kind builtin).
    Where there are no such photos, the built-in ones judge.
    """
    builtin, rest = builtin_photos(size), [noise(size, seed), extremes(size)]
    if photos is None:
        return _joined([builtin, *rest])
    return _joined([_as_kind(photos, "photo"), _as_kind(builtin, "builtin"), *rest])


def _as_kind(images: ImageSet, kind: str) -> ImageSet:
    return replace(images, kinds=(kind,) * len(images.kinds))


def _joined(parts: list[ImageSet]) -> ImageSet:
    return ImageSet(
        np.concatenate([part.pixels for part in parts]),
        tuple(kind for part in parts for kind in part.kinds),
        tuple(name for part in parts for name in part.names),
    )

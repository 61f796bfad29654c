"""Folders of pictures to calibrate and judge on: different ones, and folders that hold none."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from PIL import Image

from tests.conftest import PHOTOS

WITHOUT_IMAGES = ("missing", "a file", "empty", "text files")


def crops() -> Iterator[Image.Image]:
    """Different pictures, three of each photo."""
    for path in sorted(PHOTOS.glob("*.jpg")):
        with Image.open(path) as photo:
            width, height = photo.size
            for step in range(3):
                left, top = step * width // 6, step * height // 6
                yield photo.crop((left, top, left + width // 2, top + height // 2)).resize((96, 80))


def plant(folder: Path, first: int, last: int) -> Path:
    """Some of them in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, image in enumerate(islice(crops(), first, last), first):
        image.save(folder / f"{place:02}.png")
    return folder


def folder_without_images(folder: Path, kind: str) -> Path:
    """One of the kinds of WITHOUT_IMAGES."""
    if kind == "a file":
        folder.write_text("no folder")
    elif kind != "missing":
        folder.mkdir()
    if kind == "text files":
        (folder / "notes.txt").write_text("no image")
    return folder

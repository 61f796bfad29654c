"""Encoded pictures, and how each side prepares them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mvit_deploy import images
from mvit_deploy.decoding import decode
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.preprocessing import apply
from mvit_deploy.spec import InputSpec, Interface, Preprocessing


class Photos:
    """Encoded pictures. Each is prepared once for every way in which somebody says that it is.

    names: for people, paths below the folder.
    """

    def __init__(self, paths: Sequence[Path], names: Sequence[str]) -> None:
        self._paths, self.names = tuple(paths), tuple(names)
        self._prepared: dict[tuple[Preprocessing, tuple[int, int]], np.ndarray] = {}

    def prepared(self, how: Preprocessing, size: tuple[int, int]) -> np.ndarray:
        """All of them, decoded, resized and cropped to size = (height, width).

        Shapes: -> uint8 (count, height, width, 3), RGB. Raises: UsageError for one that cannot be read.
        """
        key = (how, size)
        if key not in self._prepared:
            self._prepared[key] = np.stack([apply(decode(path), how, size) for path in self._paths])
        return self._prepared[key]

    def first(self, count: int) -> "Photos":
        """At most so many of them; what is prepared already is not prepared again."""
        few = Photos(self._paths[:count], self.names[:count])
        few._prepared = {key: pixels[:count] for key, pixels in self._prepared.items()}
        return few


def photos_below(folder: Path) -> Photos:
    """The pictures below a folder at any depth. Raises: UsageError when it does not exist or holds none."""
    paths = images.list_images(folder)
    return Photos(paths, [path.relative_to(folder).as_posix() for path in paths])


def declared_preprocessing(found: Interface) -> Preprocessing:
    """How a photo becomes the file's image. Raises: DamagedFileError when the file does not say."""
    if found.declared.preprocessing is None:
        raise DamagedFileError("the file does not say how a photo becomes its image (preprocessing)")
    return found.declared.preprocessing


def image_size(image: InputSpec) -> tuple[int, int]:
    """(height, width) that a file takes. Raises: DamagedFileError for an input that is no image of one size."""
    sides = image.shape[2:] if image.layout == "NCHW" else image.shape[1:3]
    if len(image.shape) != 4 or min(sides) < 1:
        raise DamagedFileError(f"input {image.name!r} is declared {image.shape}, no image of one size")
    return sides

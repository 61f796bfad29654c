"""Every intermediate value of a shipped file on one image, by name: one module per target, the same verb in each."""

import importlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvit_deploy.errors import MissingLibraryError, UsageError
from mvit_deploy.runtimes import TARGET_BY_SUFFIX


@dataclass(frozen=True)
class TapOperation:
    """One operation of a file. line: its place, from 1 on; inputs and outputs: names of values, constants left out."""

    line: int
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __str__(self) -> str:
        return f"line {self.line}: {self.type} -> {', '.join(self.outputs)}"


@dataclass(frozen=True)
class Tapped:
    """A file's operations in their order and its float values, inputs included, for one image, with the batch of 1."""

    inputs: tuple[str, ...]
    operations: tuple[TapOperation, ...]
    values: dict[str, np.ndarray]


def tap(path: Path, image: np.ndarray) -> Tapped:
    """Run a file on one uint8 RGB image (height, width, 3) and keep everything.

    Optimizations that would merge operations are off, so numbers may differ in the last places from a plain run.
    Raises: UsageError for an unknown suffix; MissingLibraryError; DamagedFileError; CannotRunHere.
    """
    target = TARGET_BY_SUFFIX.get(path.suffix)
    if target is None:
        raise UsageError(f"{path}: not a file of a known target; known: {', '.join(TARGET_BY_SUFFIX)}")
    try:
        module = importlib.import_module(f"mvit_deploy.runtimes.taps.{target}")
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"looking into {target} files needs {error.name}: pip install 'mvit-deploy[{target}]'"
        ) from error
    return module.tap(path, image)

"""Every intermediate value of a shipped file on one image, by name: one module per target, the same verb in each."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvit_deploy.runtimes import module_for


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
    return module_for(path, "mvit_deploy.runtimes.taps", doing="looking into").tap(path, image)

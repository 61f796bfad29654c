"""Open a shipped file and run it, with no converter: one module per target, the same verbs in each.

Each module has open_file(path) -> Runner. A Runner tells what the file says of itself and runs 8-bit images through it.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from mvit_deploy.errors import MissingLibraryError, UsageError
from mvit_deploy.spec import Interface

TARGET_BY_SUFFIX = {".onnx": "onnx", ".tflite": "tflite", ".mlpackage": "coreml", ".mlmodel": "coreml"}


class CannotRunHere(Exception):
    """The file is readable, but nothing on this machine can run it. Neither a pass nor a failure."""


class Runner(Protocol):
    """An opened file. kind is "runtime" for the platform's own, "evaluator" for a stand-in."""

    name: str
    version: str
    kind: str
    interface: Interface

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name for uint8 RGB images (count, height, width, 3), prepared as the file itself declares.

        Raises: CannotRunHere; DamagedFileError; UsageError for a file that finds another number of boxes on each image
        (interface.suppression): runtimes.suppressed runs those.
        """
        ...

    def findings(self, pixels: np.ndarray, outputs: dict[str, np.ndarray]) -> dict[str, object]:
        """What else a report should say of that run, by name; mostly nothing."""
        ...


class TensorRunner(Runner, Protocol):
    """An opened file that takes a bare tensor, as ONNX and TFLite do and Core ML, which takes pictures, does not."""

    def invoke(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name for one batch that tensors.prepare made for the file's input: the runtime's work alone."""
        ...


def open_file(path: Path) -> Runner:
    """Open a shipped file by its suffix.

    Raises: UsageError for an unknown suffix; MissingLibraryError; DamagedFileError for a file that cannot be read.
    """
    return module_for(path, "mvit_deploy.runtimes", doing="running").open_file(path)


def target_of(path: Path) -> str:
    """The target that a file belongs to, by its suffix. Raises: UsageError for an unknown one."""
    if path.suffix not in TARGET_BY_SUFFIX:
        raise UsageError(f"{path}: not a file of a known target; known: {', '.join(TARGET_BY_SUFFIX)}")
    return TARGET_BY_SUFFIX[path.suffix]


def module_for(path: Path, package: str, *, doing: str) -> ModuleType:
    """The module of a package that serves a file's target. Raises: UsageError; MissingLibraryError naming the extra."""
    target = target_of(path)
    try:
        return importlib.import_module(f"{package}.{target}")
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"{doing} {target} files needs {error.name}: pip install 'mvit-deploy[{target}]'"
        ) from error

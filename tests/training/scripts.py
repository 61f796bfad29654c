"""The training scripts of examples/training as modules: they are no package, each finds its neighbours beside it."""

import importlib
import sys
from types import ModuleType

from tests.conftest import ROOT

FOLDER = ROOT / "examples" / "training"


def script(name: str) -> ModuleType:
    """A script of the folder, which stands on the path while it is imported and not after."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))

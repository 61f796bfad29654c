"""The scripts of examples/ as modules; they are no package."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"


def script(path: str) -> ModuleType:
    """A script by its path below examples."""
    name = "examples_" + Path(path).with_suffix("").as_posix().replace("/", "_")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]

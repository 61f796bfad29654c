"""Apple's protobuf classes for Core ML files, without the rest of coremltools.

`import coremltools` takes seconds (it imports TensorFlow where that is installed); its generated classes need nothing
but protobuf, so their folder is imported as a package of its own.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_PACKAGE = "_mvit_deploy_coreml_proto"


def model_pb2() -> ModuleType:
    """The module with the class Model (Model.proto). Raises: ModuleNotFoundError when coremltools is missing."""
    if _PACKAGE not in sys.modules:
        package = ModuleType(_PACKAGE)
        package.__path__ = [str(_coremltools_folder() / "proto")]
        sys.modules[_PACKAGE] = package
    return importlib.import_module(f"{_PACKAGE}.Model_pb2")


def _coremltools_folder() -> Path:
    spec = importlib.util.find_spec("coremltools")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'coremltools'", name="coremltools")
    return Path(spec.origin).parent

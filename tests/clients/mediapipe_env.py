"""MediaPipe Tasks in a virtual environment of its own: its OpenCV and NumPy clash with what onnx2tf pins.

Looked for in the clients' cache (tests/clients/tools.py), made there with CI=true or MVIT_INSTALL_CLIENTS=1; otherwise
a test is skipped with the reason. Whatever runs in it is the script mediapipe_run.py.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from functools import cache
from pathlib import Path

import pytest

from tests.clients.tools import CACHE, NotHereError, locked, may_install, run_installer

VERSION = "1.2.2"
SCRIPT = Path(__file__).with_name("mediapipe_run.py")
WITHIN_S = 300
_PACKAGES = ("libegl1", "libgl1", "libgles2")  # Debian's, which MediaPipe's library and OpenCV are linked with
# Loads the library as a task does, so that a missing system library shows here and by name.
_PROBE = (
    "import ctypes, importlib.util, pathlib;"
    "root = pathlib.Path(importlib.util.find_spec('mediapipe').origin).parent;"
    "ctypes.CDLL(str(next(root.rglob('libmediapipe*.so'))));"
    "from mediapipe.tasks.python import vision"
)


def run(tasks: list[dict]) -> list[dict]:
    """What mediapipe_run.py answers to its tasks, in their order. Skips the test where MediaPipe cannot be had."""
    return answers(interpreter_or_skip(), tasks)


def answers(python: Path, tasks: list[dict]) -> list[dict]:
    """The same, of an interpreter that has MediaPipe."""
    done = subprocess.run(
        [python, SCRIPT],
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
        env=_clean(),
    )
    if done.returncode:
        raise RuntimeError(f"{SCRIPT.name} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


def interpreter_or_skip() -> Path:
    found = _outcome()
    if isinstance(found, NotHereError):
        pytest.skip(str(found))
    return found


@cache
def _outcome() -> Path | NotHereError:
    """Its interpreter, or why there is none: an installation that failed is not tried again for each test."""
    try:
        return interpreter()
    except NotHereError as error:
        return error


def interpreter() -> Path:
    """The environment's interpreter; the environment is made where that is wished. Raises: NotHereError."""
    folder = CACHE / f"mediapipe-{VERSION}-py{sys.version_info.major}.{sys.version_info.minor}"
    python, finished = folder / "bin" / "python", folder / "finished"
    if not finished.exists():
        if not may_install():
            raise NotHereError(f"MediaPipe {VERSION} is not here; MVIT_INSTALL_CLIENTS=1 installs it")
        with locked("mediapipe"):
            if not finished.exists():
                _make(folder, python)
                finished.touch()
    return python


def _make(folder: Path, python: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"mediapipe=={VERSION}")
    run_installer("MediaPipe", (python, *install))
    if _fault(python) is not None and shutil.which("apt-get") and os.geteuid() == 0:
        run_installer("MediaPipe's libraries", ("apt-get", "update"))
        run_installer("MediaPipe's libraries", ("apt-get", "install", "-y", "--no-install-recommends", *_PACKAGES))
    fault = _fault(python)
    if fault is not None:
        raise NotHereError(f"MediaPipe does not load ({fault}); apt-get install {' '.join(_PACKAGES)}")


def _fault(python: Path) -> str | None:
    """Why MediaPipe does not load, None where it does."""
    done = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, check=False, env=_clean())
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1] if done.returncode else None


def _clean() -> dict[str, str]:
    """This process's environment without what would lead another interpreter to its packages."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

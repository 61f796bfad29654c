"""Finds the programs that the tests of clients need, or installs them where that is wished.

With CI=true or MVIT_INSTALL_CLIENTS=1 what is missing is installed: by apt-get as root, and by npm into a cache folder
(MVIT_CLIENTS_CACHE, by default ~/.cache/mvit-deploy-clients). Otherwise, or where that fails, a test is skipped with
the reason, which the end of the run repeats (tests/clients/skips.py).
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("MVIT_CLIENTS_CACHE", Path.home() / ".cache" / "mvit-deploy-clients"))
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL_WITHIN_S = 300


class NotHereError(Exception):
    """A program is missing; the message says which, and why it was not installed."""


def may_install() -> bool:
    return os.environ.get("CI") == "true" or os.environ.get("MVIT_INSTALL_CLIENTS") == "1"


def chromium() -> Path:
    """Chromium or Chrome. Skips the test without it."""
    return _or_skip(_chromium)


def npm_packages(package_json: Path) -> Path:
    """The node_modules folder with what a package.json asks for. Skips the test where npm cannot give it."""
    return _or_skip(_npm_packages, package_json)


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """The cache folder, while no other process holds the same name: workers of one run must not install twice."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield CACHE


def run_installer(what: str, command: Sequence[str | Path], folder: Path | None = None) -> None:
    """Raises: NotHereError with the last line that the command said."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=INSTALL_WITHIN_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotHereError(f"{what} could not be installed: {error}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise NotHereError(f"{what} could not be installed: {said}")


@cache
def _outcome(find: Callable[..., Path], *arguments: object) -> Path | NotHereError:
    """What was found, or why not: an installation that failed is not tried again for each test."""
    try:
        return find(*arguments)
    except NotHereError as error:
        return error


def _or_skip(find: Callable[..., Path], *arguments: object) -> Path:
    found = _outcome(find, *arguments)
    if isinstance(found, NotHereError):
        pytest.skip(str(found))
    return found


def _chromium() -> Path:
    return _program(CHROMIUM_NAMES, package="chromium")


def _npm_packages(package_json: Path) -> Path:
    """Kept under the digest of the package.json, so that another version range is another folder."""
    digest = hashlib.sha256(package_json.read_bytes()).hexdigest()[:16]
    folder = CACHE / f"npm-{digest}"
    finished = folder / "finished"
    if not finished.exists():
        _check_may_install(f"what {package_json.parent.name}/package.json asks for")
        npm = _program(("npm",), package="npm")
        with locked("npm"):
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                shutil.copy(package_json, folder)
                flags = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock")
                run_installer("npm packages", (npm, "install", *flags), folder)
                finished.touch()
    return folder / "node_modules"


def _program(names: Sequence[str], *, package: str) -> Path:
    """A program on the path, if need be from Debian's package."""
    found = _on_path(names)
    if found is None:
        _check_may_install(names[0])
        with locked("apt"):
            if _on_path(names) is None:
                _apt_install(package)
        found = _on_path(names)
    if found is None:
        raise NotHereError(f"{names[0]} is not on the path, though its package is installed")
    return found


def _on_path(names: Sequence[str]) -> Path | None:
    return next((Path(found) for found in map(shutil.which, names) if found), None)


def _apt_install(package: str) -> None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise NotHereError(f"{package} is not here, and only root on Debian can install it")
    run_installer(package, ("apt-get", "update"))
    wait = ("-o", f"DPkg::Lock::Timeout={INSTALL_WITHIN_S}")
    run_installer(package, ("apt-get", "install", "-y", "--no-install-recommends", *wait, package))


def _check_may_install(what: str) -> None:
    if not may_install():
        raise NotHereError(f"{what} is not here; MVIT_INSTALL_CLIENTS=1 installs it")

"""Clients that are missing are installed or said to be missing, and what did not run is counted."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.clients import skips, tools
from tests.conftest import ROOT


@pytest.fixture
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty path and an empty cache."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(tools, "CACHE", tmp_path / "cache")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("MVIT_INSTALL_CLIENTS", raising=False)
    tools._outcome.cache_clear()
    yield tmp_path
    tools._outcome.cache_clear()


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_without_a_program_a_test_is_skipped_with_the_reason(nothing_here: Path) -> None:
    with pytest.raises(pytest.skip.Exception, match="chromium is not here; MVIT_INSTALL_CLIENTS=1 installs it"):
        tools.chromium()


@pytest.mark.parametrize("variable", ["CI=true", "MVIT_INSTALL_CLIENTS=1"])
def test_what_may_be_installed_is_installed_once(
    nothing_here: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(*variable.split("="))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = nothing_here / "bin" / "chromium"
    install = f'if [ "$1" = install ]; then echo > {found}; /bin/chmod +x {found}; fi'
    program(found.parent, "apt-get", f'echo "$1" >> {nothing_here}/log; {install}')

    assert tools.chromium() == tools.chromium() == found
    assert (nothing_here / "log").read_text().split() == ["update", "install"]


def test_an_installation_that_fails_is_a_skip_with_its_last_words_and_not_tried_again(
    nothing_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    program(nothing_here / "bin", "npm", f"echo x >> {nothing_here}/log; echo first; echo 'no network' >&2; exit 1")
    package = nothing_here / "package.json"
    package.write_text("{}")

    for _ in range(2):
        with pytest.raises(pytest.skip.Exception, match="npm packages could not be installed: no network"):
            tools.npm_packages(package)

    assert (nothing_here / "log").read_text() == "x\n"


def test_a_half_finished_installation_is_begun_anew(nothing_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    package = nothing_here / "package.json"
    package.write_text("{}")
    program(nothing_here / "bin", "npm", "/bin/mkdir node_modules && exit 1")
    with pytest.raises(pytest.skip.Exception):
        tools.npm_packages(package)
    tools._outcome.cache_clear()
    program(nothing_here / "bin", "npm", "/bin/mkdir node_modules")

    assert tools.npm_packages(package).is_dir()


def report(nodeid: str, reason: str) -> SimpleNamespace:
    return SimpleNamespace(nodeid=nodeid, longrepr=("file.py", 3, f"Skipped: {reason}"))


def test_skips_are_counted_by_their_reason_and_clients_once_more() -> None:
    reasons = {"tests/clients/w.py::t": "no chromium", "tests/clients/w.py::u": "no chromium",
               "tests/a.py::t": "no flowers", "tests/clients/m.py::t": "no mediapipe"}  # fmt: skip
    skipped = [report(nodeid, reason) for nodeid, reason in reasons.items()]

    assert skips.lines(skipped) == [
        "4 skipped: no chromium × 2, no flowers × 1, no mediapipe × 1",
        "CLIENTS NOT RUN: 3 tests",
        "  no chromium × 2",
        "  no mediapipe × 1",
    ]


def test_without_skips_nothing_is_said() -> None:
    assert skips.lines([]) == []
    assert len(skips.lines([report("tests/a.py::t", "no flowers")])) == 1


@pytest.mark.slow
def test_a_run_without_a_browser_says_so_at_its_end(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "tests/clients/test_web_look.py", "-m", "not slow"]

    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0
    assert "CLIENTS NOT RUN: " in done.stdout
    assert "MVIT_INSTALL_CLIENTS=1 installs it × " in done.stdout

"""Every console block of the README runs, in order, as a person copies it; `make …` and training are left out."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients import mediapipe_env
from tests.conftest import ROOT

README = ROOT / "README.md"
_LEFT_OUT = ("make ", "python examples/training/")
pytestmark = pytest.mark.skipif(not README.exists(), reason="the README is no part of the wheel")


def blocks() -> list[list[str]]:
    """The commands of each console block."""
    found = re.findall(r"^```console\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [[line for line in block.splitlines() if line and not line.startswith(_LEFT_OUT)] for block in found]


def is_for_mediapipe(block: list[str]) -> bool:
    return any("mediapipe" in line for line in block)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a clone holds, and the environment that `make demo` would make: this one."""
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name not in ("exported", "build", "dist"):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def run(lines: list[str], clone: Path) -> str:
    """Run commands in one shell until one fails. Returns: what they print."""
    assert (clone / ".venv" / "bin" / "activate").exists(), "tests run in a virtual environment"
    script = "set -e\n" + "\n".join(f"echo {shlex.quote(line)}\n{line}" for line in lines)
    done = subprocess.run(
        ["bash", "-c", script], cwd=clone, capture_output=True, text=True, check=False, timeout=1500,
        env=os.environ | {"PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_no_block_is_left_out_by_its_form() -> None:
    """Commands stand in console blocks alone, each on a line."""
    text = README.read_text(encoding="utf-8")
    fences = re.findall(r"^```(\w*)$", text, re.MULTILINE)

    assert len(blocks()) >= 5
    assert set(fences[::2]) <= {"console", "python", ""}
    assert not re.search(r"^(\$|mvit-|python )", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)


def test_the_quick_start_ends_in_a_checked_certificate(clone: Path) -> None:
    quick = next(block for block in blocks() if any("mvit-verify" in line for line in block))

    printed = run(quick, clone)

    assert "mobilevit_xxs_fp16.mlpackage" in printed
    assert (clone / "exported" / "mobilevit_xxs_fp32.tflite").exists()


@pytest.mark.slow
def test_all_blocks_run_in_order(clone: Path) -> None:
    run([line for block in blocks() if not is_for_mediapipe(block) for line in block], clone)


def test_mediapipe_reads_the_digit(clone: Path) -> None:
    (clone / ".venv-mediapipe").symlink_to(mediapipe_env.interpreter_or_skip().parent.parent)
    quick, mediapipe = blocks()[1], next(filter(is_for_mediapipe, blocks()))
    place = next(i for i, line in enumerate(quick) if line.startswith("mvit-export"))
    export = quick[place].replace("--target all", "--target tflite")

    lines = [line for line in mediapipe if " -m venv " not in line]  # the one that the other tests have made
    printed = run([*quick[:place], export, *lines], clone)

    assert re.search(r"^7 +(100|9\d)\.\d%$", printed, re.MULTILINE)

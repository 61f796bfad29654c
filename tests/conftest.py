"""Fixtures: measuring data that may be absent, sensitive models, and the command line as a user runs it."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from mvit_deploy.nn.build import seeded_classifier
from mvit_deploy.nn.heads.classification import Classifier

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("MVIT_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def flowers() -> Path:
    """The trained xxs with its photos; tests that need it are skipped where it is not."""
    folder = DATA / "flowers"
    if not folder.is_dir():
        pytest.skip("no trained flowers model here: set MVIT_DATA to the folder that holds flowers/")
    return folder


@cache
def sensitive(mode: str, num_classes: int = 1000) -> Classifier:
    """A classifier whose random weights react to any fault. Shared: not to be modified."""
    return seeded_classifier(mode, num_classes, seed=0)


def mvit_export(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "mvit_deploy.cli.export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)

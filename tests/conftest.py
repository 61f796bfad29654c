"""Fixtures: measuring data that may be absent, sensitive models, files written once, the command line in a process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

import mvit_deploy
from mvit_deploy.nn.build import seeded_classifier
from mvit_deploy.nn.heads.classification import Classifier
from mvit_deploy.quantization import sensitivity
from mvit_deploy.report import Report
from tests.clients import skips

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("MVIT_DATA", ROOT.parent / "shared" / "data"))
LABELS = ("daisy", "dandelion", "rose", "sunflower", "tulip")
PHOTOS = Path(mvit_deploy.__file__).parent / "photos"
SIZE = (64, 96)  # not square, so that a swapped height and width shows


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in skips.lines(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(line)


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


def without_library(library: str, command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command line (export, verify, bench) in a process in which a library cannot be imported."""
    code = (
        f"import sys; sys.modules[{library!r}] = None; from mvit_deploy.cli.{command} import main;"
        f"sys.exit(main({[*map(str, arguments)]!r}))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@contextmanager
def quick_blame() -> Iterator[None]:
    """Blame on one photo, for tests in which it does not matter what it finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensitivity, "IMAGES", 1)
        yield


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """A small labelled classifier in every format and precision, by file suffix and precision."""
    folder = tmp_path_factory.mktemp("labelled")
    options = {"labels": LABELS, "image_size": SIZE, "output": folder, "precision": "fp32,fp16"}
    model = sensitive("xxs", len(LABELS))
    reports = mvit_deploy.export(model, target="all", **options)
    reports += mvit_deploy.export(model, target="coreml", format="mlmodel", **options)
    # By its mode, the same weights are known to be random: no floor holds for what is calibrated.
    options |= {"num_classes": len(LABELS), "seed": 0, "precision": "w8,w8a16,w8a8"}
    with quick_blame():
        reports += mvit_deploy.export("xxs", target="all", calibration=PHOTOS, **options)
    reports += mvit_deploy.export("xxs", target="coreml", format="mlmodel", **options | {"precision": "w8"})
    return {f"{r.path.suffix[1:]} {r.content['artifact']['precision']}": r for r in reports}


@pytest.fixture(scope="session")
def xs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The xs classifier at 256x256, fp32, by suffix: the network of which the sizes of graphs are published."""
    reports = mvit_deploy.export("xs", target="all", precision="fp32", output=tmp_path_factory.mktemp("xs"))
    assert [r.exit_code for r in reports] == [0, 0, 0]
    return {r.path.suffix[1:]: r.path for r in reports}

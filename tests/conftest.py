"""Fixtures: measuring data that may be absent, sensitive models, files written once, the command line in a process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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


def _labelled_parts(folder: Path) -> dict[str, Callable[[], list[Report]]]:
    """What makes the files of the fixture below, the longest first."""
    options = {"labels": LABELS, "image_size": SIZE, "output": folder}
    floats = options | {"precision": "fp32,fp16"}
    # By its mode, the same weights are known to be random: no floor holds for what is calibrated.
    integers = options | {"num_classes": len(LABELS), "seed": 0}
    model = sensitive("xxs", len(LABELS))

    def quantized(target: str, precision: str, **more: object) -> list[Report]:
        with quick_blame():
            return mvit_deploy.export("xxs", target=target, precision=precision, **integers, **more)

    return {
        "tflite integers": lambda: quantized("tflite", "w8,w8a16,w8a8", calibration=PHOTOS),
        "onnx integers": lambda: quantized("onnx", "w8,w8a16,w8a8", calibration=PHOTOS),
        "coreml integers": lambda: quantized("coreml", "w8,w8a8", calibration=PHOTOS),
        "floats": lambda: mvit_deploy.export(model, target="all", **floats),
        "mlmodel floats": lambda: mvit_deploy.export(model, target="coreml", format="mlmodel", **floats),
        "mlmodel integers": lambda: quantized("coreml", "w8", format="mlmodel"),
    }


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """A small labelled classifier in every format and precision, by file suffix and precision. Processes that run tests
    side by side make it together. Not to be modified."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "labelled"
    folder.mkdir(exist_ok=True)
    reports = made_together(folder, _labelled_parts(folder))
    return {f"{r.path.suffix[1:]} {r.content['artifact']['precision']}": r for r in reports}


def made_together(folder: Path, parts: dict[str, Callable[[], list[Report]]]) -> list[Report]:
    """The reports of all parts, each made by the process that comes first. A part that fails, fails everywhere."""
    for name, make in parts.items():
        try:
            (folder / f"{name}.claimed").mkdir()
        except FileExistsError:
            continue
        finished = folder / f"{name}.json"
        try:
            made = [[str(r.path), r.exit_code, r.content] for r in make()]
        except BaseException:
            finished.write_text("null")
            raise
        finished.with_suffix(".partial").write_text(json.dumps(made))
        finished.with_suffix(".partial").rename(finished)
    return [report for name in parts for report in _awaited(folder / f"{name}.json")]


def _awaited(finished: Path, seconds: float = 900) -> list[Report]:
    end = time.monotonic() + seconds
    while not finished.exists():
        assert time.monotonic() < end, f"{finished.stem} was not made in time"
        time.sleep(0.2)
    made = json.loads(finished.read_text())
    assert made is not None, f"making {finished.stem} failed"
    return [Report(Path(path), exit_code, content) for path, exit_code, content in made]


@pytest.fixture(scope="session")
def xs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The xs classifier at 256x256, fp32, by suffix: the network of which the sizes of graphs are published."""
    reports = mvit_deploy.export("xs", target="all", precision="fp32", output=tmp_path_factory.mktemp("xs"))
    assert [r.exit_code for r in reports] == [0, 0, 0]
    return {r.path.suffix[1:]: r.path for r in reports}

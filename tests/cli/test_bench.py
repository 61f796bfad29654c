"""mvit-bench: shipped files side by side. Rules, never times."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from mvit_deploy.bench import plot
from mvit_deploy.cli.bench import main
from mvit_deploy.report import Report, report_path
from tests.conftest import LABELS, ROOT, without_library

DAMAGED, USAGE, MISSING, FAILED, INTERRUPTED = 1, 2, 4, 6, 130
NAMES = ["onnx fp32", "tflite fp16"]
QUICK = ["--rounds", "2", "--warm-up", "1", "--threads", "1"]
Captured = pytest.CaptureFixture[str]


def mvit_bench(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mvit_deploy.cli.bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=ROOT, **options)


@pytest.fixture
def copies(labelled: dict[str, Report], tmp_path: Path) -> list[Path]:
    """An ONNX and a TFLite file with their reports."""
    folder = tmp_path / "exported"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(report_path(labelled[name].path), folder)
    return [Path(shutil.copy(labelled[name].path, folder)) for name in NAMES]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for place, label in enumerate(LABELS[:3]):
        (folder / label).mkdir(parents=True)
        Image.new("RGB", (120, 90), (place * 100, 50, 200 - place * 90)).save(folder / label / "photo.png")
    return folder


def test_files_are_measured_side_by_side(copies: list[Path], photos: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in copies[0].parent.iterdir()}

    result = mvit_bench(*copies, *QUICK, "--json", "--images", photos, "--plot", tmp_path / "plots" / "cost.png")

    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout, parse_constant=pytest.fail)
    assert [entry["path"] for entry in found] == [str(path) for path in copies]
    for entry, path in zip(found, copies, strict=True):
        said = json.loads(report_path(path).read_text())
        assert entry["schema_version"] == 1
        assert entry["command"].startswith("mvit-bench ")
        assert entry["error"] is None
        assert (entry["target"], entry["precision"]) == (said["artifact"]["target"], said["artifact"]["precision"])
        assert (entry["sha256"], entry["size_bytes"]) == (said["artifact"]["sha256"], path.stat().st_size)
        assert entry["sqnr_db"] == said["verification"]["photos"]["sqnr_db"]
        assert entry["accuracy"]["n"] == 3
        assert entry["accuracy"]["top1"] == entry["accuracy"]["right"] / 3
        assert entry["runtime"] == said["verification"]["runtime"]
        assert {"processor", "processors"} == set(entry["machine"])
        (latency,) = entry["latency"]
        assert (latency["threads"], latency["n"], latency["ratio"]["n"]) == (1, 2 * 5, 2)
        assert 0 < latency["p25_ms"] <= latency["median_ms"] <= latency["p75_ms"]
        assert (entry["load"]["n"], entry["first_run"]["n"], entry["peak_memory"]["n"]) == (3, 3, 3)
        assert entry["peak_memory"]["median_bytes"] > 0
    assert found[0]["latency"][0]["ratio"] == {"median": 1.0, "p25": 1.0, "p75": 1.0, "n": 2}
    assert all(path.name in result.stderr for path in copies)
    assert "a phone's differ" in result.stderr
    assert (tmp_path / "plots" / "cost.png").read_bytes().startswith(b"\x89PNG")
    assert {path: path.read_bytes() for path in copies[0].parent.iterdir()} == before


def test_a_damaged_file_ends_in_1_and_the_others_are_measured(copies: list[Path], capfd: Captured) -> None:
    """A report that describes another file is not believed either."""
    sound, damaged = copies
    damaged.write_bytes(damaged.read_bytes()[:5000])
    report_path(sound).write_text(report_path(damaged).read_text())

    code = main([str(damaged), str(sound), *QUICK, "--json"])

    captured = capfd.readouterr()
    broken, whole = json.loads(captured.out)
    assert code == DAMAGED
    assert broken["error"]
    assert broken["latency"] is broken["sha256"] is None
    assert set(broken) == set(whole)
    assert whole["latency"][0]["ratio"]["median"] == 1
    assert whole["sqnr_db"] is None
    assert "another file" in whole["remarks"][0]
    assert "another file" in captured.err


def test_damaged_files_alone_are_not_drawn(tmp_path: Path, capfd: Captured) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model")

    assert main([str(tmp_path / "x.onnx"), "--plot", str(tmp_path / "cost.svg")]) == DAMAGED

    assert "is not drawn" in capfd.readouterr().err
    assert not (tmp_path / "cost.svg").exists()


def test_a_plot_that_cannot_be_written_ends_in_6_behind_the_numbers(
    labelled: dict[str, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plot, "save", refuse)
    code = main([str(labelled["onnx fp32"].path), *QUICK, "--json", "--plot", str(tmp_path / "cost.svg")])

    captured = capfd.readouterr()
    assert code == FAILED
    assert len(json.loads(captured.out)) == 1
    assert "No space left" in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give one or more files"),
        (["nowhere.onnx"], "there is no file nowhere.onnx"),
        (["pyproject.toml"], "not a file of a known target"),
        (["nowhere.mlpackage"], "needs an Apple device"),
        (["x.onnx", "--threads", "none"], "neither `all` nor a number"),
        (["x.onnx", "--threads", "100000"], "all there are here"),
        (["x.onnx", "--rounds", "0"], "--rounds"),
        (["x.onnx", "--plot", "x.pdf"], ".png or .svg"),
        (["x.onnx", "--plot", "pyproject.toml/x.png"], "pyproject.toml"),
        (["x.onnx", "--thread", "1"], "--threads"),
    ],
)
def test_usage_errors_are_one_clear_line(arguments: list[str], words: str, capfd: Captured) -> None:
    assert main([*arguments, "--json"]) == USAGE

    captured = capfd.readouterr()
    assert words in captured.err
    assert json.loads(captured.out) == []


def test_unusable_images_are_found_before_anything_is_timed(
    copies: list[Path], tmp_path: Path, capfd: Captured
) -> None:
    assert main([str(copies[0]), "--images", str(tmp_path / "nowhere")]) == USAGE

    assert "not a folder of images" in capfd.readouterr().err


@pytest.mark.parametrize(("library", "option"), [("onnxruntime", "mvit-deploy[onnx]"), ("matplotlib", "matplotlib")])
def test_a_missing_library_is_named(labelled: dict[str, Report], library: str, option: str) -> None:
    arguments = [str(labelled["onnx fp32"].path), "--plot", "cost.png"]
    result = without_library(library, "bench", *arguments)

    assert result.returncode == MISSING
    assert f"pip install {option}" in result.stderr.replace("'", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_the_children_too(labelled: dict[str, Report], number: signal.Signals) -> None:
    command = [sys.executable, "-m", "mvit_deploy.cli.bench", str(labelled["onnx fp32"].path), "--rounds", "100000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True) as process:
        for line in process.stderr:
            if "timing" in line:
                break
        process.send_signal(number)
        message = process.stderr.read()

    assert process.returncode == INTERRUPTED
    assert "interrupted" in message
    assert soon_empty(process.pid)


def soon_empty(group: int) -> bool:
    """Whether nobody is left in a process group: a child that was only just starting ends when it finds no input."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False

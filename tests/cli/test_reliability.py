"""Fail closed: whatever goes wrong on the way, no file that is not proven stands under its name."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

import mvit_deploy
from exporters import onnx as onnx_exporter
from mvit_deploy.cli.export import main
from tests.conftest import ROOT, sensitive, without_library

MISMATCH, NOT_RUN, FAILED, INTERRUPTED = 1, 3, 6, 130
BASE = ["--mode", "xxs", "--num-classes", "5", "--image-size", "64"]
NAME = "mobilevit_xxs_fp32.onnx"


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[[onnx.ModelProto], None]) -> None:
    """Let the ONNX exporter write a file with a fault."""
    write = onnx_exporter.write

    def spoiled(lowered: object, precision: str, path: Path) -> None:
        write(lowered, precision, path)
        model = onnx.load(path)
        change(model)
        onnx.save(model, path)

    monkeypatch.setattr(onnx_exporter, "write", spoiled)


def negate_a_weight(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    tensor.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), tensor.name))


def put_nan(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * float("nan"), tensor.name))


def metadata(key: str, value: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        next(p for p in model.metadata_props if p.key == f"mvit_deploy.{key}").value = value

    return change


def rename_output(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
    model.graph.output[0].name = "scores"


FAULTS = {
    "negated weight": (negate_a_weight, "rel_max"),
    "nan": (put_nan, "not finite"),
    "bgr": (metadata("color_order", "BGR"), "colour order"),
    "range": (metadata("value_range", "[-1.0, 1.0]"), "value range"),
    "shuffled labels": (metadata("labels", '["b", "a", "c", "d", "e"]'), "labels"),
    "no range": (metadata("value_range", "null"), "metadata"),
    "renamed output": (rename_output, "outputs"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_not_written_and_an_older_one_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    options = {"target": "onnx", "labels": tuple("abcde"), "image_size": 64, "output": tmp_path}
    (good,) = mvit_deploy.export(sensitive("xxs", 5), **options)
    assert good.exit_code == 0
    change, word = FAULTS[fault]
    spoil(monkeypatch, change)

    (bad,) = mvit_deploy.export(sensitive("xxs", 5), **options)

    assert (bad.exit_code, bad.verdict) == (MISMATCH, "mismatch")
    assert word in bad.reason
    assert [p.name for p in tmp_path.iterdir()] == [NAME + ".failed.json"]
    failed = json.loads((tmp_path / (NAME + ".failed.json")).read_text())
    assert failed["verification"]["verdict"] == "mismatch"


@pytest.mark.parametrize("error", [RuntimeError("boom"), MemoryError(), OSError(errno.ENOSPC, "No space left")])
def test_a_converter_that_fails_ends_in_6_and_the_other_files_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    write = onnx_exporter.write

    def failing(lowered: object, precision: str, path: Path) -> None:
        if precision == "fp32":
            path.write_bytes(b"half of it")
            raise error
        write(lowered, precision, path)

    monkeypatch.setattr(onnx_exporter, "write", failing)
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    code = main([*BASE, "--target", "onnx", "--precision", "fp32,fp16", "--output", str(tmp_path / "out")])

    message = capfd.readouterr().err
    assert code == FAILED
    names = {p.name for p in (tmp_path / "out").iterdir()}
    fp16 = "mobilevit_xxs_fp16.onnx"
    assert names == {NAME + ".failed.json", fp16, fp16 + ".golden.npz", fp16 + ".report.json"}
    if isinstance(error, OSError):
        assert "the disk is full" in message
    else:
        assert ".log" in message


def test_the_failure_of_highest_priority_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was not run (3) and one that mismatches (1): the run ends in 1."""
    spoil(monkeypatch, negate_a_weight)

    code = main([*BASE, "--target", "onnx,coreml", "--no-verify", "--output", str(tmp_path / "a")])
    assert code == NOT_RUN

    assert main([*BASE, "--target", "onnx,coreml", "--output", str(tmp_path / "b")]) == MISMATCH


def test_no_verify_writes_the_file_and_says_not_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = [*BASE, "--target", "onnx", "--no-verify", "--output", str(tmp_path)]

    assert main([*arguments, "--json"]) == NOT_RUN
    (found,) = json.loads(capfd.readouterr().out)
    assert found["verification"]["verdict"] == "not_run"
    assert found["artifact"]["inputs"][0]["name"] == "image"
    assert (tmp_path / NAME).exists()
    assert main([*arguments, "--allow-unverified"]) == 0


def test_json_is_one_array_on_stdout_with_every_field_of_the_schema(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*BASE, "--target", "onnx", "--json", "--output", str(tmp_path)]) == 0

    (found,) = json.loads(capfd.readouterr().out, parse_constant=pytest.fail)
    assert found["schema_version"] == 1
    assert found["command"].startswith("mvit-export --mode xxs")
    assert set(found) >= {"created", "artifact", "model", "verification", "timings_s", "tools"}
    assert set(found["artifact"]) >= {
        *("path", "target", "format", "precision", "sha256", "size_bytes", "opset_or_spec", "inputs", "outputs", "int8")
    }
    assert set(found["artifact"]["inputs"][0]) >= {"name", "shape", "dtype", "layout", "range", "color_order"}
    assert set(found["artifact"]["outputs"][0]) >= {"name", "shape", "dtype", "meaning"}
    assert set(found["model"]) >= {
        *("mode", "task", "variant", "num_classes", "image_size", "parameters", "macs", "weights")
    }
    assert set(found["model"]["weights"]) >= {"source", "sha256"}
    assert set(found["verification"]) >= {"verdict", "reason", "runtime", "inputs", "tolerance", "outputs"}
    assert set(found["verification"]["runtime"]) == {"name", "version", "kind"}
    assert set(found["verification"]["inputs"]) >= {"count", "kinds", "sha256"}
    assert set(found["verification"]["outputs"][0]) >= {
        *("name", "max_abs", "rel_max", "sqnr_db", "cosine", "top1_agreement")
    }


def test_json_is_an_empty_array_after_a_usage_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*BASE, "--target", "onyx", "--json"]) == 2

    captured = capfd.readouterr()
    assert json.loads(captured.out) == []
    assert "did you mean 'onnx'" in captured.err


def test_doctor_names_every_target(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--doctor", "--json"]) == 0

    captured = capfd.readouterr()
    found = {d["target"]: d for d in json.loads(captured.out)}
    assert set(found) == {"onnx", "coreml", "tflite"}
    assert all(d["can_export"] for d in found.values())
    assert found["onnx"]["can_verify"]
    assert sys.platform == "darwin" or "macOS" in found["coreml"]["problem"]


def test_doctor_ends_in_4_when_the_asked_target_is_missing() -> None:
    result = without_library("coremltools", "export", "--doctor", "--target", "coreml")

    assert result.returncode == 4
    assert "coremltools" in result.stderr


def test_an_interruption_that_a_converter_makes_an_error_of_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Libraries catch KeyboardInterrupt too and raise something of their own."""

    def write(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise RuntimeError("the converter has failed") from error

    monkeypatch.setattr(onnx_exporter, "write", write)
    output = tmp_path / "out"

    assert main([*BASE, "--target", "onnx", "--output", str(output)]) == INTERRUPTED
    assert "interrupted" in capfd.readouterr().err
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    output, temporary = tmp_path / "out", tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "mvit_deploy.cli.export", *BASE, "--target", "tflite", "--output", str(output)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(temporary)}, cwd=ROOT
    )
    for line in process.stderr:
        if "converting" in line:
            break
    time.sleep(0.5)

    process.send_signal(number)
    message = process.communicate(timeout=120)[1]

    assert process.returncode == INTERRUPTED, message
    assert "interrupted" in message
    assert list(output.iterdir()) == []
    assert [p for p in temporary.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_that_a_library_swallows_still_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """Python drops a KeyboardInterrupt that is raised in a callback of native code or in a finalizer."""
    write = onnx_exporter.write

    def swallowing(lowered: object, precision: str, path: Path) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        write(lowered, precision, path)

    monkeypatch.setattr(onnx_exporter, "write", swallowing)
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    code = main([*BASE, "--target", "onnx", "--output", str(tmp_path / "out")])

    for each, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
        signal.signal(each, handler)
    assert code == INTERRUPTED
    assert "interrupted" in capfd.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int):
    """A file system of a few kilobytes."""
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mount.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {mount.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a tmpfs")
@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_a_full_disk_ends_in_6_and_leaves_no_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], target: str
) -> None:
    with small_disk(tmp_path / "disk", 1000) as disk:
        code = main([*BASE, "--target", target, "--output", str(disk)])
        left = [p.name for p in disk.iterdir()]

    assert code == FAILED
    assert all(name.endswith(".failed.json") for name in left)
    assert "disk is full" in capfd.readouterr().err

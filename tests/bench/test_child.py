"""A file in a process of its own: what goes in, what it costs, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mvit_deploy.bench import child
from mvit_deploy.bench.process import Child
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.report import Report
from mvit_deploy.spec import InputSpec

NAMES = ["onnx fp32", "onnx fp16", "tflite fp32", "tflite fp16"]
BALLAST_BYTES = 400_000_000


@pytest.mark.parametrize(
    ("layout", "shape", "expected"),
    [
        ("NCHW", (1, 3, 32, 64), (1, 3, 32, 64)),
        ("NCHW", (-1, 3, 32, 64), (1, 3, 32, 64)),
        ("NHWC", (1, 32, 64, 3), (1, 32, 64, 3)),
        ("NHWC", (4, 32, 64, 3), (4, 32, 64, 3)),
    ],
)
def test_the_input_is_as_the_file_declares_it_and_one_image_where_the_batch_is_free(
    layout: str, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    tensor = child._tensor(InputSpec("image", shape, "float32", layout, (0.0, 1.0), "RGB"))

    assert tensor.shape == expected
    assert tensor.dtype == "float32"


@pytest.mark.parametrize("name", NAMES)
def test_a_child_tells_what_its_file_costs_and_then_times_it(labelled: dict[str, Report], name: str) -> None:
    with Child(labelled[name].path, threads=1) as opened:
        times = opened.times_ms(3)

    assert len(times) == 3
    assert all(time > 0 for time in times)
    assert opened.cost.load_ms > 0
    assert opened.cost.first_run_ms > 0
    assert opened._process.returncode is not None


def test_memory_is_the_files_own_and_not_its_parents(labelled: dict[str, Report]) -> None:
    """Linux hands the peak of a parent down to its child, which getrusage then shows."""
    ballast = bytearray(BALLAST_BYTES)
    ballast[::4096] = b"x" * len(ballast[::4096])

    with Child(labelled["onnx fp32"].path, threads=1) as opened:
        assert labelled["onnx fp32"].path.stat().st_size < opened.cost.peak_bytes < BALLAST_BYTES / 2


def test_a_file_that_cannot_be_opened_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")

    with pytest.raises(DamagedFileError, match=r"broken\.onnx"):
        Child(path, threads=1)


def test_a_child_that_dies_says_how(labelled: dict[str, Report]) -> None:
    with Child(labelled["onnx fp32"].path, threads=1) as opened:
        opened._process.kill()
        opened._process.wait()

        with pytest.raises(DamagedFileError, match="ended with code -9"):
            opened.times_ms(1)


def test_a_child_ends_with_its_input(labelled: dict[str, Report]) -> None:
    """So that none is left over when its parent is killed."""
    command = [sys.executable, "-m", "mvit_deploy.bench.child", str(labelled["onnx fp32"].path), "1"]
    result = subprocess.run(command, input="2\n", capture_output=True, text=True, check=True, timeout=60)

    cost, times = map(json.loads, result.stdout.splitlines())
    assert set(cost) == {"load_ms", "first_run_ms", "peak_bytes"}
    assert len(times) == 2


def test_a_child_loads_nothing_but_its_runtime() -> None:
    """PyTorch or Pillow in the process would be counted as the file's or hide what it takes."""
    code = "import sys, mvit_deploy.bench.child; print([m for m in ('torch', 'PIL', 'matplotlib') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"

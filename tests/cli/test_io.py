"""mvit-export --io: what is written is judged, timed and looked into like any other file."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mvit_deploy.cli.export import main as export
from mvit_deploy.cli.verify import main as verify
from mvit_deploy.report import report_path, sha256_of
from tests.conftest import PHOTOS, ROOT, quick_blame
from tests.pictures import plant

NAME = "mobilevit_xxs_w8a8.tflite"
MISMATCH, USAGE = 1, 2
Captured = pytest.CaptureFixture[str]
every_io = pytest.mark.parametrize("io", ["uint8", "int8"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The file of each type of ends, with its report. Of 20 pictures 4 judge: a logit beyond what the rest gave is cut
    off by an integer output, and a single picture of a random network would be all chance."""
    calibration = plant(tmp_path_factory.mktemp("pictures"), 0, 20)
    found = {}
    for io in ("uint8", "int8", "float32"):
        folder = tmp_path_factory.mktemp(io)
        arguments = {"--mode": "xxs", "--target": "tflite", "--precision": "w8a8", "--io": io, "--image-size": "64",
                     "--num-classes": "5", "--calibration": calibration, "--output": folder}  # fmt: skip
        with quick_blame():
            assert export([str(word) for pair in arguments.items() for word in pair]) == 0
        found[io] = folder / NAME
    return found


def judged(capfd: Captured, path: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    capfd.readouterr()
    code = verify([str(path), *arguments, "--json"])
    return code, json.loads(capfd.readouterr().out)[0]


@every_io
def test_the_report_says_the_types_and_their_codes(exported: dict[str, Path], io: str) -> None:
    artifact = json.loads(report_path(exported[io]).read_text())["artifact"]

    ((image,), (logits,)) = (artifact["inputs"], artifact["outputs"])
    assert (image["dtype"], image["zero_point"]) == (io, {"uint8": 0, "int8": -128}[io])
    assert image["scale"] == pytest.approx(1 / 255)
    assert logits["dtype"] == io
    assert logits["scale"] > 0


@every_io
def test_it_is_as_near_to_pytorch_as_the_file_with_float32_ends(exported: dict[str, Path], io: str) -> None:
    reports = [json.loads(report_path(exported[word]).read_text())["verification"] for word in (io, "float32")]

    found, expected = (report["photos"]["sqnr_db"] for report in reports)
    assert found > expected - 1


@every_io
def test_a_file_matches_again(exported: dict[str, Path], capfd: Captured, io: str) -> None:
    assert judged(capfd, exported[io])[0] == 0
    code, found = judged(capfd, exported[io], "--live")

    first = json.loads(report_path(exported[io]).read_text())
    assert (code, found["verification"]["verdict"]) == (0, "match")
    assert found["verification"]["outputs"] == first["verification"]["outputs"]
    assert found["artifact"]["inputs"] == first["artifact"]["inputs"]


@pytest.mark.parametrize(("promised", "given"), [("uint8", "float32"), ("float32", "int8"), ("int8", "uint8")])
def test_another_type_than_the_report_promised_is_a_mismatch_even_with_its_digest(
    exported: dict[str, Path], tmp_path: Path, capfd: Captured, promised: str, given: str
) -> None:
    path = Path(shutil.copy(exported[given], tmp_path))
    content = json.loads(report_path(exported[promised]).read_text())
    content["artifact"]["sha256"] = sha256_of(path)
    report_path(path).write_text(json.dumps(content))

    code, found = judged(capfd, path)

    assert code == MISMATCH
    assert f"input type: the file says {given}, expected {promised}" in found["verification"]["reason"]


@every_io
def test_without_a_report_the_file_itself_says_its_types(
    exported: dict[str, Path], tmp_path: Path, capfd: Captured, io: str
) -> None:
    path = Path(shutil.copy(exported[io], tmp_path))

    code, _ = judged(capfd, path, "--weights", "random", "--mode", "xxs", "--verify-images", str(PHOTOS))

    assert code == 0


def test_locate_is_refused_as_for_any_quantized_file(exported: dict[str, Path], capfd: Captured) -> None:
    assert verify([str(exported["uint8"]), "--locate"]) == USAGE
    assert "--locate follows float files" in capfd.readouterr().err


def test_files_of_all_types_are_timed_side_by_side(exported: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "mvit_deploy.cli.bench", "--rounds", "2", "--warm-up", "1", "--threads", "1"]

    result = subprocess.run(
        [*command, "--json", *map(str, exported.values())], capture_output=True, text=True, check=False, cwd=ROOT
    )

    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert [entry["path"] for entry in found] == [str(path) for path in exported.values()]

"""mvit-export and mvit-verify with --lint."""

import json
from pathlib import Path

import onnx
import pytest

import mvit_deploy
from mvit_deploy.cli import export, verify
from mvit_deploy.report import Report
from tests.conftest import SIZE, sensitive


def exported(folder: Path, lint: str) -> Report:
    (report,) = mvit_deploy.export(sensitive("xxs", 5), target="onnx", image_size=SIZE, output=folder, lint=lint)
    return report


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A file of ours that has passed the gate."""
    return exported(tmp_path_factory.mktemp("passed"), "error")


@pytest.fixture
def strict_opset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phones that know no opset as new as that of our files."""
    monkeypatch.setattr("mvit_deploy.lint.onnx.MAX_OPSET", 17)


@pytest.mark.usefixtures("strict_opset")
def test_the_gate_leaves_no_file_and_names_the_rule(tmp_path: Path) -> None:
    report = exported(tmp_path, "error")

    failed = tmp_path / f"{report.path.name}.failed.json"
    assert report.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == [failed.name]
    said = json.loads(failed.read_text(encoding="utf-8"))
    assert said["verification"]["verdict"] == "mismatch"
    assert said["verification"]["reason"].startswith("lint: opset-too-new: ")
    assert said["verification"]["outputs"][0]["rel_max"] < 1e-4  # the file was run all the same
    assert said["artifact"]["lint"]["findings"][0]["rule"] == "opset-too-new"


@pytest.mark.usefixtures("strict_opset")
@pytest.mark.parametrize("level", ["off", "warn"])
def test_short_of_the_gate_the_file_stays(level: str, tmp_path: Path) -> None:
    report = exported(tmp_path, level)

    assert report.exit_code == 0
    assert report.path.exists()
    said = report.content["artifact"].get("lint", {"summary": "off"})["summary"]
    assert said.startswith("1 error, 1 warning (ONNX Runtime: opset-too-new (opset 18)" if level == "warn" else "off")


def test_our_files_pass_the_gate(passed: Report) -> None:
    assert passed.exit_code == 0
    assert passed.content["artifact"]["lint"]["findings"]


@pytest.mark.parametrize(("level", "code"), [("off", 0), ("warn", 0), ("error", 1)])
def test_verify_holds_files_of_others_to_the_rules(
    level: str, code: int, passed: Report, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(passed.path)
    model.ir_version = 11
    stranger = tmp_path / "stranger.onnx"
    onnx.save(model, stranger)

    assert verify.main([str(stranger), "--allow-unverified", "--lint", level]) == code
    told = capfd.readouterr().err
    assert ("ir-too-new" in told) == (level != "off")
    assert ("lint: " in told) == (level != "off")


def test_verify_says_again_what_it_finds_here(passed: Report, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing of what the export found, where it was asked not to look."""
    for level, is_said in (("warn", True), ("off", False)):
        assert verify.main([str(passed.path), "--json", "--lint", level]) == 0

        (said,) = json.loads(capsys.readouterr().out)
        assert ("lint" in said["artifact"]) == is_said


@pytest.mark.parametrize("command", [export.main, verify.main])
def test_a_level_that_is_not_known_is_a_usage_error(
    command: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tmp_path / "some.onnx"
    given.touch()
    asked = [str(given)] if command is verify.main else ["--mode", "xxs", "--target", "onnx"]

    assert command([*asked, "--lint", "eror"]) == 2
    assert "did you mean 'error'" in capsys.readouterr().err

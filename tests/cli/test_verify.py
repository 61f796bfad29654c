"""mvit-verify: a shipped file is judged again, here, against what its report or the user names."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import mvit_deploy
from mvit_deploy.checkpoints import timm
from mvit_deploy.cli.export import main as export
from mvit_deploy.cli.verify import main as verify
from mvit_deploy.report import Report, report_path
from mvit_deploy.runtimes.coreml.package import read_specification, specification_path
from tests.conftest import LABELS, sensitive, without_library

MATCHES, MISMATCH, USAGE, NOT_RUN, MISSING, CHECKPOINT = 0, 1, 2, 3, 4, 5
FILES = ["mobilevit_xxs_fp32.onnx", "mobilevit_xxs_fp16.mlpackage", "mobilevit_xxs_fp32.tflite"]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mvit-export leaves behind: three files with their reports."""
    folder = tmp_path_factory.mktemp("exported")
    assert export(["--mode", "xxs", "--target", "all", "--image-size", "64", "--num-classes", "5", "--seed", "3",
                   "--output", str(folder)]) == 0  # fmt: skip
    return folder


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "exported"))


def judged(capfd: Captured, *arguments: object) -> tuple[int, list[dict[str, object]], str]:
    """Exit code, reports, and what a person reads."""
    capfd.readouterr()
    code = verify([*map(str, arguments), "--json"])
    captured = capfd.readouterr()
    return code, json.loads(captured.out), captured.err


@pytest.mark.parametrize("suffix", ["", ".report.json"])
def test_untouched_files_match_by_themselves_or_by_their_reports(exported: Path, capfd: Captured, suffix: str) -> None:
    code, reports, _ = judged(capfd, *(exported / (name + suffix) for name in FILES))

    assert code == MATCHES
    assert [r["verification"]["verdict"] for r in reports] == ["match"] * 3
    first = [json.loads(report_path(exported / name).read_text()) for name in FILES]
    for again, before in zip(reports, first, strict=True):
        for key in ("sha256", "precision", "inputs", "outputs"):
            assert again["artifact"][key] == before["artifact"][key]
        assert again["verification"]["reference"] == "golden"
        assert again["verification"]["inputs"]["sha256"] == before["certificate"]["sha256"]["golden_inputs"]
        assert again["model"]["weights"] == before["model"]["weights"]


def test_live_pytorch_judges_on_every_image_of_the_first_time(exported: Path, capfd: Captured) -> None:
    code, (again,), _ = judged(capfd, "--live", exported / FILES[0])

    before = json.loads(report_path(exported / FILES[0]).read_text())
    assert code == MATCHES
    assert again["verification"]["reference"] == "weights"
    assert again["verification"]["inputs"]["sha256"] == before["verification"]["inputs"]["sha256"]


def test_a_core_ml_file_is_judged_by_the_program_evaluator(exported: Path, capfd: Captured) -> None:
    _, (found,), text = judged(capfd, exported / FILES[1])

    if sys.platform == "darwin":
        pytest.skip("this is a Mac: Apple's runtime judges")
    assert found["verification"]["runtime"]["kind"] == "evaluator"
    assert "program evaluator, not Apple's runtime" in " ".join(text.split())
    assert found["verification"]["fp16_audit"]["inputs"] == found["verification"]["inputs"]["count"]


def test_nothing_is_written(copy: Path, capfd: Captured) -> None:
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}

    judged(capfd, *(copy / name for name in FILES))

    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_a_changed_file_is_a_mismatch_and_is_run_all_the_same(copy: Path, capfd: Captured) -> None:
    negate_a_weight(copy / FILES[0])

    code, (found,), text = judged(capfd, copy / FILES[0])

    assert code == MISMATCH
    assert "sha256 has changed" in found["verification"]["reason"]
    assert found["verification"]["outputs"][0]["rel_max"] > 1e-2
    assert "--locate" in text


def test_a_changed_file_that_computes_the_same_is_still_a_mismatch(copy: Path, capfd: Captured) -> None:
    model = onnx.load(copy / FILES[0])
    model.doc_string = "edited"
    onnx.save(model, copy / FILES[0])

    code, (found,), _ = judged(capfd, copy / FILES[0])

    assert code == MISMATCH
    assert found["verification"]["outputs"][0]["rel_max"] < 1e-4


def test_locate_names_the_stage_and_the_operation(copy: Path, capfd: Captured) -> None:
    negate_a_weight(copy / FILES[0])

    code, (found,), text = judged(capfd, "--locate", copy / FILES[0])

    assert code == MISMATCH
    location = found["verification"]["location"]
    assert location["first_stage"] == "stem"
    assert location["first_operation"]["type"] == "Conv"
    assert "leaves PyTorch in stem" in text


def test_locate_says_so_when_every_stage_agrees(exported: Path, capfd: Captured) -> None:
    code, _, text = judged(capfd, "--locate", exported / FILES[1])

    assert code == MATCHES
    assert "every stage agrees" in text


def test_without_a_report_the_weights_have_to_be_given(copy: Path, capfd: Captured) -> None:
    for name in FILES:
        report_path(copy / name).unlink()
    files = [copy / name for name in FILES]

    code, reports, _ = judged(capfd, *files)
    assert code == NOT_RUN
    assert all("give --weights" in r["verification"]["reason"] for r in reports)

    assert judged(capfd, *files, "--allow-unverified")[0] == MATCHES
    assert judged(capfd, *files, "--weights", "random", "--mode", "xxs", "--seed", 3)[0] == MATCHES
    assert judged(capfd, *files, "--weights", "random", "--mode", "xxs", "--seed", 4)[0] == MISMATCH


def test_the_precision_is_read_from_the_file_when_there_is_no_report(copy: Path, capfd: Captured) -> None:
    report_path(copy / FILES[1]).unlink()

    _, (found,), _ = judged(capfd, copy / FILES[1], "--weights", "random", "--mode", "xxs", "--seed", 3)

    assert found["artifact"]["precision"] == "fp16"


def test_stricter_floors_can_be_asked_for(exported: Path, capfd: Captured) -> None:
    assert judged(capfd, exported / FILES[1], "--precision", "fp32")[0] == MISMATCH


def test_a_module_of_ones_own_is_held_to_its_golden_outputs_or_needs_its_weights(
    labelled: dict[str, Report], capfd: Captured
) -> None:
    """The labels of the file are held to those that its report promised."""
    path = labelled["mlpackage fp32"].path

    assert judged(capfd, path)[0] == MATCHES
    code, (found,), _ = judged(capfd, "--live", path)
    assert code == NOT_RUN
    assert "give --weights" in found["verification"]["reason"]

    code, (found,), _ = judged(capfd, path, "--weights", "random", "--mode", "xxs", "--seed", 0)
    assert code == MATCHES
    assert tuple(found["artifact"]["labels"]) == LABELS


def test_a_checkpoint_is_found_again_and_a_changed_one_is_a_mismatch(
    tmp_path: Path, capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(timm.state_dict_for(sensitive("xxs", 5)), "weights.pth")
    assert export(["--weights", "weights.pth", "--target", "onnx", "--image-size", "64", "--output", "out"]) == 0
    file = tmp_path / "out" / FILES[0]

    assert judged(capfd, file)[0] == MATCHES

    changed = timm.state_dict_for(sensitive("xxs", 5))
    changed["head.fc.bias"] = changed["head.fc.bias"] + 1
    torch.save(changed, "weights.pth")
    code, (found,), _ = judged(capfd, file)
    assert code == MISMATCH
    assert "weights.pth have changed" in found["verification"]["reason"]
    assert found["verification"]["outputs"]

    Path("weights.pth").unlink()
    assert judged(capfd, file)[0] == MATCHES
    code, (found,), _ = judged(capfd, "--live", file)
    assert code == NOT_RUN
    assert "weights.pth, which is not here" in found["verification"]["reason"]


def test_an_operation_that_the_evaluator_does_not_know_is_not_run(copy: Path, capfd: Captured) -> None:
    path = specification_path(copy / FILES[1])
    spec = read_specification(copy / FILES[1])
    (function,) = spec.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    line, operation = next((i, o) for i, o in enumerate(block.operations, 1) if o.type == "silu")
    operation.type = "hyper_silu"
    path.write_bytes(spec.SerializeToString())
    report_path(copy / FILES[1]).unlink()

    code, (found,), _ = judged(capfd, copy / FILES[1], "--weights", "random", "--mode", "xxs", "--seed", 3)

    reason = found["verification"]["reason"]
    assert code == NOT_RUN
    assert reason.startswith(f"line {line}: ")
    assert "does not know hyper_silu; it knows: " in reason
    assert "layer_norm" in reason


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_damaged(copy: Path, capfd: Captured, name: str) -> None:
    path = copy / name
    inner = path if path.is_file() else path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    inner.write_bytes(inner.read_bytes()[: inner.stat().st_size // 2])

    code, (found,), _ = judged(capfd, path)

    assert code == MISMATCH
    assert found["verification"]["verdict"] == "mismatch"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give one or more files"),
        (["nowhere.onnx"], "there is no file nowhere.onnx"),
        (["nowhere.onnx.report.json"], "there is no report"),
        (["pyproject.toml"], "not a file of a known target"),
        (["x.onnx", "--precision", "fp61"], "did you mean 'fp16'"),
        (["x.onnx", "--mode", "xss"], "did you mean"),
        (["x.onnx", "--locat"], "--locate"),
    ],
)
def test_usage_errors_are_one_clear_line(arguments: list[str], words: str, capfd: Captured) -> None:
    assert verify(arguments) == USAGE
    assert words in capfd.readouterr().err


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"schema_version": 2}', '{"schema_version": 1, "artifact": "x"}', "[" * 100_000]
)
def test_a_report_that_is_none_of_ours_is_a_usage_error(copy: Path, capfd: Captured, content: str) -> None:
    report_path(copy / FILES[0]).write_text(content)

    assert verify([str(copy / FILES[0])]) == USAGE


def test_a_file_that_its_report_describes_and_that_is_gone_is_a_mismatch(copy: Path, capfd: Captured) -> None:
    (copy / FILES[0]).unlink()

    code, (found,), _ = judged(capfd, report_path(copy / FILES[0]))

    assert code == MISMATCH
    assert "is not there" in found["verification"]["reason"]


def test_the_failure_of_highest_priority_wins(copy: Path, capfd: Captured) -> None:
    negate_a_weight(copy / FILES[0])
    report_path(copy / FILES[2]).unlink()

    code, reports, _ = judged(capfd, *(copy / name for name in FILES))

    assert [r["verification"]["verdict"] for r in reports] == ["mismatch", "match", "not_run"]
    assert code == MISMATCH


def test_a_missing_library_is_named_with_its_extra(exported: Path) -> None:
    result = without_library("onnxruntime", "verify", exported / FILES[0])

    assert result.returncode == MISSING
    assert "pip install 'mvit-deploy[onnx]'" in result.stderr


def test_python_says_the_same_as_the_command_line(exported: Path) -> None:
    found = mvit_deploy.verify([exported / name for name in FILES])

    assert [(r.verdict, r.exit_code) for r in found] == [("match", 0)] * 3


def negate_a_weight(path: Path) -> None:
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.negative(onnx.numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(model, path)

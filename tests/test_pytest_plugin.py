"""pytest --mvit-parity: shipped files as tests, in projects of their own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

import mvit_deploy
from mvit_deploy import recheck  # loaded here, so that it is not loaded anew in each run inside this process
from mvit_deploy.report import failed_path, report_path
from tests.conftest import LABELS

pytest_plugins = ["pytester"]
FILE = "mobilevit_xxs_fp32.onnx"
PASSED, FAILED, USAGE = 0, 1, 4
assert mvit_deploy.verify is recheck.verify


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file with its report, whose weights a seed gives again."""
    folder = tmp_path_factory.mktemp("exported")
    (found,) = mvit_deploy.export("xxs", target="onnx", image_size=64, num_classes=len(LABELS), output=folder)
    assert found.exit_code == 0
    return folder


@pytest.fixture
def out(exported: Path, pytester: pytest.Pytester) -> Path:
    """What was exported, in a project that also has a test of its own."""
    pytester.makepyfile(test_own="def test_own(): pass")
    return Path(shutil.copytree(exported, pytester.path / "out"))


def run(pytester: pytest.Pytester, *arguments: object) -> pytest.RunResult:
    """In this process, without other plugins that take their time."""
    without = [word for name in ("cacheprovider", "hypothesispytest", "anyio") for word in ("-p", f"no:{name}")]
    return pytester.runpytest_inprocess(*without, "-rs", *map(str, arguments))


def damage(path: Path, *, factor: float) -> None:
    """Every weight of the last layer times a factor."""
    model = onnx.load(path)
    weight = next(each for each in model.graph.initializer if len(each.dims) == 2)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * factor, weight.name))
    onnx.save(model, path)


def test_a_file_that_matches_passes_and_is_the_only_test(out: Path, pytester: pytest.Pytester) -> None:
    result = run(pytester, "--mvit-parity", "out", "-v")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"out::{FILE} PASSED*"])


def test_tests_that_are_named_run_beside_the_files(out: Path, pytester: pytest.Pytester) -> None:
    beside = run(pytester, "test_own.py", "--mvit-parity", "out", "--collect-only", "-q")
    twice = run(pytester, "out", "--mvit-parity", "out", "--collect-only", "-q")

    assert beside.outlines[:2] == ["test_own.py::test_own", f"out::{FILE}"]
    assert [line for line in twice.outlines if "::" in line] == [f"out::{FILE}"]


def test_a_damaged_file_fails_with_the_reason_and_the_numbers(out: Path, pytester: pytest.Pytester) -> None:
    damage(out / FILE, factor=1.01)

    result = run(pytester, "--mvit-parity", "out")

    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["*mismatch*", "*sha256 has changed*", "*logits: *rel_max *sqnr_db *"])
    assert "Traceback" not in result.stdout.str()
    assert "pytest_plugin.py" not in result.stdout.str()


def test_a_file_that_is_none_fails(out: Path, pytester: pytest.Pytester) -> None:
    (out / FILE).write_bytes(b"no model")

    assert run(pytester, "--mvit-parity", "out").ret == FAILED


@pytest.mark.parametrize(
    ("keys", "value"), [(("artifact", "sha256"), "0" * 64), (("model", "weights", "sha256"), "0" * 64)]
)
def test_a_report_of_something_else_fails(
    out: Path, pytester: pytest.Pytester, keys: tuple[str, ...], value: object
) -> None:
    report = report_path(out / FILE)
    content = json.loads(report.read_text())
    entry = content
    for key in keys[:-1]:
        entry = entry[key]
    entry[keys[-1]] = value
    report.write_text(json.dumps(content))

    result = run(pytester, "--mvit-parity", "out")

    assert result.ret == FAILED
    result.assert_outcomes(failed=1)


def test_a_report_without_its_file_fails(out: Path, pytester: pytest.Pytester) -> None:
    (out / FILE).unlink()

    run(pytester, "--mvit-parity", "out").assert_outcomes(failed=1)


def test_a_refused_export_fails(out: Path, pytester: pytest.Pytester) -> None:
    failed_path(out / "mobilevit_xxs_fp16.onnx").write_text("{}")

    result = run(pytester, "--mvit-parity", "out")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*fp16.onnx.failed.json: the export was refused*"])


def test_what_cannot_be_judged_fails_unless_that_is_allowed(out: Path, pytester: pytest.Pytester) -> None:
    report_path(out / FILE).unlink()

    closed = run(pytester, "--mvit-parity", "out")
    allowed = run(pytester, "--mvit-parity", "out", "--mvit-allow-unverified")

    closed.assert_outcomes(failed=1)
    closed.stdout.fnmatch_lines(["*not run*", "*no reference*"])
    allowed.assert_outcomes(skipped=1)
    allowed.stdout.fnmatch_lines(["SKIPPED*was not judged: *no reference*"])


def test_weights_and_images_are_handed_on(out: Path, pytester: pytest.Pytester, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()

    for_weights = run(pytester, "--mvit-parity", "out", "--mvit-weights", tmp_path / "absent.pth")
    for_images = run(pytester, "--mvit-parity", "out", "--mvit-verify-images", tmp_path / "photos")

    for_weights.assert_outcomes(failed=1)
    for_weights.stdout.fnmatch_lines(["*absent.pth*"])
    for_images.assert_outcomes(failed=1)
    for_images.stdout.fnmatch_lines(["*no images below*"])


def test_files_lie_at_any_depth_and_a_package_is_one(out: Path, pytester: pytest.Pytester) -> None:
    """norecursedirs of pytest names build and dist; a package holds a model.mlmodel; hidden folders are unfinished."""
    inside = out / "dist" / "some.mlpackage" / "Data" / "com.apple.CoreML"
    inside.mkdir(parents=True)
    (inside / "model.mlmodel").touch()
    (out / ".mvit-partial-x").mkdir()
    (out / ".mvit-partial-x" / "half.onnx").touch()
    (out / "labels.txt").touch()
    (out / "test_in_out.py").write_text("def test_never(): raise SystemExit")

    result = run(pytester, "--mvit-parity", "out", "--collect-only", "-q")

    found = [line for line in result.outlines if "::" in line]
    assert found == ["out::dist/some.mlpackage", f"out::{FILE}"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mvit-parity", "empty"], "no shipped file"),
        (["--mvit-parity", "absent"], "no such folder"),
        (["--mvit-parity", f"out/{FILE}"], "no such folder"),
        (["--mvit-weights", "some.pth"], "needs --mvit-parity"),
        (["--mvit-verify-images", "photos"], "needs --mvit-parity"),
        (["--mvit-allow-unverified"], "needs --mvit-parity"),
        ([".", "--mvit-parity", "dist"], "nothing of it was collected"),
    ],
)
def test_what_would_pass_in_silence_is_a_usage_error(
    out: Path, pytester: pytest.Pytester, arguments: list[str], words: str
) -> None:
    """The last: pytest itself never looks into a folder named dist below another argument."""
    (pytester.path / "empty").mkdir()
    shutil.copytree(out, pytester.path / "dist")

    result = run(pytester, *arguments)

    assert result.ret == USAGE
    assert words in result.stderr.str() + result.stdout.str()


@pytest.mark.slow
def test_files_are_shared_among_processes(out: Path, pytester: pytest.Pytester) -> None:
    shutil.copy(out / FILE, out / "second.onnx")
    shutil.copy(report_path(out / FILE), report_path(out / "second.onnx"))
    (out / "third.onnx").write_bytes(b"no model")

    result = run(pytester, "--mvit-parity", "out", "-n", "2")

    result.assert_outcomes(passed=2, failed=1)


def test_the_plugin_costs_nothing_without_its_option(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_what_is_loaded(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("mvit")
            ours = [name for name in sys.modules if name.split(".")[0] in ("mvit_deploy", "exporters")]
            assert sorted(ours) == ["mvit_deploy", "mvit_deploy.pytest_plugin"]
            assert not {"torch", "numpy", "onnx", "onnxruntime", "coremltools", "click"} & set(sys.modules)
        """
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=pytester.path)

    assert result.returncode == PASSED, result.stdout + result.stderr

"""Each rule fires on a file that breaks it, stays quiet on a sound one, and names the document that it is from."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mvit_deploy.errors import DamagedFileError, UsageError
from mvit_deploy.lint import lint, summary
from mvit_deploy.lint.rules import RULES, SEVERITIES, Rule
from tests.conftest import ROOT
from tests.lint.crafted import BROKEN, SOUND, Graph, Line, Step, begin, kernel, program, tflite
from tests.lint.documentation import document

BY_ID = {rule.id: rule for rule in RULES}


def found_in(path: Path) -> dict[str, int]:
    return {finding.rule.id: finding.count for finding in lint(path).findings}


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_file_breaks_no_rule(kind: str, tmp_path: Path) -> None:
    result = lint(SOUND[kind](tmp_path))

    assert result.findings == ()
    assert summary(result) == ""
    assert all(consumer.taken == consumer.of > 0 for consumer in result.consumers.values())


@pytest.mark.parametrize("rule", RULES, ids=BY_ID)
def test_each_rule_fires_on_a_file_that_breaks_it(rule: Rule, tmp_path: Path) -> None:
    result = lint(BROKEN[rule.id](tmp_path))

    finding = next(finding for finding in result.findings if finding.rule is rule)
    assert finding.count >= 1
    place = finding.places[0]
    assert place.operator or place.tensor or place.what
    if rule.blocks:
        consumer = result.consumers[rule.consumer]
        assert consumer.taken < consumer.of
        assert rule.id in consumer.blocked_by


def test_every_rule_is_tested() -> None:
    assert set(BROKEN) == set(BY_ID)


@pytest.mark.parametrize("rule", RULES, ids=BY_ID)
def test_a_rule_is_one_sentence_with_a_document_behind_it(rule: Rule) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.id)
    assert rule.severity in SEVERITIES
    assert rule.target in ("onnx", "tflite", "coreml")
    assert re.fullmatch(r"[A-Z0-9].*\.", rule.text)
    assert not re.search(r"[.!?] [A-Z]", rule.text)
    assert rule.source.title
    assert rule.source.url.startswith("https://")


def test_the_names_of_rules_are_unique() -> None:
    assert len(BY_ID) == len(RULES)


def test_the_page_of_rules_is_that_of_the_table() -> None:
    """python -m tests.lint.documentation > docs/lint.md"""
    assert (ROOT / "docs" / "lint.md").read_text(encoding="utf-8") == document()


# What a rule must not take for a fault


def test_the_worst_stands_first_and_the_json_says_it_all(tmp_path: Path) -> None:
    path = tflite(tmp_path, Step("RSQRT"), Step(custom="FlexErf"), Step("RSQRT"))

    said = lint(path).to_json()

    severities = [finding["severity"] for finding in said["findings"]]
    assert severities == sorted(severities, key=SEVERITIES.index)
    assert said["findings"][0] == {
        "rule": "flex-operator",
        "consumer": "LiteRT",
        "severity": "error",
        "count": 1,
        "operators": {"FlexErf": 1},
        "places": [{"index": 1, "operator": "FlexErf", "name": "value2"}],
        "text": BY_ID["flex-operator"].text,
        "source": str(BY_ID["flex-operator"].source),
    }
    assert said["operators"] == {"RSQRT": 2, "FlexErf": 1}
    assert said["consumers"]["TFLite GPU delegate"] == {"taken": 2, "of": 3, "blocked_by": ["gpu-operator"]}


def test_the_line_names_what_falls_back(tmp_path: Path) -> None:
    steps = (Step("ARG_MAX"), Step("GELU"), Step(custom="FlexErf"))

    assert summary(lint(tflite(tmp_path, *steps))) == (
        "1 error, 3 warnings (LiteRT: flex-operator; "
        "TFLite GPU delegate: 2 of 3 operators fall back: ARG_MAX, FlexErf; "
        "NNAPI delegate: 2 of 3 operators fall back: GELU, FlexErf; "
        "XNNPACK delegate: 2 of 3 operators fall back: ARG_MAX, FlexErf)"
    )


def test_transposes_and_reshapes_are_a_share_of_all_operators(tmp_path: Path) -> None:
    result = lint(tflite(tmp_path, Step("TRANSPOSE"), Step("RESHAPE"), Step("SQUEEZE"), Step()))

    assert (result.transposes, result.reshapes, result.data_movement_fraction) == (1, 2, 0.75)


def test_boxes_that_are_found_are_no_free_size(tmp_path: Path) -> None:
    found = found_in(BROKEN["detections-size"](tmp_path))

    assert found["detections-size"] == 1
    assert "onnx-free-size" not in found


def test_a_free_batch_is_told_once_and_is_no_free_size(tmp_path: Path) -> None:
    found = found_in(Graph(shape=("batch", 3, 8, 8)).write(tmp_path))

    assert found["onnx-free-batch"] == 1
    assert "onnx-free-size" not in found


def test_a_size_that_hangs_on_what_is_computed_is_free(tmp_path: Path) -> None:
    found = found_in(Graph(operators=(("NonZero", {}), ("Abs", {}))).write(tmp_path))

    assert found["onnx-free-size"] == 1


def test_listed_shapes_are_no_free_size(tmp_path: Path) -> None:
    assert "coreml-free-size" not in found_in(BROKEN["enumerated-shapes"](tmp_path))


def test_a_size_that_a_program_computes_is_free(tmp_path: Path) -> None:
    open_line = Line("gather_nd", shape=(1, None, 4))

    assert found_in(program(tmp_path, Line(), open_line, Line(shape=(1, None, 4))))["coreml-free-size"] == 1


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (Line("slice_by_index", constants=begin(0, 0, 1, 0)), "ane-slice"),
        (Line("conv", constants=kernel(29, 13)), "ane-kernel"),
        (Line(shape=(1, 65536, 4, 4)), "ane-size"),
        (Line(shape=(1, 3, 4, 16384)), "ane-size"),
        (Line("cast", element="fp32"), "ane-float32"),
    ],
    ids=["a slice of rows", "the largest kernel", "most channels", "the widest map", "a cast at the end"],
)
def test_what_the_neural_engine_takes_is_no_finding(line: Line, rule: str, tmp_path: Path) -> None:
    assert rule not in found_in(program(tmp_path, Line(), line))


@pytest.mark.parametrize(
    ("step", "rule"),
    [
        (Step("MUL", version=3), "nnapi-operator"),
        (Step("CONCATENATION", joined=5), "xnnpack-concatenation"),
        (Step("CAST", element="INT32"), "gpu-type"),
        (Step(custom="TFLite_Detection_PostProcess"), "custom-operator"),
        (Step("RESHAPE", shape=(2, 2, 4, 3)), "tflite-rank"),
    ],
)
def test_what_a_delegate_takes_is_no_finding(step: Step, rule: str, tmp_path: Path) -> None:
    assert rule not in found_in(tflite(tmp_path, step))


def test_a_newer_version_of_an_operator_is_not_taken(tmp_path: Path) -> None:
    finding = lint(tflite(tmp_path, Step("FULLY_CONNECTED", version=12))).findings[0]

    assert finding.rule.id == "nnapi-operator"
    assert finding.places[0].what == "version 12"


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".mlmodel"])
def test_a_damaged_file_is_said_to_be_one(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"\x08\x01 not a network")

    with pytest.raises(DamagedFileError, match=path.name):
        lint(path)


def test_other_files_are_not_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="known"):
        lint(tmp_path / "model.pte")


@pytest.mark.parametrize(("target", "allowed"), [("onnx", {"onnx"}), ("tflite", {"ai_edge_litert"}), ("coreml", set())])
def test_a_file_is_read_without_converters_and_runtimes(target: str, allowed: set[str]) -> None:
    libraries = ["torch", "onnx", "onnxruntime", "coremltools", "onnx2tf", "tensorflow", "ai_edge_litert"]
    code = f"import sys, mvit_deploy.lint.{target}; print([m for m in {libraries!r} if m in sys.modules])"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert set(ast.literal_eval(result.stdout)) <= allowed

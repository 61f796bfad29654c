"""--lint: off is silent, warn tells, error is a mismatch."""

import json
from pathlib import Path

import pytest

from mvit_deploy.lint import gate
from mvit_deploy.spec import LINT_LEVELS
from tests.lint.crafted import BROKEN, SOUND


@pytest.mark.parametrize("kind", SOUND)
@pytest.mark.parametrize("level", LINT_LEVELS)
def test_a_sound_file_passes_at_every_level(kind: str, level: str, tmp_path: Path) -> None:
    assert gate.look(SOUND[kind](tmp_path), level).refusal == ""


def test_off_says_nothing(tmp_path: Path) -> None:
    assert gate.look(BROKEN["flex-operator"](tmp_path), "off") == gate.Linted()


def test_warn_tells_and_lets_pass(tmp_path: Path) -> None:
    linted = gate.look(BROKEN["flex-operator"](tmp_path), "warn")

    assert linted.refusal == ""
    assert linted.artifact["lint"]["summary"].startswith("1 error")
    assert json.loads(json.dumps(linted.artifact)) == linted.artifact


@pytest.mark.parametrize("rule", ["flex-operator", "tflite-rank", "external-data", "coreml-rank", "custom-layer"])
def test_error_refuses_what_does_not_load(rule: str, tmp_path: Path) -> None:
    assert rule in gate.look(BROKEN[rule](tmp_path), "error").refusal


@pytest.mark.parametrize("rule", ["gpu-operator", "ane-float32", "nnapi-ep-type", "gpu-data-movement"])
def test_what_falls_back_passes_the_gate(rule: str, tmp_path: Path) -> None:
    linted = gate.look(BROKEN[rule](tmp_path), "error")

    assert linted.refusal == ""
    assert rule in {finding["rule"] for finding in linted.facts["findings"]}


def test_a_damaged_file_is_refused_by_the_gate_alone(tmp_path: Path) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"no network")

    assert gate.look(path, "warn").refusal == ""
    assert "broken.tflite" in gate.look(path, "error").refusal

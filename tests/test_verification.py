"""From a file's outputs to the verification part of its report; the file is played by a runner."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from mvit_deploy import report, runtimes, verification
from mvit_deploy.images import ImageSet
from mvit_deploy.parity import MATCH, MISMATCH, TOLERANCES
from mvit_deploy.spec import OWN, Contract, Declared, InputSpec, Interface, Output, OutputSpec
from mvit_deploy.verification import Expectation, Verification

CONTRACT = Contract("xs", "classification", "paper", (32, 32), (Output("logits", (2,)),))
INTERFACE = Interface(
    "onnx",
    "18",
    (InputSpec("image", (1, 3, 32, 32), "float32", "NCHW", (0.0, 1.0), "RGB"),),
    (OutputSpec("logits", (1, 2), "float32", "logits"),),
    Declared("RGB", (0.0, 1.0), mode="xs", task="classification", variant="paper", preprocessing=OWN),
)
RANDOM = "the weights are random: calibrated, and not judged"


@dataclass
class Player:
    """A runner that gives what it is told."""

    outputs: np.ndarray
    name: str = "player"
    version: str = "1"
    kind: str = "runtime"
    interface: Interface = field(default=INTERFACE)

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": self.outputs}

    def findings(self, pixels: np.ndarray, outputs: dict[str, np.ndarray]) -> dict[str, object]:
        return {}


def found(
    monkeypatch: pytest.MonkeyPatch, outputs: np.ndarray, *, precision: str, report_only: str = ""
) -> tuple[Verification, dict[str, object]]:
    """The verdict on a file with such outputs, where the reference has (10, -10) everywhere, and its report."""
    kinds = ("photo", "photo", "builtin", "noise")
    inputs = ImageSet(np.zeros((4, 32, 32, 3), np.uint8), kinds, ("a", "b", "c", "d"))
    monkeypatch.setattr(runtimes, "open_file", lambda path: Player(outputs))
    expected = Expectation(CONTRACT, precision, inputs, {"logits": np.tile([10.0, -10.0], (4, 1))}, report_only)
    verdict = verification.verify(Path("x.onnx"), expected)
    return verdict, verification.to_json(verdict, precision, inputs, {"seed": 0, "folder": None})


def test_the_report_counts_the_judged_photos_and_shows_their_kl(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = np.array([[10, -10], [10, -10], [-10, 10], [10, -10]], np.float32)

    verdict, said = found(monkeypatch, outputs, precision="w8a8")

    assert verdict.verdict == MATCH
    assert said["photos"] == {
        "count": 2, "max_abs": 0.0, "rel_max": 0.0, "sqnr_db": 300.0, "cosine": pytest.approx(1), "top1_agreement": 1.0,
        "mean_kl": 0.0,
    }  # fmt: skip
    assert said["outputs"][0]["count"] == 4
    assert said["outputs"][0]["mean_kl"] == pytest.approx(20 / 4)  # of (1, 0) against (0, 1), 20 apart, in one row of 4
    assert said["inputs"]["kinds"] == {"builtin": 1, "noise": 1, "photo": 2}
    assert said["tolerance"] == TOLERANCES["w8a8"].to_json()
    assert report.dump(said)


def test_numbers_that_are_only_reported_match_for_the_reason_given(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = np.array([[-10, 10]] * 4, np.float32)

    verdict, said = found(monkeypatch, outputs, precision="w8a8", report_only=RANDOM)
    judged, _ = found(monkeypatch, outputs, precision="w8a8")

    assert (verdict.verdict, said["verdict"], said["reason"]) == (MATCH, MATCH, RANDOM)
    assert said["photos"]["sqnr_db"] == pytest.approx(-20 * np.log10(2))
    assert said["tolerance"] == {}
    assert judged.verdict == MISMATCH


def test_a_value_that_is_not_finite_is_a_mismatch_even_where_numbers_are_only_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs = np.array([[10, -10]] * 3 + [[np.nan, 0]], np.float32)

    verdict, said = found(monkeypatch, outputs, precision="w8a8", report_only=RANDOM)

    assert (verdict.verdict, said["reason"]) == (MISMATCH, "d: a value is not finite")
    assert said["outputs"][0]["mean_kl"] is None
    assert said["photos"]["mean_kl"] == 0.0
    assert report.dump(said)

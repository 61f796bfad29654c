"""Several outputs, as detectors have: each is named in the file, laid out as promised, and judged."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mvit_deploy import images
from mvit_deploy.parity import MATCH, MISMATCH
from mvit_deploy.spec import Contract, Output, Settings
from mvit_deploy.verification import Expectation, verify

SIZE = (32, 64)
OUTPUTS = (Output("locations", (32, 4)), Output("logits", (5, 4, 8)), Output("scores", (32, 3)))
CONTRACT = Contract("xxs", "detection", "paper", SIZE, OUTPUTS)
SETTINGS = [
    ("onnx", Settings("onnx")),
    ("coreml", Settings("mlpackage", 16)),
    ("coreml", Settings("mlmodel", 13)),
    ("tflite", Settings("tflite")),
]
every_format = pytest.mark.parametrize(("target", "settings"), SETTINGS, ids=[s.format for _, s in SETTINGS])


class Several(nn.Module):
    """Locations and scores of 32 anchors, and a map. Its names are in no alphabetical order."""

    def __init__(self, *, scores_factor: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3, stride=8, padding=1), nn.SiLU())
        self.boxes, self.map, self.classes = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 5, 1), nn.Conv2d(8, 3, 1)
        self.scores_factor = scores_factor

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.trunk(image)
        boxes, classes = (
            head(x).permute(0, 2, 3, 1).reshape(-1, 32, n) for head, n in ((self.boxes, 4), (self.classes, 3))
        )
        return boxes, self.map(x), (classes * self.scores_factor).softmax(dim=-1)


def expectation() -> Expectation:
    inputs = images.verification_set(SIZE, seed=0)
    tensors = torch.from_numpy(inputs.pixels.transpose(0, 3, 1, 2).copy()).float() / 255
    with torch.no_grad():
        outputs = [values.numpy() for values in Several()(tensors)]
    return Expectation(CONTRACT, "fp32", inputs, {o.name: v for o, v in zip(OUTPUTS, outputs, strict=True)})


def written(tmp_path: Path, target: str, settings: Settings, module: nn.Module) -> Path:
    exporter = importlib.import_module(f"exporters.{target}")
    path = tmp_path / f"a.{settings.format}"
    exporter.write(exporter.lower(module.eval(), CONTRACT, settings), "fp32", path)
    return path


@every_format
def test_every_output_is_promised_and_judged(tmp_path: Path, target: str, settings: Settings) -> None:
    found = verify(written(tmp_path, target, settings, Several()), expectation())

    assert (found.verdict, found.reason) == (MATCH, "")
    assert sorted(found.judgements) == ["locations", "logits", "scores"]
    agreements = {name: each.errors.top1_agreement for name, each in found.judgements.items()}
    assert agreements == {"locations": None, "logits": 1.0, "scores": 1.0}


@every_format
def test_a_fault_in_one_output_is_named(tmp_path: Path, target: str, settings: Settings) -> None:
    found = verify(written(tmp_path, target, settings, Several(scores_factor=1.01)), expectation())

    assert found.verdict == MISMATCH
    assert found.reason.startswith("scores: ")
    assert np.isfinite(found.judgements["locations"].errors.sqnr_db)

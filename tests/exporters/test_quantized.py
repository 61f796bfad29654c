"""What every exporter owes a quantized form, whatever the target."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mvit_deploy import images, runtimes
from mvit_deploy.nn.channels_last import centred
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.nn.quantized import QuantizedForm, ScaledSiLU
from mvit_deploy.spec import Contract, Output, Settings
from tests.conftest import sensitive
from tests.exporters.forms import layers_of, ranges_of, rounded
from tests.exporters.test_tflite_quantized import simulated, sqnr_db

SIZE = (64, 64)
CONTRACT = Contract("xxs", "classification", "paper", SIZE, (Output("logits", (1000,)),))
SETTINGS = {
    "onnx": Settings("onnx"),
    "coreml": Settings("mlpackage", 17),
    "tflite": Settings("tflite"),
}
# The same weight twice, as a clone gives it, and the same all zeros, as branches that training begins with.
TWINS = [f"backbone.layer_3.1.transformer.{place}.attention.out" for place in range(2)]

INTEGER = "backbone.layer_3.1.transformer"  # all of a random network in 8 bits tells little


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return images.builtin_photos(SIZE).pixels


def tensors(photos: np.ndarray) -> Tensor:
    return torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 255


def form_with_twins(precision: str, factor: float, photos: np.ndarray) -> QuantizedForm:
    module = centred(fuse(sensitive("xxs")))
    first, second = (module.get_submodule(name) for name in TWINS)
    with torch.no_grad():
        second.weight.copy_(first.weight.mul_(factor))
    weights = {name: rounded(layer) for name, layer in layers_of(module).items()}
    with torch.no_grad():
        found = ranges_of(module, tensors(photos)) if precision != "w8" else {}
    ranges = {name: pair for name, pair in found.items() if name.startswith(INTEGER)}
    return QuantizedForm(module, weights, ranges).eval()


@pytest.mark.parametrize("target", SETTINGS)
@pytest.mark.parametrize("sides", [(16, 16), (8, 16), (16, 8), (8, 24)])
def test_factors_of_channels_stay_such_where_rows_or_columns_are_as_many(
    tmp_path: Path, target: str, sides: tuple[int, int]
) -> None:
    """xs at 256x256 has 128 channels of 128x128, which TFLite's converter once took for columns."""
    torch.manual_seed(0)
    factors = [torch.rand(16) + 0.5 for _ in range(2)]
    depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
    first = nn.Conv2d(3, 16, 3, stride=2, padding=1)
    module = nn.Sequential(first, ScaledSiLU(factors[0]), depthwise, ScaledSiLU(factors[1]), nn.Conv2d(16, 4, 1)).eval()
    size = (2 * sides[0], 2 * sides[1])
    contract = replace(CONTRACT, image_size=size, outputs=(Output("features", (4, *sides)),))
    exporter, path = importlib.import_module(f"exporters.{target}"), tmp_path / f"a.{SETTINGS[target].format}"

    exporter.write(exporter.lower(module, contract, SETTINGS[target]), "fp32", path)

    pixels = images.builtin_photos(size).pixels[:2]
    got = runtimes.open_file(path).run(pixels)["features"]
    with torch.no_grad():
        expected = module(tensors(pixels)).numpy()
    assert sqnr_db(reference=expected, candidate=got.transpose(0, 3, 1, 2) if target == "tflite" else got) >= 80


@pytest.mark.parametrize("target", SETTINGS)
@pytest.mark.parametrize(("precision", "factor"), [("w8", 1.0), ("w8", 0.0), ("w8a8", 1.0)])
def test_layers_with_equal_weights_are_told_apart(
    tmp_path: Path, photos: np.ndarray, target: str, precision: str, factor: float
) -> None:
    form = form_with_twins(precision, factor, photos)
    exporter, settings = importlib.import_module(f"exporters.{target}"), SETTINGS[target]
    path = tmp_path / f"a.{settings.format}"

    exporter.write(exporter.lower(form, CONTRACT, settings), precision, path)

    runner = runtimes.open_file(path)
    got = runner.run(photos)["logits"]
    expected = simulated(form, tensors(photos), 8 if precision == "w8a8" else None)
    assert sqnr_db(reference=expected, candidate=got) >= 20

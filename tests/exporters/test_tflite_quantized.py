"""Quantized TFLite files hold the integers of the form they were made from, and run on them."""

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from exporters import tflite
from mvit_deploy.errors import ConversionError
from mvit_deploy.nn.channels_last import centred
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.nn.quantized import QuantizedForm, QuantizedWeight, Range
from mvit_deploy.runtimes.census import census
from mvit_deploy.runtimes.tflite import open_file
from mvit_deploy.spec import Contract, Output, Settings
from tests.conftest import sensitive
from tests.exporters.forms import layers_of, ranges_of, rounded

SIZE = (64, 96)
CONTRACT = Contract("xxs", "classification", "paper", SIZE, (Output("logits", (1000,)),))
FLOAT = ("backbone.stem", "backbone.layer_1", "head.fc")  # layers without ranges


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def form(image: Tensor) -> QuantizedForm:
    module = centred(fuse(sensitive("xxs")))
    weights = {name: rounded(layer) for name, layer in layers_of(module).items()}
    with torch.no_grad():
        ranges = {name: pair for name, pair in ranges_of(module, image).items() if not name.startswith(FLOAT)}
    return QuantizedForm(module, weights, ranges).eval()


@pytest.fixture(scope="module")
def lowered(form: QuantizedForm) -> tflite.Lowered:
    return tflite.lower(form, CONTRACT, Settings("tflite"))


def simulated(form: QuantizedForm, image: Tensor, bits: int | None) -> np.ndarray:
    """The form in PyTorch, inputs and outputs of its integer layers rounded to their levels."""
    module = copy.deepcopy(form.module)

    def rounded_to(x: Tensor, range_: Range) -> Tensor:
        code = range_.unsigned(8) if bits == 8 else range_.symmetric(16)
        low, high = (0, 255) if bits == 8 else (-(2**15), 2**15 - 1)
        return ((x / code.scale).round().add(code.zero_point).clamp(low, high) - code.zero_point) * code.scale

    for name, pair in form.ranges.items() if bits else ():
        layer = module.get_submodule(name)
        layer.register_forward_pre_hook(lambda _, inputs, r=pair.input: (rounded_to(inputs[0], r),))
        layer.register_forward_hook(lambda _, inputs, output, r=pair.output: rounded_to(output, r))
    with torch.no_grad():
        return module(image).numpy()


def sqnr_db(*, reference: np.ndarray, candidate: np.ndarray) -> float:
    return float(10 * np.log10((reference**2).sum() / ((reference - candidate) ** 2).sum()))


KINDS = {"w8": {"dynamic", "weight-only"}, "w8a8": {"int8"}, "w8a16": {"int16"}}


@pytest.mark.parametrize(("precision", "bits", "db"), [("w8", None, 20), ("w8a8", 8, 20), ("w8a16", 16, 50)])
def test_it_agrees_with_the_simulation_and_the_census_says_what_is_integer(
    form: QuantizedForm, lowered: tflite.Lowered, image: Tensor, tmp_path: Path, precision: str, bits: int, db: float
) -> None:
    path = tmp_path / "a.tflite"
    tflite.write(lowered, precision, path)
    result = open_file(path, threads=1).invoke(image.permute(0, 2, 3, 1).numpy())["logits"]
    kinds = Counter(operation.kind for operation in census(path).operations)
    integer = form.weights if precision == "w8" else form.ranges

    assert sqnr_db(reference=simulated(form, image, bits), candidate=result) >= db
    assert sum(kinds[kind] for kind in KINDS[precision]) == len(integer)


@pytest.mark.parametrize("precision", KINDS)
def test_two_files_have_the_same_bytes(lowered: tflite.Lowered, tmp_path: Path, precision: str) -> None:
    first, second = tmp_path / "a.tflite", tmp_path / "b.tflite"
    tflite.write(lowered, precision, first)
    tflite.write(lowered, precision, second)

    assert first.read_bytes() == second.read_bytes()


def test_a_layer_whose_weight_is_not_in_the_file_is_an_error(
    form: QuantizedForm, lowered: tflite.Lowered, tmp_path: Path
) -> None:
    name = next(iter(form.weights))
    changed = QuantizedWeight(form.weights[name].levels, form.weights[name].scale * 2)
    foreign = QuantizedForm(form.module, {**form.weights, name: changed}, form.ranges)

    with pytest.raises(ConversionError, match=name):
        tflite.write(replace(lowered, form=foreign), "w8", tmp_path / "a.tflite")

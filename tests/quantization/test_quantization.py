"""Algebra, rounding, blame and plans, on small networks whose faults are known."""

import copy
import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mvit_deploy import images
from mvit_deploy.errors import UsageError
from mvit_deploy.nn.build import count_macs, seeded_segmenter
from mvit_deploy.nn.channels_last import centred
from mvit_deploy.nn.endings import measured
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.nn.quantized import Range
from mvit_deploy.quantization import clipping, equalization, network, plan, ranges, rounding, sensitivity
from mvit_deploy.quantization.graph import Graph
from mvit_deploy.quantization.trials import Trials
from tests.conftest import SIZE, sensitive


@cache
def photos() -> Tensor:
    pixels = images.builtin_photos(SIZE).pixels
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float() / 255


@cache
def module() -> nn.Module:
    return centred(fuse(sensitive("xxs", 5)))


@cache
def graph() -> Graph:
    return Graph(module(), SIZE)


def noise(expected: Tensor, found: Tensor) -> float:
    return float(((found - expected) ** 2).sum() / (expected**2).sum())


def test_the_graph_computes_what_the_module_computes_for_any_batch() -> None:
    with torch.no_grad():
        expected = module()(photos())

    assert noise(expected, graph().run(photos())) < 1e-10
    assert len(graph().layers) == len([m for m in module().modules() if isinstance(m, nn.Conv2d | nn.Linear)])


def test_equalization_is_exact_and_brings_each_channel_into_one() -> None:
    found, names = equalization.equalized(module(), graph(), photos())
    again = Graph(found, SIZE)
    observed = ranges.observed(again, photos(), [again.layers[name] for name in names], frozenset())

    assert len(names) == 7  # one pair in each inverted residual of xxs
    assert noise(graph().run(photos()), again.run(photos())) < 1e-10
    assert all(observed[again.layers[name].node.name].high <= 1 + 1e-5 for name in names)


@settings(max_examples=40, deadline=None)
@given(st.floats(-50, 0), st.floats(0.01, 50), st.sampled_from([8, 16]))
def test_a_range_keeps_zero_and_both_ends(low: float, high: float, bits: int) -> None:
    code = Range(low, high).unsigned(bits)
    values = torch.tensor([0.0, low, high])

    held = ranges.held(values.clone(), code, bits)

    assert held[0] == 0
    assert (held - values).abs().max() <= code.scale * 0.501 + 1e-6


def test_rounding_to_nearest_is_off_by_half_a_step_at_most() -> None:
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))

    found = rounding.nearest(weight)

    assert np.abs(found.levels).max() == 127
    step = found.scale.reshape(-1, 1, 1, 1)
    assert (np.abs(found.values - weight.numpy()) <= step * 0.5 + 1e-7).all()


def quarters(tensor: Tensor) -> Tensor:
    """The four quarters of each image, image after image. Shapes: (count, 3, 2H, 2W) -> (4 count, 3, H, W)."""
    rows = tensor.unflatten(2, (2, -1)).unflatten(4, (2, -1))
    return rows.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def test_fitted_weights_lose_less_than_nearest_ones() -> None:
    pixels = images.builtin_photos((2 * SIZE[0], 2 * SIZE[1])).pixels
    crops = quarters(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float() / 255)
    nearest = network.without_data(graph())
    fitted = network.fitted(graph(), crops[:24], {}, bits=0)
    expected = graph().run(crops[24:])  # of photos that nothing was fitted on

    assert noise(expected, fitted.run(graph(), crops[24:])) < noise(expected, nearest.run(graph(), crops[24:]))


SPOILED = ("stem.0", "layer_2.0.depthwise.0", "layer_2.1.reduce", "layer_3.1.local_conv.0")


@pytest.mark.parametrize("name", [f"backbone.{name}" for name in SPOILED])
def test_a_layer_spoiled_on_purpose_is_named_first_by_blame(name: str) -> None:
    """One output channel a hundred times as large takes the 8-bit levels from all others."""
    spoiled = copy.deepcopy(module())
    with torch.no_grad():
        spoiled.get_submodule(name).weight[0] *= 100
        spoiled.get_submodule(name).bias[0] *= 100
    broken = Graph(spoiled, SIZE)

    observed = ranges.observed(broken, photos()[:4], broken, frozenset())
    found = sensitivity.measure(broken, photos()[:4], observed).blame(broken)

    assert found[0].layer == name


def test_each_value_belongs_to_the_last_layer_that_it_is_made_of() -> None:
    owners = graph().owners()
    layers = {layer.name: layer.node.name for layer in graph()}
    by_place = {node.name: node for node in graph().nodes}
    for name, value in layers.items():
        assert owners[value] == name
    sums = [n for n in graph().nodes if n.target == torch.ops.aten.add.Tensor]
    assert owners[graph().input] == ""
    assert any(len({owners[source.name] for source in node.all_input_nodes}) == 2 for node in sums)
    for node in sums:  # of a sum the later layer, as the order of the operators has it
        places = [graph().place(layers[owners[s.name]]) for s in node.all_input_nodes if s.name in by_place]
        assert graph().place(layers[owners[node.name]]) == max(places)


def test_causes_add_up_to_the_noise_of_all_values_and_weights() -> None:
    found = _measured()[1]
    blame = found.blame(graph())
    weights = sum(found.weights.values())
    before, after = (sum(n.values()) - n[graph().input] for n in (found.observed, found.values))

    assert sum(each.caused for each in blame) == pytest.approx(weights + before)
    assert sum(each.left for each in blame) == pytest.approx(weights + after)
    assert all(each.left <= each.caused for each in blame)
    assert [each.caused for each in blame] == sorted((each.caused for each in blame), reverse=True)


def test_what_relu_takes_is_held_to_what_it_lets_through() -> None:
    """Its negative half would cost every value half of its levels."""
    segmenter = measured(fuse(seeded_segmenter("xxs", 5)))
    again = Graph(segmenter, SIZE)
    found = ranges.observed(again, photos()[:2], again, frozenset())

    rectified = [layer for layer in again if layer.is_rectified]
    assert {layer.name for layer in rectified} >= {"head.aspp.0.0", "head.pool_conv.0"}
    assert all(found[layer.node.name].low == 0 < found[layer.node.name].high for layer in rectified)


def test_a_rare_extreme_is_given_up_and_the_image_keeps_its_range() -> None:
    """A range far beyond what its value ever reaches is what a rare extreme makes of it."""
    observed, _ = _measured()
    value = graph().layers["backbone.layer_3.1.local_conv.0"].node.name
    wide = Range(observed[value].low * 4, observed[value].high * 4)
    given_ranges = {graph().input: observed[graph().input], value: wide}
    trials = Trials(graph(), photos()[:4])
    before = {name: trials.of_value(name, range_, 8) for name, range_ in given_ranges.items()}

    found, after = clipping.narrowed(trials, given_ranges, before, bits=8)

    assert found[graph().input] == given_ranges[graph().input]
    assert found[value].high < wide.high / 2
    assert after[value] < before[value] / 4
    assert after[value] == trials.of_value(value, found[value], 8)


def test_a_trial_that_passes_its_limit_says_so_and_one_below_it_is_exact() -> None:
    observed, _ = _measured()
    value = graph().layers["backbone.stem.0"].node.name
    trials = Trials(graph(), photos())
    whole = trials.of_value(value, observed[value], 8)

    assert trials.of_value(value, observed[value], 8, limit=2 * whole) == whole
    assert trials.of_value(value, observed[value], 8, limit=whole / 10) > whole / 10


def test_macs_of_the_layers_and_of_attention_are_those_of_the_network() -> None:
    values = graph().everything(photos()[:1])
    layers = sum(_measured()[1].macs.values())
    products = [node for node in graph().nodes if node.target == torch.ops.aten.matmul.default]
    attention = sum(values[n.name].numel() * values[n.args[0].name].shape[-1] for n in products)

    assert layers + attention == count_macs(sensitive("xxs", 5), SIZE)


@cache
def _measured() -> tuple[dict, sensitivity.Sensitivity]:
    observed = ranges.observed(graph(), photos(), graph(), frozenset())
    return observed, sensitivity.measure(graph(), photos()[:2], observed)


def test_the_frontier_gains_decibels_and_costs_multiply_accumulates_at_each_step() -> None:
    curve = plan.frontier(graph(), _measured()[1])

    assert [p.float_macs for p in curve] == sorted(p.float_macs for p in curve)
    assert all(a.predicted_db <= b.predicted_db + 1e-9 for a, b in pairwise(curve))
    assert curve[0].keep_float == ()


def test_a_part_keeps_all_its_layers_float_and_an_unknown_one_is_named() -> None:
    kept = plan.layers_named(graph(), ["backbone.layer_1", "head.fc"], "--keep-float")

    assert len(kept) == 4
    with pytest.raises(UsageError, match=r"--keep-float.*head\.fcc.*did you mean 'head\.fc'"):
        plan.layers_named(graph(), ["head.fcc"], "--keep-float")


@pytest.mark.parametrize(
    ("word", "meant"),
    [("fc", "head.fc"), ("backbone.layer_9", "backbone.layer_"), ("layer_4", "backbone.layer_4"), ("Head", "head")],
)
def test_a_hint_knows_parts_as_well_as_layers_and_the_ends_of_names(word: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"no layer '{word}'; did you mean '{meant}"):
        plan.layers_named(graph(), [word], "--keep-float")


def test_a_module_that_runs_a_layer_twice_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, image: Tensor) -> Tensor:
            return self.layer(self.layer(image))

    with pytest.raises(UsageError, match="its layer layer runs more than once"):
        Graph(Twice(), SIZE)


def test_a_layer_kept_float_keeps_its_weights_and_its_values() -> None:
    observed, _ = _measured()
    kept = ("backbone.stem.0",)
    found = network.fitted(graph(), photos()[:4], observed, bits=8, keep_float=kept)
    layer = graph().layers[kept[0]]

    assert kept[0] not in found.weights
    assert torch.equal(found.parameters[layer.weight], graph().parameters[layer.weight])
    assert layer.node.name not in found.ranges


def test_a_plan_is_read_back_from_its_file_and_from_a_report(tmp_path: Path) -> None:
    written = plan.Plan(("head.fc",), "search", ()).to_json()
    (tmp_path / "plan.json").write_text(json.dumps(written))
    (tmp_path / "report.json").write_text(json.dumps({"quantization": {"plan": written}}))
    (tmp_path / "other.json").write_text("[1]")

    assert plan.read(tmp_path / "plan.json", "xs") == plan.read(tmp_path / "report.json", "xs") == ("head.fc",)
    with pytest.raises(UsageError, match="no quantization plan"):
        plan.read(tmp_path / "other.json", "xs")


def test_the_plan_of_another_network_is_refused(tmp_path: Path) -> None:
    """Many layers have the same names in every mode, and other channels."""
    written = {"model": {"mode": "xs"}, "quantization": {"plan": {"keep_float": ["head.fc"]}}}
    (tmp_path / "report.json").write_text(json.dumps(written))

    assert plan.read(tmp_path / "report.json", "xs") == ("head.fc",)
    with pytest.raises(UsageError, match=r"report.json is the plan of a MobileViT xs, this is xxs"):
        plan.read(tmp_path / "report.json", "xxs")

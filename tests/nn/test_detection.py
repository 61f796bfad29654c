"""SSDLite: counts, anchors and decoding as published; a deployment form that computes the same."""

import math
import re
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mvit_deploy import parity
from mvit_deploy.errors import ShapeError, UsageError
from mvit_deploy.nn.anchors import anchors_of_image, anchors_per_point, map_sizes
from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.build import count_macs, count_parameters, seeded_detector
from mvit_deploy.nn.channels_last import channels_last
from mvit_deploy.nn.endings import measured
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.nn.heads.detection import Decoded, Detector, detector
from mvit_deploy.parity import TOLERANCES

# apple/ml-cvnets v0.1 with 81 classes at 320x320.
PARAMETERS = {"xxs": 1_755_050, "xs": 2_742_042, "s": 5_738_826}
MEGA_MACS = {"xxs": 842, "xs": 1845, "s": 3427}


@pytest.mark.parametrize("mode", PARAMETERS)
def test_counts_are_the_published_ones(mode: str) -> None:
    model = detector(mode)

    assert count_parameters(model) == PARAMETERS[mode]
    assert round(count_macs(model, (320, 320)) / 1e6) == MEGA_MACS[mode]


def test_an_image_of_320_has_3232_anchors_and_a_row_for_each() -> None:
    """6 * (400 + 100 + 25 + 9 + 4) + 4."""
    with torch.no_grad():
        locations, logits = seeded_detector("xxs")(torch.rand(2, 3, 320, 320))

    assert anchors_of_image((320, 320)).shape == (3232, 4)
    assert (locations.shape, logits.shape) == ((2, 3232, 4), (2, 3232, 81))


def test_the_first_anchors_are_those_of_ml_cvnets() -> None:
    """Around the centre of the first point of the 20x20 map: squares of 0.1 and of sqrt(0.1 * 0.2583), then ratios."""
    sides = [(0.1, 0.1), (0.1607, 0.1607), (0.1414, 0.0707), (0.0707, 0.1414), (0.1732, 0.0577), (0.0577, 0.1732)]
    expected = torch.tensor([(0.025, 0.025, *side) for side in sides])

    assert torch.allclose(anchors_of_image((320, 320))[:6], expected, atol=5e-5)


def test_a_single_point_has_four_anchors_around_the_middle() -> None:
    """A square of 0.8917, one of 0.9676, and a ratio of 2 lying and standing, cut to the image."""
    last = anchors_of_image((320, 320))[-4:]

    expected = [(0.8917, 0.8917), (0.9676, 0.9676), (1.0, 0.6305), (0.6305, 1.0)]
    assert torch.allclose(last, torch.tensor([(0.5, 0.5, *side) for side in expected]), atol=5e-5)
    assert anchors_per_point() == (6, 6, 6, 6, 6, 4)


@given(st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=10, deadline=None)
def test_every_anchor_has_its_row_at_any_size(rows: int, columns: int) -> None:
    """Rows are in the order of the maps, then of the points: the anchors of a map lie around its points."""
    size = (32 * rows, 32 * columns)
    sizes = map_sizes(size)
    anchors = anchors_of_image(size)

    assert len(anchors) == sum(h * w * n for (h, w), n in zip(sizes, anchors_per_point(), strict=True))
    height, width = sizes[0]
    centres = anchors[: height * width * 6 : 6, :2]
    expected = [((x + 0.5) / width, (y + 0.5) / height) for y in range(height) for x in range(width)]
    assert torch.allclose(centres, torch.tensor(expected))
    assert ((anchors >= 0) & (anchors <= 1)).all()


def test_the_maps_have_the_sizes_that_the_anchors_are_made_for() -> None:
    """On an image with odd maps on the way, and not square."""
    with torch.no_grad():
        locations, _ = seeded_detector("xxs", 2)(torch.rand(1, 3, 96, 160))

    assert locations.shape[1] == len(anchors_of_image((96, 160)))


def test_a_size_that_does_not_work_is_refused() -> None:
    with pytest.raises(ShapeError, match="multiples of 32"):
        anchors_of_image((320, 300))
    with pytest.raises(ShapeError, match="anchors are those of a 64x96 image, not of 96x64"):
        Decoded(seeded_detector("xxs", 3), (64, 96))(torch.zeros(1, 3, 96, 64))
    with pytest.raises(UsageError, match="output stride 32, not 16"):
        Detector(MobileViT("xxs", output_stride=16), seeded_detector("xxs", 5).head)
    with pytest.raises(UsageError, match="at least one class"):
        detector("xxs", 1)


class Fixed(torch.nn.Module):
    """A head that says the same of every image."""

    def __init__(self, *outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, *_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.outputs


def test_boxes_are_decoded_as_the_paper_has_it() -> None:
    """Centres move by a tenth of the anchor's side, sides grow by exp(0.2); by hand for each of some anchors."""
    anchors = anchors_of_image((64, 32)).double()
    draw = torch.Generator().manual_seed(0)
    locations = torch.randn(1, len(anchors), 4, generator=draw)
    logits = torch.randn(1, len(anchors), 3, generator=draw)

    model = seeded_detector("xxs", 3)
    model.head = Fixed(locations, logits)

    boxes, scores = Decoded(model, (64, 32))(torch.zeros(1, 3, 64, 32))

    for place in range(0, len(anchors), 7):
        (x, y, w, h), (dx, dy, dw, dh) = anchors[place].tolist(), locations[0, place].tolist()
        x, y, w, h = x + 0.1 * dx * w, y + 0.1 * dy * h, w * math.exp(0.2 * dw), h * math.exp(0.2 * dh)
        expected = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        assert boxes[0, place].tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.allclose(scores.sum(dim=2), torch.ones(1, len(anchors)))
    assert torch.equal(scores.argmax(dim=2), logits.argmax(dim=2))


@pytest.mark.parametrize("size", [(96, 160), (320, 320)])
def test_the_deployment_forms_compute_the_same(size: tuple[int, int]) -> None:
    model, image = Decoded(seeded_detector("xxs"), size), torch.rand(1, 3, *size)
    fused = fuse(model)

    with torch.no_grad():
        expected = model(image)
        for form in (fused, channels_last(fused)):
            for found, wanted in zip(form(image), expected, strict=True):
                assert ((found - wanted).abs().max() / wanted.abs().max()).item() <= 1e-5


def test_random_weights_give_scores_that_differ_from_anchor_to_anchor() -> None:
    """A head that says background everywhere would hide every fault."""
    with torch.no_grad():
        locations, logits = seeded_detector("xxs")(torch.rand(1, 3, 320, 320))

    assert len(logits.argmax(dim=2).unique()) > 20
    assert logits.softmax(dim=2).max().item() < 0.99
    assert 0.3 < logits.std().item() < 2
    assert locations.abs().max().item() < 15  # sides grow by exp(0.2 of it)


def test_no_shape_operator_is_in_an_export() -> None:
    model, image = Decoded(seeded_detector("xxs", 3), (96, 160)).eval(), torch.rand(1, 3, 96, 160)

    traced = {node.kind() for node in torch.jit.trace(model, image, check_trace=False).inlined_graph.nodes()}
    exported = {str(node.target) for node in torch.export.export(model, (image,)).graph.nodes}

    assert not traced & {"aten::size", "aten::Int", "prim::NumToTensor", "prim::If", "prim::Loop"}
    assert not any("sym_size" in target for target in exported)


# The head, part by part

CLASSES = 5
# What has weights in the head, by the names that loaders of checkpoints rest on.
HEAD_MODULES = (
    [f"extra.{i}.{part}" for i in range(3) for part in ("depthwise", "pointwise")]
    + ["pool_conv", "proj.0", "proj.1"]
    + [f"predict.{i}.{part}" for i in range(5) for part in ("depthwise", "pointwise")]
    + ["predict.5"]
)


@cache
def sensitive_detector(mode: str = "xxs", num_classes: int = CLASSES) -> Detector:
    """Shared: not to be modified."""
    return seeded_detector(mode, num_classes)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


def some_image(height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def some_maps(height: int, width: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        maps = sensitive_detector().backbone.maps(some_image(height, width, batch))
    return maps["layer_4"], maps["layer_5"]


def test_the_keys_are_the_documented_ones() -> None:
    """Loaders of other people's checkpoints rest on them."""
    keys = sensitive_detector().state_dict()

    owners = {re.sub(r"(\.conv|\.bn)?\.\w+$", "", key) for key in keys}
    assert {owner.removeprefix("head.") for owner in owners if owner.startswith("head.")} == set(HEAD_MODULES)
    assert {key for key in keys if key.startswith("backbone.")} == {
        f"backbone.{key}" for key in MobileViT("xxs").state_dict() if "conv_exp" not in key
    }


def test_a_prediction_stands_where_its_anchor_stands() -> None:
    """One pixel of a map changes the predictions of its own cell and of those round it, and no others."""
    layer_4, layer_5 = some_maps(64, 96)
    head = sensitive_detector().head
    changed = layer_4.clone()
    changed[:, :, 3, 5] += 1

    with torch.no_grad():
        difference = (head(changed, layer_5)[1] - head(layer_4, layer_5)[1]).abs().amax(dim=(0, 2))

    cells = {(y, x) for y in (2, 3) for x in (4, 5)}  # what a 3x3 convolution sees of the last of 4x6 cells
    expected = {(y * 6 + x) * 6 + n for y, x in cells for n in range(6)}
    assert set(difference.nonzero().flatten().tolist()) == expected


def test_a_channel_is_a_value_of_an_anchor_locations_first() -> None:
    """On the last map, one cell of 4 anchors, channel a * (4 + classes) + value belongs to anchor a."""
    head = seeded_detector("xxs", CLASSES).head
    with torch.no_grad():
        head.predict[5].weight.zero_()
        head.predict[5].bias.copy_(torch.arange(4 * (4 + CLASSES)))
        locations, logits = head(*some_maps(64, 64))

    rows = torch.arange(4 * (4 + CLASSES)).reshape(4, -1).float()
    assert torch.equal(locations[0, -4:], rows[:, :4])
    assert torch.equal(logits[0, -4:], rows[:, 4:])


def test_the_deployment_form_of_the_head_alone_is_closer_still() -> None:
    head, maps = sensitive_detector().head, some_maps(128, 160)

    with torch.no_grad():
        for found, expected in zip(fuse(head)(*maps), head(*maps), strict=True):
            assert relative(found, expected) <= 1e-6


class Recipe:
    """The head once more, written down from ml-cvnets v0.1's modules/ssd.py with bare functions and a state dict."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = state

    def conv(self, name: str, x: torch.Tensor, **options: int) -> torch.Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), **options)

    def conv_norm(self, name: str, x: torch.Tensor, **options: int) -> torch.Tensor:
        norm = (self.state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(self.conv(f"{name}.conv", x, **options), *norm, eps=1e-5)

    def depthwise(self, name: str, x: torch.Tensor, stride: int) -> torch.Tensor:
        return self.conv_norm(f"{name}.depthwise", x, stride=stride, padding=1, groups=x.shape[1])  # no activation

    def maps(self, os_16: torch.Tensor, os_32: torch.Tensor) -> list[torch.Tensor]:
        found = [self.conv_norm("proj.0", os_16).relu(), self.conv_norm("proj.1", os_32).relu()]
        for i in range(3):
            before = found[-1] if i else os_32  # the extra layers start before the projection
            found.append(self.conv_norm(f"extra.{i}.pointwise", self.depthwise(f"extra.{i}", before, 2)).relu())
        return [*found, self.conv("pool_conv", F.adaptive_avg_pool2d(found[-1], 1)).relu()]

    def predictions(self, *maps: torch.Tensor) -> torch.Tensor:
        *mapped, pooled = self.maps(*maps)
        found = [
            self.conv(f"predict.{i}.pointwise", self.depthwise(f"predict.{i}", x, 1)) for i, x in enumerate(mapped)
        ]
        found.append(self.conv("predict.5", pooled))
        return torch.cat([x.permute(0, 2, 3, 1).reshape(len(x), -1, 4 + CLASSES) for x in found], dim=1)


def test_the_head_follows_the_recipe_with_its_activations_where_they_belong() -> None:
    head, maps = sensitive_detector().head, some_maps(128, 160, batch=2)
    with torch.no_grad():
        expected = Recipe(head.state_dict()).predictions(*maps)
        locations, logits = head(*maps)

    assert relative(torch.cat((locations, logits), dim=2), expected) <= 1e-6


@pytest.mark.parametrize("name", HEAD_MODULES)
def test_every_part_of_the_head_shows_in_the_output(name: str) -> None:
    """A fault of one output channel that is taken for the next must exceed the floor by far."""
    maps = some_maps(128, 160)
    model = seeded_detector("xxs", CLASSES)
    part = model.head.get_submodule(name)
    weight = (part if isinstance(part, nn.Conv2d) else part.conv).weight

    with torch.no_grad():
        expected = sensitive_detector().head(*maps)
        weight.copy_(weight.roll(1, 0))
        difference = max(relative(f, e) for f, e in zip(model.head(*maps), expected, strict=True))

    assert difference > 20 * TOLERANCES["fp32"].rel_max_each


def test_training_reaches_every_parameter() -> None:
    model = detector("xxs", CLASSES).train()

    loss = sum(output.square().mean() for output in model(some_image(64, 96, batch=2)))
    loss.backward()

    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_what_quantization_measures_of_a_detector_is_no_row_of_classes() -> None:
    """Of a row the largest value would count as the class of the image, and a plan that changes it as a bad one."""
    with torch.no_grad():
        found = measured(seeded_detector("xxs", 4, seed=0).eval())(torch.zeros(1, 3, 64, 64))

    assert found.ndim == 3
    assert parity.class_axis("features", found.ndim) is None

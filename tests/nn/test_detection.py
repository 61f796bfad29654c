"""SSDLite: counts, anchors and decoding as published; a deployment form that computes the same."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_deploy.errors import ShapeError, UsageError
from mvit_deploy.nn.anchors import anchors_of_image, anchors_per_point, map_sizes
from mvit_deploy.nn.build import count_macs, count_parameters, seeded_detector
from mvit_deploy.nn.channels_last import channels_last
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.nn.heads.detection import Decoded, detector

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

"""Each box has an anchor, each anchor at most one box, and the locations lead from the one to the other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mvit_deploy.errors import ShapeError, UsageError
from mvit_deploy.nn.anchors import anchors_of_image
from mvit_deploy.nn.heads.detection import Decoded, detector
from mvit_deploy.training.matching import corners_of, encoded, intersection_over_union, matched

SIZE = (64, 96)
ANCHORS = anchors_of_image(SIZE)
# Left to right: four squares of a half beside each other, as centre x, centre y, width, height.
ROW = torch.tensor([[x, 0.5, 0.5, 0.5] for x in (0.25, 0.75, 1.25, 1.75)])


@st.composite
def boxes(draw: st.DrawFn, most: int = 6) -> Tensor:
    """Corners in hundredths of the image, at least two hundredths wide and high."""
    found = []
    for _ in range(draw(st.integers(1, most))):
        left, top = draw(st.integers(0, 97)), draw(st.integers(0, 97))
        found.append((left, top, draw(st.integers(left + 2, 100)), draw(st.integers(top + 2, 100))))
    return torch.tensor(found) / 100


class Fixed(nn.Module):
    """A head that gives the same locations for every image."""

    def __init__(self, locations: Tensor) -> None:
        super().__init__()
        self.locations = locations

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor]:
        return self.locations[None], torch.zeros(1, len(self.locations), 2)


def decoded(locations: Tensor) -> Tensor:
    """Boxes of the deployed network's own last layer. Shapes: (A, 4) -> (A, 4), corners."""
    model = detector("xxs", 2)
    model.head = Fixed(locations)
    with torch.no_grad():
        return Decoded(model.eval(), SIZE)(torch.zeros(1, 3, *SIZE))[0][0]


@settings(max_examples=15, deadline=None)
@given(boxes())
def test_the_network_decodes_what_was_encoded(truth: Tensor) -> None:
    wanted = truth[torch.arange(len(ANCHORS)) % len(truth)]

    assert torch.allclose(decoded(encoded(ANCHORS, wanted)), wanted, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(boxes())
def test_every_box_has_an_anchor_that_decodes_to_it(truth: Tensor) -> None:
    labels, locations = matched(ANCHORS, truth, torch.arange(1, len(truth) + 1))

    found = decoded(locations)
    for label, box in enumerate(truth, 1):
        own = found[labels == label]
        assert len(own)
        assert torch.allclose(own, box.expand_as(own), atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(boxes())
def test_an_anchor_follows_the_largest_overlap_or_is_some_boxs_own(truth: Tensor) -> None:
    labels, locations = matched(ANCHORS, truth, torch.arange(1, len(truth) + 1))

    best, nearest = intersection_over_union(corners_of(ANCHORS), truth).max(dim=1)
    by_rule = torch.where(best >= 0.5, nearest + 1, 0)
    assert int((labels != by_rule).sum()) <= len(truth)
    assert set(labels[labels != by_rule].tolist()) <= set(range(1, len(truth) + 1)), "own anchors are never background"
    assert not locations[labels == 0].any()


def test_overlaps_are_those_counted_by_hand() -> None:
    """Unit squares a third apart share 2/3 of 4/3; those that touch or lie apart, both ways, nothing."""
    square = torch.tensor([[0.0, 0, 1, 1]])
    others = torch.tensor([[0, 0, 1, 1], [1 / 3, 0, 4 / 3, 1], [1, 0, 2, 1], [0, 0, 0.5, 0.5], [2, 2, 3, 3]])

    assert intersection_over_union(square, others)[0].tolist() == pytest.approx([1, 0.5, 0, 0.25, 0])


def test_encoding_is_the_published_arithmetic() -> None:
    """A centre off by a tenth of the anchor is 1 in units of 0.1; a width twice as large is ln 2 / 0.2."""
    anchor, box = torch.tensor([[0.5, 0.5, 0.2, 0.4]]), torch.tensor([[0.32, 0.26, 0.72, 0.66]])

    assert encoded(anchor, box)[0].tolist() == pytest.approx([1, -1, 3.4657359, 0], abs=1e-4)


@pytest.mark.parametrize(("right", "expected"), [(1.0, [1, 1, 0, 0]), (0.99, [1, 0, 0, 0])])
def test_one_half_is_enough_for_an_anchor_that_is_not_the_best(right: float, expected: list[int]) -> None:
    """Over two anchors the box has one half of each; a little narrower, less than that of the second."""
    labels, _ = matched(ROW, torch.tensor([[0.0, 0.25, right, 0.75]]), torch.tensor([1]))

    assert labels.tolist() == expected


def test_a_box_that_overlaps_little_has_its_best_anchor_all_the_same() -> None:
    labels, _ = matched(ROW, torch.tensor([[1.1, 0.4, 1.2, 0.5]]), torch.tensor([7]))

    assert labels.tolist() == [0, 0, 7, 0]


def test_two_boxes_of_one_best_anchor_both_have_one() -> None:
    """The nearer one takes it; the other has the next best, though it hardly touches that."""
    truth = torch.tensor([[0.1, 0.3, 0.52, 0.7], [0.0, 0.25, 0.5, 0.75]])

    labels, _ = matched(ROW, truth, torch.tensor([1, 2]))

    assert labels.tolist() == [2, 1, 0, 0]


def test_the_threshold_is_the_given_one() -> None:
    labels, _ = matched(ROW, torch.tensor([[0.0, 0.25, 0.9, 0.75]]), torch.tensor([1]), iou=0.35)

    assert labels.tolist() == [1, 1, 0, 0]


def test_an_image_without_boxes_is_background() -> None:
    labels, locations = matched(ANCHORS, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))

    assert labels.dtype == torch.int64
    assert locations.shape == ANCHORS.shape
    assert not labels.any()
    assert not locations.any()


@pytest.mark.parametrize(
    "box", [[0.5, 0.1, 0.4, 0.9], [0.1, 0.5, 0.9, 0.5], [0.1, 0.1, float("nan"), 0.5], [0.1, 0.1, float("inf"), 0.5]]
)
def test_a_box_that_has_no_area_is_refused(box: list[float]) -> None:
    with pytest.raises(UsageError, match="not finite or has no area"):
        matched(ANCHORS, torch.tensor([[0.1, 0.1, 0.2, 0.2], box]), torch.tensor([1, 1]))


def test_the_background_is_no_label_of_a_box() -> None:
    with pytest.raises(UsageError, match="0 is the background"):
        matched(ANCHORS, torch.tensor([[0.1, 0.1, 0.2, 0.2]]), torch.tensor([0]))


@pytest.mark.parametrize(
    ("anchors", "truth", "labels", "message"),
    [
        ((5, 3), (1, 4), (1,), "anchors and boxes"),
        ((5, 4), (4,), (1,), "anchors and boxes"),
        ((5, 4), (2, 4), (1,), "2 boxes need as many labels"),
        ((5, 4), (6, 4), (6,), "more than the 5 anchors"),
    ],
)
def test_shapes_that_do_not_fit_are_named(
    anchors: tuple[int, ...], truth: tuple[int, ...], labels: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        matched(torch.ones(anchors), torch.ones(truth), torch.ones(labels, dtype=torch.int64))

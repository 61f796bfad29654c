"""Losses by hand: what counts, how much, and what is left out."""

from math import log

import pytest
import torch

from mvit_deploy.training.losses import multibox_loss, segmentation_loss

LN2 = log(2)


def entropy(margin: float) -> float:
    """Cross entropy of two classes whose right one has a logit lower by margin: ln(1 + e^margin)."""
    return log(1 + 2.718281828459045**margin)


def test_one_positive_and_its_three_hardest_negatives_count() -> None:
    """Of five anchors of the background, those with margins 3, 2 and 1 are counted, the easy ones are not."""
    margins = [-4.0, 1.0, -5.0, 3.0, 2.0, 0.5]  # the first is the positive, and harder than all
    logits = torch.tensor([[[0.0, margin] for margin in margins]])
    labels = torch.tensor([[1, 0, 0, 0, 0, 0]])
    locations = torch.zeros(1, 6, 4)
    targets = torch.zeros(1, 6, 4)
    targets[0, 0] = torch.tensor([0.5, -2.0, 0, 0])  # smooth L1: 0.125 and 1.5
    targets[0, 1] = 100  # the background has no box

    loss = multibox_loss(locations, logits, labels, targets)

    assert float(loss) == pytest.approx(1.625 + entropy(4) + entropy(3) + entropy(2) + entropy(1), rel=1e-6)


def test_the_sum_is_divided_by_the_positives_of_the_batch() -> None:
    """Two positives in one image, none in the other, whose hard negative does not count; all else is a coin toss."""
    labels = torch.tensor([[1, 1, 0], [0, 0, 0]])
    logits = torch.zeros(2, 3, 2)
    logits[1, 0, 1] = 50

    loss = multibox_loss(torch.zeros(2, 3, 4), logits, labels, torch.zeros(2, 3, 4))

    assert float(loss) == pytest.approx(3 * LN2 / 2)


@pytest.mark.parametrize(("negatives", "counted"), [(0, 1), (1, 2), (2, 3)])
def test_the_number_of_negatives_is_the_given_one(negatives: int, counted: int) -> None:
    zeros = torch.zeros(1, 5, 4)

    loss = multibox_loss(zeros, torch.zeros(1, 5, 2), torch.tensor([[0, 1, 0, 0, 0]]), zeros, negatives)

    assert float(loss) == pytest.approx(counted * LN2)


def test_a_batch_without_positives_is_zero_and_moves_nothing() -> None:
    locations, logits = torch.randn(2, 7, 4, requires_grad=True), torch.randn(2, 7, 3, requires_grad=True)

    loss = multibox_loss(locations, logits, torch.zeros(2, 7, dtype=torch.int64), torch.zeros(2, 7, 4))
    loss.backward()

    assert loss.item() == 0
    assert not logits.grad.any()
    assert not locations.grad.any()


def test_only_what_counts_moves() -> None:
    logits = torch.zeros(1, 6, 2)
    logits[0, :, 1] = torch.arange(6.0)
    logits.requires_grad_()
    zeros = torch.zeros(1, 6, 4)

    multibox_loss(zeros, logits, torch.tensor([[1, 0, 0, 0, 0, 0]]), zeros).backward()

    assert logits.grad[0].any(dim=1).tolist() == [True, False, False, True, True, True]


def test_points_of_255_do_not_count() -> None:
    logits = torch.tensor([[[[0.0, 5.0]], [[0.0, 0.0]]]])  # the first a coin toss, the second wrong by 5

    assert float(segmentation_loss(logits, torch.tensor([[[1, 255]]]))) == pytest.approx(LN2)
    assert float(segmentation_loss(logits, torch.tensor([[[1, 1]]]))) == pytest.approx((LN2 + entropy(5)) / 2)


def test_a_mask_without_classes_is_zero_and_moves_nothing() -> None:
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)

    loss = segmentation_loss(logits, torch.full((1, 8, 8), 255))
    loss.backward()

    assert loss.item() == 0
    assert not logits.grad.any()


def test_logits_are_brought_to_the_mask_with_half_pixel_centres() -> None:
    """Of two columns 0 and 4, four have 0, 1, 3 and 4."""
    logits = torch.tensor([[[[0.0, 4.0]], [[0.0, 0.0]]]])

    loss = segmentation_loss(logits, torch.ones(1, 1, 4, dtype=torch.int64))

    assert float(loss) == pytest.approx(sum(entropy(margin) for margin in (0, 1, 3, 4)) / 4)

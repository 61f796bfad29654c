"""mAP and mIoU on scenes small enough to count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_deploy.detection import Detections
from mvit_deploy.errors import ShapeError, UsageError
from mvit_deploy.training.metrics import (
    Truth,
    average_precisions,
    class_ious,
    confusion,
    mean_average_precision,
    mean_iou,
)


def square(place: float) -> list[float]:
    """A unit square at a place on the x axis; those whose places differ by one or more have nothing in common."""
    return [place, 0, place + 1, 1]


def found(*rows: tuple[float, float, int]) -> Detections:
    """(place, score, class) of each, the best first."""
    boxes = np.array([square(place) for place, _, _ in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([r[1] for r in rows], np.float32), np.array([r[2] for r in rows], np.int64))


def truth(*rows: tuple[float, int]) -> Truth:
    """(place, class) of each."""
    boxes = np.array([square(place) for place, _ in rows], np.float32).reshape(-1, 4)
    return Truth(boxes, np.array([label for _, label in rows], np.int64))


def test_area_under_the_curve_by_hand() -> None:
    """Right, wrong, right, wrong of three boxes: precision 1, 1/2, 2/3, 1/2 at recall 1/3, 1/3, 2/3, 2/3."""
    detections = [found((0, 0.9, 1), (5, 0.8, 1), (2, 0.7, 1), (7, 0.6, 1))]

    assert mean_average_precision(detections, [truth((0, 1), (2, 1), (9, 1))], 2) == pytest.approx((1 + 2 / 3) / 3)


def test_a_later_better_precision_counts_for_earlier_recalls() -> None:
    """Wrong, right, right: precision 0, 1/2, 2/3, and so 2/3 at every recall."""
    detections = [found((5, 0.9, 1), (0, 0.8, 1), (2, 0.7, 1))]

    assert mean_average_precision(detections, [truth((0, 1), (2, 1))], 2) == pytest.approx(2 / 3)


def test_scores_are_ordered_over_all_pictures() -> None:
    """The wrong one of the second picture lies between the right ones of the first."""
    detections = [found((0, 0.9, 1), (2, 0.5, 1)), found((4, 0.7, 1))]

    assert mean_average_precision(detections, [truth((0, 1), (2, 1)), truth()], 2) == pytest.approx((1 + 2 / 3) / 2)


def test_a_second_detection_of_a_box_is_wrong() -> None:
    detections = [found((0, 0.9, 1), (0.1, 0.8, 1), (2, 0.7, 1))]

    assert mean_average_precision(detections, [truth((0, 1), (2, 1))], 2) == pytest.approx((1 + 2 / 3) / 2)


def test_a_box_of_another_picture_is_not_found() -> None:
    assert mean_average_precision([found((0, 0.9, 1)), found()], [truth(), truth((0, 1))], 2) == 0


@pytest.mark.parametrize(("shift", "expected"), [(0.25, 1), (0.4, 0)])
def test_one_half_is_the_least_overlap(shift: float, expected: float) -> None:
    """Unit squares a quarter apart have 3/5 in common, two fifths apart 3/7."""
    assert mean_average_precision([found((shift, 0.9, 1))], [truth((0, 1))], 2) == expected


def test_exactly_one_half_is_enough() -> None:
    half = Detections(np.array([[0, 0, 0.5, 1]], np.float32), np.array([0.9], np.float32), np.array([1]))

    assert mean_average_precision([half], [truth((0, 1))], 2) == 1


def test_classes_are_judged_apart_and_those_without_boxes_not_at_all() -> None:
    detections = [found((0, 0.9, 2), (2, 0.8, 2), (4, 0.7, 3))]

    precisions = average_precisions(detections, [truth((0, 1), (2, 2))], 4)

    assert precisions.tolist() == pytest.approx([0, 0.5, np.nan], nan_ok=True)
    assert mean_average_precision(detections, [truth((0, 1), (2, 2))], 4) == pytest.approx(0.25)


def test_nothing_found_is_zero_and_nothing_there_is_an_error() -> None:
    assert mean_average_precision([found()], [truth((0, 1))], 2) == 0
    with pytest.raises(UsageError, match="no picture has a box"):
        mean_average_precision([found((0, 0.9, 1))], [truth()], 2)


def test_pictures_and_truths_must_be_as_many() -> None:
    with pytest.raises(ShapeError, match="2 pictures of detections and 1 of truth"):
        average_precisions([found(), found()], [truth()], 2)


def test_iou_from_a_matrix_by_hand() -> None:
    """Class 0: 2 right of 2 + 1; class 1: 1 right of 1 + 1 missed; class 2 is nowhere."""
    actual = np.array([[0, 0, 1], [1, 255, 255]], np.uint8)
    predicted = np.array([[0, 0, 0], [1, 0, 2]])

    matrix = confusion(predicted, actual, 3)

    assert matrix.tolist() == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert class_ious(matrix).tolist() == pytest.approx([2 / 3, 1 / 2, np.nan], nan_ok=True)
    assert mean_iou(matrix) == pytest.approx(7 / 12)


def test_a_class_that_is_predicted_and_not_there_counts_as_zero() -> None:
    assert mean_iou(confusion(np.array([0, 2]), np.array([0, 0]), 3)) == pytest.approx((1 / 2 + 0) / 2)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_a_confusion_matrix_counts_every_pair(pairs: list[tuple[int, int]]) -> None:
    actual, predicted = np.array(pairs).T

    matrix = confusion(predicted, actual, 4)

    assert all(matrix[a, p] == pairs.count((a, p)) for a in range(4) for p in range(4))


def test_a_mask_of_unknown_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="from 0 to 1, not from 0 to 2"):
        confusion(np.array([0, 1]), np.array([2, 0]), 2)
    with pytest.raises(ShapeError, match="one shape"):
        confusion(np.zeros((2, 2)), np.zeros((2, 3)), 2)
    with pytest.raises(UsageError, match="no point of any mask"):
        mean_iou(confusion(np.zeros(3, int), np.full(3, 255), 2))

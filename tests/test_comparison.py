"""Two files compared: labels, contracts, detections, by hand."""

import numpy as np
import pytest

from mvit_deploy import comparison
from mvit_deploy.comparison import contract
from mvit_deploy.comparison.detections import match
from mvit_deploy.comparison.labels import changes
from mvit_deploy.detection import Detections
from mvit_deploy.errors import UsageError


@pytest.mark.parametrize("labels", [None, [], ["a"], ["crane", "crane", "b"]])
def test_the_same_labels_are_no_change(labels: list[str] | None) -> None:
    assert not changes(labels, labels)


def test_a_label_that_only_one_list_has_at_its_place_is_renamed() -> None:
    found = changes(["a", "b", "c"], ["a", "x", "c"])

    assert found.renamed == ((1, "b", "x"),)
    assert (found.added, found.removed, found.moved) == ((), (), ())


def test_a_label_in_front_moves_all_others() -> None:
    found = changes(["a", "b"], ["background", "a", "b"])

    assert found.added == ((0, "background"),)
    assert found.moved == (("a", 0, 1), ("b", 1, 2))
    assert found.counts == (2, 3)


def test_two_labels_that_change_places_are_moved_and_none_is_new() -> None:
    found = changes(["a", "b", "c"], ["c", "b", "a"])

    assert found.moved == (("a", 0, 2), ("c", 2, 0))
    assert (found.added, found.removed, found.renamed) == ((), (), ())


def test_labels_that_repeat_are_told_apart_by_their_order() -> None:
    """ImageNet has two cranes: a bird and a machine."""
    found = changes(["crane", "b", "crane"], ["crane", "crane", "b"])

    assert found.moved == (("b", 1, 2), ("crane", 2, 1))


def test_no_labels_and_an_empty_list_differ() -> None:
    assert changes(None, [])
    assert changes(["a"], None).removed == ((0, "a"),)


def _found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


def test_detections_match_by_class_and_half_an_overlap() -> None:
    """The second box is moved by a third of its width (IoU 2/4 = 0.5), the third by more, the last is of another
    class."""
    first = _found((0, 0, 3, 3, 0.9, 1), (0, 0, 3, 1, 0.8, 1), (5, 5, 8, 6, 0.7, 1), (9, 9, 10, 10, 0.6, 1))
    second = _found((0, 0, 3, 3, 0.85, 1), (1, 0, 4, 1, 0.7, 1), (6.6, 5, 9.6, 6, 0.7, 1), (9, 9, 10, 10, 0.6, 2))

    found = match([first], [second])

    assert (found.a, found.b, found.matched, found.share) == (4, 4, 2, 0.5)
    assert found.largest_score_difference == pytest.approx(0.1, abs=1e-6)


def test_a_detection_is_matched_once() -> None:
    found = match([_found((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 1, 0.8, 1))], [_found((0, 0, 1, 1, 0.9, 1))])

    assert (found.a, found.b, found.matched, found.share) == (2, 1, 1, 0.5)


def test_images_do_not_lend_each_other_detections_and_nothing_matches_nothing() -> None:
    box = _found((0, 0, 1, 1, 0.9, 1))

    assert match([box, _found()], [_found(), box]).matched == 0
    nothing = match([_found()], [_found()])
    assert (nothing.share, nothing.largest_score_difference) == (1.0, None)


def test_what_may_differ_are_the_fields_the_labels_and_the_numbers() -> None:
    assert comparison.check_allowed(["version", "numbers"]) == {"version", "numbers"}
    assert {*contract.FIELDS, "labels", "numbers"} == set(comparison.MAY_DIFFER)
    with pytest.raises(UsageError, match="did you mean 'precision'"):
        comparison.check_allowed(["precison"])

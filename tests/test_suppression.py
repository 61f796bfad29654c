"""A list of detections is held to the rule of suppression: what obeys it passes, whatever else does not."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mvit_deploy.detection import Detections, intersection_and_union, non_maximum_suppression
from mvit_deploy.spec import Suppression
from mvit_deploy.suppression import faults

RULE = Suppression(score_threshold=0.25, iou_threshold=0.5, kept_per_class=3)
SIXTEENTHS = st.integers(0, 16).map(lambda n: n / 16)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4), some without area, and scores (n, 2); equal scores are common."""
    corners = draw(st.lists(st.tuples(*[SIXTEENTHS] * 4), min_size=1, max_size=10))
    boxes = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners]
    scores = [[draw(st.integers(0, 8)) / 8 for _ in range(2)] for _ in corners]
    return np.array(boxes, np.float32), np.array(scores, np.float32)


def found_in(boxes: np.ndarray, scores: np.ndarray, rule: Suppression) -> Detections:
    with_background = np.pad(scores, ((0, 0), (1, 0)))
    return non_maximum_suppression(
        boxes,
        with_background,
        score_threshold=rule.score_threshold,
        iou_threshold=rule.iou_threshold,
        kept_per_class=rule.kept_per_class,
    )


def only(found: Detections, places: list[int]) -> Detections:
    return Detections(found.boxes[places], found.scores[places], found.classes[places])


@settings(max_examples=200, deadline=None)
@given(scenes(), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_what_the_numpy_function_finds_obeys_the_rule(scene: tuple[np.ndarray, np.ndarray], overlap: float) -> None:
    rule = replace(RULE, iou_threshold=overlap)

    assert faults(found_in(*scene, rule), *scene, rule) == []


@settings(max_examples=200, deadline=None)
@given(scenes(), st.randoms(use_true_random=False))
def test_equal_scores_may_fall_either_way(scene: tuple[np.ndarray, np.ndarray], random: object) -> None:
    boxes, scores = scene
    order = list(range(len(boxes)))
    random.shuffle(order)

    assert faults(found_in(boxes[order], scores[order], RULE), boxes, scores, RULE) == []


@settings(max_examples=200, deadline=None)
@given(scenes(), st.data())
def test_a_detection_that_is_left_out_is_missed(scene: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    """Unless another box as good stands for it, or an overlap is so near the threshold that it may fall either way."""
    boxes, scores = scene
    areas = np.hstack([intersection_and_union(box, boxes) for box in boxes]).T
    assume(all(abs(common / union - RULE.iou_threshold) > 0.01 for common, union in areas if union))
    found = found_in(boxes, scores, RULE)
    if not len(found.scores):
        return
    gone = data.draw(st.integers(0, len(found.scores) - 1))
    rest = only(found, [place for place in range(len(found.scores)) if place != gone])
    is_same = (rest.boxes == found.boxes[gone]).all(axis=1) & (rest.classes == found.classes[gone])

    problems = faults(rest, boxes, scores, RULE)

    assert is_same.any() or any("missing" in problem for problem in problems)


BOXES = np.array([[0, 0, 0.5, 0.5], [0.05, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0.5, 0.25, 0.75]], np.float32)
SCORES = np.array([[0.9, 0.1], [0.8, 0.1], [0.1, 0.7], [0.4, 0.6]], np.float32)


def test_the_scene_of_the_faults_below_has_four_detections() -> None:
    found = found_in(BOXES, SCORES, RULE)

    assert list(zip(found.classes, found.places, strict=True)) == [(1, 0), (2, 2), (2, 3), (1, 3)]


def changed(**parts: np.ndarray) -> Detections:
    return replace(found_in(BOXES, SCORES, RULE), **parts)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda f: only(f, [1, 0, 2, 3]), "order"),
        (lambda f: only(f, [0, 1, 2]), "1 boxes are missing"),
        (lambda f: only(f, [0, 0, 1, 2, 3]), "twice"),
        (lambda f: replace(f, classes=np.array([2, 2, 2, 1])), "no box of the network"),
        (lambda f: replace(f, classes=np.array([3, 2, 2, 1])), "none of 1 to 2"),
        (lambda f: replace(f, classes=np.array([0, 2, 2, 1])), "none of 1 to 2"),
        (lambda f: replace(f, boxes=f.boxes[:, [1, 0, 3, 2]]), "no box of the network"),
        (lambda f: replace(f, boxes=f.boxes + np.float32(0.01)), "no box of the network"),
        (lambda f: replace(f, scores=f.scores * np.float32(0.99)), "no box of the network"),
        (lambda f: replace(f, scores=f.scores + np.float32("nan")), "not finite"),
    ],
)
def test_faults_are_named(wrong: object, named: str) -> None:
    problems = faults(wrong(found_in(BOXES, SCORES, RULE)), BOXES, SCORES, RULE)

    assert any(named in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (replace(RULE, iou_threshold=0.95), "overlap by more"),
        (replace(RULE, score_threshold=0.05), "no box of the network above"),
        (replace(RULE, kept_per_class=4), ""),
    ],
)
def test_what_another_rule_leaves_is_wrong(other: Suppression, named: str) -> None:
    problems = faults(found_in(BOXES, SCORES, other), BOXES, SCORES, RULE)

    assert any(named in problem for problem in problems) if named else problems == []


def test_no_more_are_kept_than_the_rule_says() -> None:
    boxes = np.array([[x, 0, x + 0.1, 0.1] for x in np.arange(0, 0.9, 0.2)], np.float32)
    scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)[:, None]
    found = found_in(boxes, scores, replace(RULE, kept_per_class=10))

    assert len(found.scores) == 5
    assert faults(only(found, [0, 1, 2]), boxes, scores, RULE) == []
    assert any("more than 3" in problem for problem in faults(found, boxes, scores, RULE))
    assert faults(only(found, [0, 1]), boxes, scores, replace(RULE, kept=2)) == []
    assert any("missing" in problem for problem in faults(only(found, [0, 2]), boxes, scores, replace(RULE, kept=2)))


def test_a_box_of_one_class_is_found_for_its_most_probable_one_alone() -> None:
    """As Core ML's pickTop with perClass: labels are the argmax of the confidence."""
    rule = replace(RULE, one_class=True)
    found = found_in(BOXES, SCORES, RULE)

    assert faults(only(found, [0, 1, 2]), BOXES, SCORES, rule) == []
    assert any("no box of the network" in problem for problem in faults(found, BOXES, SCORES, rule))

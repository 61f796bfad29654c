"""Detections of two sides: near ties fall either way, and everything else that one side alone has is told."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_deploy import parity
from mvit_deploy.detection import Detections, by_rule
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.labelling import boxes
from mvit_deploy.labelling.boxes import Answers
from mvit_deploy.labelling.coverage import Side, lost_between
from mvit_deploy.labelling.judged import UNNAMED, Labelled
from mvit_deploy.labelling.telling import told
from mvit_deploy.nn.build import seeded_detector
from mvit_deploy.nn.heads.detection import Decoded
from mvit_deploy.parity import MATCH, MISMATCH, NOT_RUN
from mvit_deploy.spec import SUPPRESSIONS, Suppression

LABELS = ("background", "cat", "dog")
LEFT, RIGHT = (0.1, 0.1, 0.4, 0.4), (0.6, 0.6, 0.9, 0.9)
NEAR_LEFT = (0.1, 0.1, 0.4, 0.35)  # 0.075 of 0.09 together: overlaps LEFT by 0.83
RULES = (Suppression(), Suppression(kept_per_class=2), Suppression(kept=3), SUPPRESSIONS["coreml"])


def answers(rows: list[tuple], labels: tuple[str, ...] | None = LABELS, rule: Suppression = RULES[0]) -> Answers:
    """One photo of (box, scores of cat and dog); what is left of 1 is the background's."""
    found = np.array([row[0] for row in rows], np.float32)
    scores = np.array([(1 - sum(row[1]), *row[1]) for row in rows], np.float32)
    return boxes.of_values(found[None], scores[None], labels, rule)


def held(candidate: Answers, expected: Answers, precision: str = "fp32", **more: str) -> Labelled:
    return boxes.judge(reference=expected, candidate=candidate, names=("a.jpg",), precision=precision, **more)


EXPECTED = answers([(LEFT, (0.8, 0.1)), (RIGHT, (0.2, 0.7)), (NEAR_LEFT, (0.5, 0.1))])


def test_the_same_answers_match_and_count_what_a_person_sees() -> None:
    found = held(EXPECTED, EXPECTED)

    assert (found.verdict, found.reason, found.agreement) == (MATCH, "", 1.0)
    (photo,) = found.photos
    assert (photo.reference_count, photo.lost, photo.max_abs_probability) == (2, 0, 0.0)
    assert [(each["label"], each["score"]) for each in photo.file] == [
        ("cat", pytest.approx(0.8)),
        ("dog", pytest.approx(0.7)),
    ]
    assert told(found.to_json()["photos"][0], "file") == "2: cat 0.800, dog 0.700"


def test_boxes_are_brought_together_by_label_and_not_by_place() -> None:
    order = [0, 2, 1]
    exchanged = boxes.of_values(EXPECTED.boxes, EXPECTED.scores[:, :, order], ("background", "dog", "cat"), RULES[0])

    assert held(exchanged, EXPECTED).verdict == MATCH
    wrong = held(replace(EXPECTED, labels=("background", "dog", "cat")), EXPECTED)
    assert wrong.verdict == MISMATCH
    assert (wrong.photos[0].lost, wrong.photos[0].same_label) == (2 + 2, False)  # 0.8 and 0.7 of each side
    assert "PyTorch finds 'cat' 0.80 where the file finds none" in wrong.reason


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("background", "cat", "cow"), "the file has 'cow' where PyTorch has 'dog'"),
        (("background", "cat"), "names 2 labels"),
        (None, "names no labels"),
    ],
)
def test_other_labels_are_a_mismatch_that_names_them(labels: tuple[str, ...] | None, words: str) -> None:
    if labels is not None and len(labels) == 2:
        runner = Runner(EXPECTED, labels)
        with pytest.raises(DamagedFileError, match=words):
            boxes.of_file(None, runner, None, ())
        return
    found = held(replace(EXPECTED, labels=labels), EXPECTED)

    assert found.verdict == MISMATCH
    assert words in found.reason


class Runner:
    """An opened file that gives some answers' boxes and scores."""

    def __init__(self, given: Answers, labels: tuple[str, ...] | None, **outputs: np.ndarray) -> None:
        self.outputs = outputs or {"boxes": given.boxes, "scores": given.scores}
        image = type("Image", (), {"layout": "NCHW", "shape": (1, 3, 64, 64), "name": "image"})()
        self.interface = type("Interface", (), {"suppression": None, "labels": labels, "inputs": (image,)})()

    def run(self, _: object) -> dict[str, np.ndarray]:
        return self.outputs


def test_where_nobody_but_the_file_names_labels_there_is_no_match() -> None:
    found = held(EXPECTED, replace(EXPECTED, labels=None))

    assert (found.verdict, found.reason) == (NOT_RUN, UNNAMED)
    assert held(replace(EXPECTED, labels=None), replace(EXPECTED, labels=None)).verdict == MATCH


def test_a_file_without_a_background_cannot_have_it_elsewhere() -> None:
    """It has no scores for it; its first label would be that of another class."""
    bare = replace(EXPECTED, scores=EXPECTED.scores[:, :, 1:], has_background=False)

    assert held(bare, EXPECTED).verdict == MATCH
    found = held(replace(bare, labels=("cat", "background", "dog")), EXPECTED)
    assert (found.verdict, "without it" in found.reason) == (MISMATCH, True)


def test_a_box_that_the_file_drops_or_invents_is_named() -> None:
    """Its scores are PyTorch's, so that nothing but what it finds can tell."""
    (both,) = EXPECTED.detections
    first = replace(EXPECTED, detections=(both.take(np.array([0])),))

    assert "a.jpg: PyTorch finds 'dog' 0.70 where the file finds none" in held(first, EXPECTED).reason
    assert "a.jpg: the file finds 'dog' 0.70 where PyTorch finds none" in held(EXPECTED, first).reason


def test_which_of_two_alike_stays_makes_no_difference() -> None:
    """Of 0.8 and 0.79999 either may be the better one; by list the boxes left would be 17 % apart."""
    expected = answers([(LEFT, (0.8, 0.0)), (NEAR_LEFT, (0.79999, 0.0))])
    found = answers([(LEFT, (0.79999, 0.0)), (NEAR_LEFT, (0.8, 0.0))])

    assert not np.array_equal(found.detections[0].boxes, expected.detections[0].boxes)
    assert held(found, expected).verdict == MATCH


def test_what_is_not_finite_is_a_mismatch_without_boxes() -> None:
    scores = EXPECTED.scores.copy()
    scores[0, 0, 1] = np.nan
    found = held(boxes.of_values(EXPECTED.boxes, scores, LABELS, RULES[0]), EXPECTED)

    assert found.verdict == MISMATCH
    assert found.photos[0].max_abs_probability is None
    assert found.to_json()["max_abs_probability"] is None
    assert told(found.to_json()["photos"][0], "file") == "nothing"


def test_another_number_of_boxes_and_another_rule_are_mismatches() -> None:
    fewer = answers([(LEFT, (0.8, 0.1)), (RIGHT, (0.2, 0.7))])
    loose = replace(EXPECTED, rule=Suppression(iou_threshold=0.6))

    assert held(fewer, EXPECTED).reason == "the file has 2 boxes, PyTorch 3"
    assert "the file's suppression is" in held(loose, EXPECTED).reason


def test_where_nothing_is_found_numbers_judge_and_it_is_said() -> None:
    empty = answers([(LEFT, (0.01, 0.01))])

    assert (held(empty, empty).verdict, held(empty, empty).reason) == (MATCH, boxes.NOTHING)
    assert held(answers([(LEFT, (0.01, 0.012))]), empty).verdict == MISMATCH


def test_integers_may_lose_a_few_boxes_of_many_and_floats_none() -> None:
    """60 boxes of which the file has fewer: 5 of 115 are lost, then 7 of 113, where 5 % may be."""
    corners = [(x / 10, y / 10, x / 10 + 0.05, y / 10 + 0.05) for x in range(10) for y in range(6)]
    many = answers([(box, (0.9, 0.0)) for box in corners])
    (all_found,) = many.detections

    def verdict(kept: int, precision: str) -> str:
        return held(replace(many, detections=(all_found.take(slice(kept)),)), many, precision).verdict

    assert [verdict(kept, "w8a8") for kept in (60, 55, 53)] == [MATCH, MATCH, MISMATCH]
    assert [verdict(kept, "fp16") for kept in (60, 59)] == [MATCH, MISMATCH]


def test_no_floor_spares_no_file_its_labels() -> None:
    far = answers([(LEFT, (0.2, 0.1)), (RIGHT, (0.2, 0.2)), (NEAR_LEFT, (0.1, 0.1))])

    assert held(far, EXPECTED, "w8a8").verdict == MISMATCH
    assert held(far, EXPECTED, "w8a8", report_only="random").verdict == MATCH
    others = replace(far, labels=("background", "cat", "cow"))
    assert held(others, EXPECTED, "w8a8", report_only="random").verdict == MISMATCH


def test_of_one_class_is_the_best_one_but_the_background() -> None:
    """Core ML's suppression never sees the background: a box that is mostly background is a cat by 0.3."""
    scores = np.array([[0.6, 0.3, 0.1], [0.1, 0.4, 0.5]], np.float32)
    found = by_rule(np.array([LEFT, RIGHT], np.float32), scores, SUPPRESSIONS["coreml"])

    assert found.classes.tolist() == [2, 1]
    assert found.scores.tolist() == pytest.approx([0.5, 0.3])


def test_a_rule_keeps_the_best_of_all_classes() -> None:
    scores = np.array([[0.0, 0.6, 0.3], [0.0, 0.2, 0.5]], np.float32)
    found = by_rule(np.array([LEFT, RIGHT], np.float32), scores, Suppression(kept=2))

    assert list(zip(found.classes.tolist(), found.places.tolist(), strict=True)) == [(1, 0), (2, 1)]


SLACK = parity.DETECTION_SLACK["fp16"]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Boxes that overlap much, scores with many ties."""
    make = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 12))
    corner = make.integers(0, 4, (count, 2)) / 8
    found = np.concatenate((corner, corner + make.integers(1, 4, (count, 2)) / 8), axis=1)
    scores = make.integers(0, 6, (count, 3)) / 10
    return found, np.concatenate((np.zeros((count, 1)), scores), axis=1), make


@settings(max_examples=300, deadline=None)
@given(scene=scenes(), rule=st.sampled_from(RULES))
def test_rounding_alone_loses_nothing(
    scene: tuple[np.ndarray, np.ndarray, np.random.Generator], rule: Suppression
) -> None:
    """Scores by less than half the slack, boxes of an eighth and more by so little that no overlap changes by more."""
    found, scores, make = scene
    near = scores + make.uniform(-0.49, 0.49, scores.shape) * SLACK[0]
    moved = found + make.uniform(-1, 1, found.shape) * 5e-4
    sides = [
        Side(b, s[:, 1:], by_rule(b, np.clip(s, 0, 1), rule))
        for b, s in ((found, scores), (moved, np.clip(near, 0, 1)))
    ]

    assert lost_between(*sides, rule, SLACK).count == 0


@settings(max_examples=100, deadline=None)
@given(scene=scenes(), rule=st.sampled_from(RULES[:2]))
def test_a_detection_that_is_taken_away_is_lost(
    scene: tuple[np.ndarray, np.ndarray, np.random.Generator], rule: Suppression
) -> None:
    """Unless one that stays is as near; with a rule that cuts no list short by all classes."""
    found, scores, _ = scene
    whole = by_rule(found, scores, rule)
    side = Side(found, scores[:, 1:], whole)
    for place in range(len(whole.scores)):
        rest = Side(found, scores[:, 1:], whole.take(np.delete(np.arange(len(whole.scores)), place)))
        lost = lost_between(side, rest, rule, SLACK)
        near = [
            other
            for other in range(len(whole.scores))
            if other != place
            and whole.classes[other] == whole.classes[place]
            and iou(whole.boxes[other], whole.boxes[place]) >= rule.iou_threshold - SLACK[1]
        ]
        if not near:
            assert lost.missing.scores.tolist() == [whole.scores[place]]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    common = max(width, 0) * max(height, 0)
    return common / (sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - common)


def test_a_raw_head_is_decoded_as_the_network_does_it() -> None:
    model = seeded_detector("xxs", 4, seed=3)
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        locations, logits = model.eval()(image)
        expected = Decoded(model, (64, 96)).eval()(image)
    runner = Runner(EXPECTED, None, locations=locations.numpy(), logits=logits.numpy())
    runner.interface.inputs[0].shape = (1, 3, 64, 96)
    found = boxes.of_file(None, runner, None, ())

    np.testing.assert_allclose(found.boxes, expected[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(found.scores, expected[1].numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"logits": np.zeros((1, 5))}, "the file gives logits: not boxes and scores"),
        ({"boxes": np.zeros((1, 3, 4)), "scores": np.zeros((1, 2, 3))}, r"are \(1, 3, 4\) and its scores \(1, 2, 3\)"),
        ({"locations": np.zeros((1, 3, 4)), "logits": np.zeros((1, 3, 3))}, r"are \(1, 3, 4\), of \d+ anchors"),
    ],
)
def test_a_file_without_boxes_is_refused(outputs: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(DamagedFileError, match=words):
        boxes.of_file(None, Runner(EXPECTED, None, **outputs), None, ())


def test_detections_without_places_can_be_taken() -> None:
    found = Detections(np.zeros((2, 4)), np.array([0.5, 0.4]), np.array([1, 2])).take(np.array([1]))

    assert (found.scores.tolist(), found.classes.tolist(), found.places) == ([0.4], [2], None)

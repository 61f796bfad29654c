"""Maps of two sides, point by point and label by label."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_deploy.errors import DamagedFileError, UsageError
from mvit_deploy.labelling import maps
from mvit_deploy.labelling.judged import UNNAMED, Labelled
from mvit_deploy.labelling.maps import Answers
from mvit_deploy.labelling.telling import told
from mvit_deploy.parity import MATCH, MISMATCH, NOT_RUN
from mvit_deploy.spec import OutputSpec

LABELS = ("background", "cat", "dog")
# Two photos of 4 x 5 points: 12 background, 8 cat; 15 dog, 5 background.
CLASSES = np.array([[0] * 12 + [1] * 8, [2] * 15 + [0] * 5]).reshape(2, 4, 5)
NAMES = ("a.jpg", "b.jpg")


def logits_of(classes: np.ndarray, count: int = 3) -> np.ndarray:
    return np.moveaxis(np.eye(count, dtype=np.float32)[classes] * 4, 3, 1)


def by_logits(classes: np.ndarray = CLASSES, labels: tuple[str, ...] | None = LABELS) -> Answers:
    return Answers(classes, logits_of(classes), labels)


def held(candidate: Answers, expected: Answers, precision: str = "fp32", **more: str) -> Labelled:
    return maps.judge(reference=expected, candidate=candidate, names=NAMES, precision=precision, **more)


@pytest.mark.parametrize("expected", [by_logits(), Answers(CLASSES, None, LABELS)])
def test_the_same_maps_match_and_say_what_takes_most(expected: Answers) -> None:
    found = held(expected, expected)

    assert (found.verdict, found.agreement, found.same_label) == (MATCH, 1.0, 2)
    assert set(found.judgements) == ({"logits"} if expected.logits is not None else set())
    rows = found.to_json()["photos"]
    assert [told(row, "file") for row in rows] == ["background 60.0%, cat 40.0%", "dog 75.0%, background 25.0%"]


def test_maps_are_brought_together_by_label_and_not_by_number() -> None:
    number = np.array([1, 2, 0])  # of background, cat and dog in the file
    order = ("dog", "background", "cat")
    expected = by_logits()

    assert held(Answers(number[CLASSES], None, order), replace(expected, logits=None)).verdict == MATCH
    assert held(Answers(number[CLASSES], logits_of(number[CLASSES]), order), expected).verdict == MATCH
    wrong = held(replace(expected, labels=order), expected)
    assert (wrong.verdict, wrong.agreement, wrong.same_label) == (MISMATCH, 0.0, 0)
    assert told(wrong.to_json()["photos"][0], "file") == "dog 60.0%, background 40.0%"


@given(order=st.permutations(range(4)), seed=st.integers(0, 1000))
def test_any_order_of_the_classes_is_undone(order: list[int], seed: int) -> None:
    names, classes = "abcd", np.random.default_rng(seed).integers(0, 4, (2, 3, 3))
    expected = Answers(classes, logits_of(classes, 4), tuple(names))
    number = np.argsort(order)
    found = Answers(number[classes], expected.logits[:, order], tuple(names[place] for place in order))

    assert held(found, expected).verdict == MATCH


@pytest.mark.parametrize(
    ("wrong", "precision", "verdict"),
    [(0, "fp32", MATCH), (1, "fp32", MISMATCH), (2, "w8a8", MATCH), (3, "w8a8", MISMATCH)],
)
def test_as_many_points_as_the_precision_asks_for(wrong: int, precision: str, verdict: str) -> None:
    """Of 40 points, 95 % are 38."""
    classes = CLASSES.copy()
    classes.flat[:wrong] = 2
    found = held(Answers(classes, None, LABELS), Answers(CLASSES, None, LABELS), precision)

    assert found.verdict == verdict
    assert found.agreement == 1 - wrong / 40
    assert (f"on a.jpg {1 - wrong / 20:.3%}" in found.reason) == (verdict == MISMATCH)


def test_logits_are_held_to_their_floors_although_the_labels_are_right() -> None:
    expected = by_logits()

    found = held(replace(expected, logits=expected.logits * 1.01), expected)

    assert (found.verdict, found.agreement) == (MISMATCH, 1.0)
    assert "rel_max" in found.reason


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("background", "cat", "cow"), "the file has 'cow' where PyTorch has 'dog'"),
        (("background", "cat"), "the file has 2 classes, PyTorch 3"),
        (None, "names no labels"),
    ],
)
def test_other_labels_are_a_mismatch_that_names_them(labels: tuple[str, ...] | None, words: str) -> None:
    expected = Answers(CLASSES, None, LABELS)
    found = held(replace(expected, labels=labels), expected)

    assert (found.verdict, found.same_label, found.agreement) == (MISMATCH, 0, None)
    assert words in found.reason


def test_where_nobody_but_the_file_names_labels_there_is_no_match() -> None:
    expected = by_logits(labels=None)

    assert held(by_logits(), expected).reason == UNNAMED
    assert held(by_logits(), expected).verdict == NOT_RUN
    assert held(expected, expected).verdict == MATCH
    nobody = Answers(CLASSES, None, None)
    assert held(nobody, nobody).verdict == MATCH


def test_a_class_that_has_no_label_is_a_fault() -> None:
    classes = CLASSES.copy()
    classes[0, 0, 0] = 3
    found = held(Answers(classes, None, LABELS), Answers(CLASSES, None, LABELS), "w8a8")

    assert (found.verdict, "none of the labels'" in found.reason) == (MISMATCH, True)


def test_a_logit_that_is_not_finite_is_a_fault() -> None:
    logits = logits_of(CLASSES)
    logits[1, 2, 3, 4] = np.nan
    found = held(maps.of_reference({"logits": logits}, LABELS), by_logits())

    assert found.verdict == MISMATCH
    assert "not finite" in found.reason


def test_maps_of_another_size_are_a_mismatch() -> None:
    small = held(Answers(CLASSES[:, :2], None, LABELS), Answers(CLASSES, None, LABELS))

    assert (small.verdict, small.reason) == (MISMATCH, "the file's maps are (2, 5), PyTorch's (4, 5)")


def test_no_floor_spares_no_file_its_labels() -> None:
    far = by_logits(np.zeros_like(CLASSES))

    assert held(far, by_logits(), "w8a8", report_only="random").verdict == MATCH
    assert (
        held(replace(far, labels=("background", "cat", "cow")), by_logits(), "w8a8", report_only="x").verdict
        == MISMATCH
    )


class Runner:
    """An opened file with one output."""

    def __init__(
        self, name: str, values: np.ndarray, layout: str = "", labels: tuple[str, ...] | None = LABELS
    ) -> None:
        self.values = {name: values}
        output = OutputSpec(name, values.shape, "float32", name, layout)
        self.interface = type("Interface", (), {"outputs": (output,), "labels": labels})()

    def run(self, _: object) -> dict[str, np.ndarray]:
        return self.values


def test_a_map_with_its_channels_last_is_turned() -> None:
    logits = logits_of(CLASSES)
    found = maps.of_file(None, Runner("logits", logits.transpose(0, 2, 3, 1), "NHWC"), None, ())

    np.testing.assert_array_equal(found.logits, logits)
    np.testing.assert_array_equal(found.classes, CLASSES)


@pytest.mark.parametrize(
    ("runner", "words"),
    [
        (Runner("logits", np.zeros((2, 5))), "the file gives logits: no map"),
        (Runner("logits", logits_of(CLASSES, 4)), "names 3 labels and gives maps of 4 classes"),
    ],
)
def test_a_file_without_such_a_map_is_refused(runner: Runner, words: str) -> None:
    with pytest.raises(DamagedFileError, match=words):
        maps.of_file(None, runner, None, ())


def test_a_network_without_a_map_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no map"):
        maps.of_reference({"features": np.zeros((1, 4, 2, 2))}, None)

"""Non-maximum suppression: what overlaps a better box of its class goes, nothing else does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_deploy.detection import non_maximum_suppression
from mvit_deploy.errors import ShapeError, UsageError

COUNT, CLASSES = 8, 3
# Sixteenths: every area and every product below is exact in float32, and equal scores and touching boxes are common.
SIXTEENTHS = st.integers(-4, 20).map(lambda n: n / 16)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4), some of them empty or beyond the image, and scores (n, CLASSES)."""
    count = draw(st.integers(0, COUNT))
    corners = [[draw(SIXTEENTHS) for _ in range(4)] for _ in range(count)]
    boxes = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners]
    scores = [[draw(st.integers(0, 8)) / 8 for _ in range(CLASSES)] for _ in range(count)]
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32).reshape(-1, CLASSES)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Counted in cells of a sixteenth, not computed from the corners."""
    cells = [
        {(x, y) for x in range(int(c[0] * 16), int(c[2] * 16)) for y in range(int(c[1] * 16), int(c[3] * 16))}
        for c in (a, b)
    ]
    union = len(cells[0] | cells[1])
    return len(cells[0] & cells[1]) / union if union else 0.0


def by_definition(boxes: np.ndarray, scores: np.ndarray, threshold: float, iou_threshold: float, keep: int) -> set:
    """(class, box) of what stays, box by box from the best to the worst."""
    stays = set()
    for label in range(1, scores.shape[1]):
        kept: list[int] = []
        for box in sorted(range(len(boxes)), key=lambda i: (-scores[i, label], i)):
            is_free = all(iou(boxes[box], boxes[better]) <= iou_threshold for better in kept)
            if scores[box, label] > threshold and is_free and len(kept) < keep:
                kept.append(box)
        stays |= {(label, box) for box in kept}
    return stays


@settings(max_examples=150, deadline=None)
@given(scenes(), st.sampled_from([0.0, 0.25, 0.5]), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.integers(1, COUNT))
def test_what_stays_is_what_the_definition_says(
    scene: tuple[np.ndarray, np.ndarray], threshold: float, iou_threshold: float, keep: int
) -> None:
    boxes, scores = scene
    options = {"score_threshold": threshold, "iou_threshold": iou_threshold, "kept_per_class": keep}

    found = non_maximum_suppression(boxes, scores, **options)

    expected = by_definition(boxes, scores, threshold, iou_threshold, keep)
    listed = [
        (label, score, tuple(box)) for box, score, label in zip(found.boxes, found.scores, found.classes, strict=True)
    ]
    assert sorted(listed) == sorted((label, scores[box, label], tuple(boxes[box])) for label, box in expected)
    assert (np.diff(found.scores) <= 0).all()


@settings(max_examples=50, deadline=None)
@given(scenes())
def test_what_stays_stays_again(scene: tuple[np.ndarray, np.ndarray]) -> None:
    first = non_maximum_suppression(*scene)
    scores = np.zeros((len(first.scores), CLASSES), np.float32)
    scores[np.arange(len(scores)), first.classes] = first.scores

    again = non_maximum_suppression(first.boxes, scores)

    assert all(np.array_equal(getattr(first, part), getattr(again, part)) for part in ("boxes", "scores", "classes"))


def test_the_defaults_are_those_of_ml_cvnets() -> None:
    """Above 0.05, above an overlap of 0.5, 200 of each class, and no background."""
    apart = np.array([[i, 0, i + 1, 1] for i in range(300)], np.float32)
    scores = np.tile(np.array([[0.9, 0.06, 0.05]], np.float32), (300, 1))

    found = non_maximum_suppression(apart, scores)

    assert found.classes.tolist() == [1] * 200


@pytest.mark.parametrize(("shift", "stay"), [(1 / 4, 1), (1 / 3 + 1e-3, 2)])
def test_a_box_is_suppressed_above_an_overlap_of_one_half(shift: float, stay: int) -> None:
    """Unit squares that are a third apart share 2/3 of 4/3: exactly one half."""
    boxes = np.array([[0, 0, 1, 1], [shift, 0, 1 + shift, 1]], np.float32)

    found = non_maximum_suppression(boxes, np.array([[0, 0.9], [0, 0.8]], np.float32))

    assert len(found.scores) == stay


def test_classes_do_not_suppress_each_other_and_the_best_comes_first() -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.float32)
    scores = np.array([[0.1, 0.3, 0.6], [0.0, 0.8, 0.2]], np.float32)

    found = non_maximum_suppression(boxes, scores)

    assert found.classes.tolist() == [1, 2]
    assert found.scores.tolist() == pytest.approx([0.8, 0.6])


def test_nothing_found_keeps_the_shapes() -> None:
    found = non_maximum_suppression(np.zeros((5, 4)), np.zeros((5, CLASSES)))

    assert (found.boxes.shape, found.scores.shape, found.classes.shape) == ((0, 4), (0,), (0,))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_and_not_dropped(value: float) -> None:
    boxes, scores = np.zeros((2, 4)), np.zeros((2, CLASSES))

    with pytest.raises(UsageError, match="box is not finite"):
        non_maximum_suppression(boxes + value, scores)
    with pytest.raises(UsageError, match="score is not finite"):
        non_maximum_suppression(boxes, scores + value)


@pytest.mark.parametrize("shapes", [((5, 4), (4, 3)), ((5, 3), (5, 3)), ((1, 5, 4), (1, 5, 3)), ((5, 4), (5,))])
def test_shapes_that_do_not_fit_are_named(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ShapeError, match=r"boxes must be \(A, 4\) and scores \(A, C\)"):
        non_maximum_suppression(*map(np.zeros, shapes))


def test_it_keeps_what_torchvision_keeps() -> None:
    torch, ops = pytest.importorskip("torch"), pytest.importorskip("torchvision.ops")
    draw = np.random.default_rng(0)
    corners = draw.random((400, 2, 2), np.float32)
    boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
    scores = draw.permutation(400).astype(np.float32)[:, None] / 400

    found = non_maximum_suppression(boxes, np.hstack((1 - scores, scores)), score_threshold=-1, kept_per_class=400)

    kept = ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores[:, 0]), 0.5).numpy()
    assert np.array_equal(found.boxes, boxes[kept])

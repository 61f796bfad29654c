"""What a detector finds in photos: boxes, scores and labels, on both sides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mvit_deploy import parity
from mvit_deploy.detection import Detections, by_rule
from mvit_deploy.errors import DamagedFileError, UsageError
from mvit_deploy.labelling.coverage import Lost, Side, lost_between
from mvit_deploy.labelling.judged import Labelled, concluded, far_photo, number_faults
from mvit_deploy.labelling.labels import Labels, label_order, name_of
from mvit_deploy.labelling.photos import image_size
from mvit_deploy.parity import MISMATCH, Judgement
from mvit_deploy.runtimes import Runner, suppressed
from mvit_deploy.spec import Interface, Suppression

LEAST_SHOWN, MOST_SHOWN = 0.3, 10  # scores and boxes that a person looks at; all are judged
NOTHING = "nothing is detected on any photo; boxes and scores are compared all the same"
DECODED, RAW = ("boxes", "scores"), ("locations", "logits")  # the two ways in which a detector's graph ends
NONE = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))


@dataclass(frozen=True, eq=False)
class Answers:
    """What one side says of some photos.

    boxes: (photos, A, 4), corners in units of the image's sides; scores: (photos, A, classes), the background first, or
    without it where has_background is False. rule: by which boxes are sorted out; detections: what stays, a photo each,
    classes counted from 1. labels: of all classes, the background first; None where nobody names them.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: Labels
    rule: Suppression
    detections: tuple[Detections, ...]
    has_background: bool = True

    @property
    def count(self) -> int:
        """Of the classes, with the background."""
        return self.scores.shape[2] + (not self.has_background)

    @property
    def foreground(self) -> np.ndarray:
        """Scores without the background. Shapes: -> (photos, A, classes - 1)."""
        return self.scores[:, :, 1:] if self.has_background else self.scores

    def first(self, count: int) -> "Answers":
        """Of the first photos."""
        few = self.boxes[:count], self.scores[:count], self.detections[:count]
        return replace(self, boxes=few[0], scores=few[1], detections=few[2])


def of_reference(outputs: dict[str, np.ndarray], labels: Labels, found: Interface) -> Answers:
    """Of PyTorch: its boxes and scores, sorted out by the rule that a file has, or by that of ml-cvnets. found: what
    the file says of itself, for its rule and the size of its image.

    Raises: UsageError for a network without boxes.
    """
    pair = _boxes_and_scores(outputs, image_size(found.inputs[0]))
    if pair is None:
        raise UsageError("--images compares labelled boxes; this model gives none")
    return of_values(*pair, labels, found.suppression or Suppression())


def _boxes_and_scores(outputs: dict[str, np.ndarray], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray] | None:
    """Decoded, with a softmax; None for other outputs."""
    if set(DECODED) <= set(outputs):
        return tuple(outputs[name] for name in DECODED)
    return _decoded(*(outputs[name] for name in RAW), size) if set(RAW) <= set(outputs) else None


def _decoded(locations: np.ndarray, logits: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What an app has to make of a raw head. Shapes: (photos, A, 4), (photos, A, classes) -> the same.

    Raises: DamagedFileError for another number of anchors. Source: as nn.heads.detection.Decoded.
    """
    from mvit_deploy.nn.anchors import CENTRE_VARIANCE, SIZE_VARIANCE, anchors_of_image  # PyTorch, for raw heads alone

    anchors = anchors_of_image(size).numpy()
    if locations.ndim != 3 or locations.shape[1:] != anchors.shape:
        raise DamagedFileError(f"the locations are {locations.shape}, of {len(anchors)} anchors")
    centres, sizes = anchors[:, :2], anchors[:, 2:]
    middles = locations[..., :2] * CENTRE_VARIANCE * sizes + centres
    with np.errstate(over="ignore"):  # a box that is not finite is a mismatch
        halves = np.exp(locations[..., 2:] * SIZE_VARIANCE) * sizes / 2
    return np.concatenate((middles - halves, middles + halves), axis=2), _softmax(logits)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Over the classes of each anchor; NaN where one is not finite."""
    with np.errstate(invalid="ignore"):
        shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)


def of_values(boxes: np.ndarray, scores: np.ndarray, labels: Labels, rule: Suppression) -> Answers:
    """Boxes sorted out here. Where a value is not finite, nothing is found."""
    found = [_found(*row, rule) for row in zip(boxes, scores, strict=True)]
    return Answers(boxes, scores, labels, rule, tuple(found))


def _found(boxes: np.ndarray, scores: np.ndarray, rule: Suppression) -> Detections:
    return by_rule(boxes, scores, rule) if np.isfinite(boxes).all() and np.isfinite(scores).all() else NONE


def of_file(path: Path, runner: Runner, pixels: np.ndarray, names: Sequence[str]) -> Answers:
    """What a detector's file says of photos that are prepared: by its own suppression, or where it has none, by that of
    ml-cvnets behind it. path: of the file that the runner has opened.

    Shapes: uint8 RGB (photos, height, width, 3). Raises: DamagedFileError for a file that gives no boxes and scores;
    CannotRunHere.
    """
    found = runner.interface
    if found.suppression is not None:
        given = suppressed.detect(path, pixels)
        answers = Answers(given.boxes, given.scores, found.labels, given.rule, given.detections, has_background=False)
    else:
        answers = _of_outputs(runner.run(pixels), found.labels, image_size(found.inputs[0]))
    if any(((each.classes < 1) | (each.classes >= answers.count)).any() for each in answers.detections):
        raise DamagedFileError(f"a detection has a class that is none of 1 to {answers.count - 1}")
    if found.labels is not None and len(found.labels) != answers.count:
        raise DamagedFileError(f"the file names {len(found.labels)} labels and gives {answers.count} numbers")
    return answers


def _of_outputs(outputs: dict[str, np.ndarray], labels: Labels, size: tuple[int, int]) -> Answers:
    pair = _boxes_and_scores(outputs, size)
    if pair is None:
        raise DamagedFileError(f"the file gives {', '.join(outputs)}: not boxes and scores")
    boxes, scores = pair
    if boxes.ndim != 3 or scores.ndim != 3 or boxes.shape != (*scores.shape[:2], 4):
        raise DamagedFileError(f"the file's boxes are {boxes.shape} and its scores {scores.shape}")
    return of_values(boxes, scores, labels, Suppression())


@dataclass(frozen=True)
class Photo:
    """One photo: the best boxes of each side, how many more than LEAST_SHOWN there are, how many that count one side
    has and the other has nothing for, and the largest difference of a score. None where they cannot be compared."""

    name: str
    reference: list[dict[str, object]]
    file: list[dict[str, object]]
    reference_count: int
    file_count: int
    lost: int | None
    same_label: bool
    max_abs_probability: float | None


def judge(
    *, reference: Answers, candidate: Answers, names: tuple[str, ...], precision: str, report_only: str = ""
) -> Labelled:
    """Hold a file's boxes to PyTorch's, label by label.

    Floors of the precision hold on boxes and scores, as parity.judge has them for photos; where
    parity.PROBABILITY_TOLERANCES has one, a limit on each difference of a score; and of the detections of both sides
    together the share of parity.DETECTION_AGREEMENT has to be the other side's too. The labels have to be the same
    ones; where PyTorch's have no names and the file's do, the verdict is at best not_run. report_only: why no floor
    holds; labels have to be right all the same.
    """
    order = order_of(reference, candidate)
    if isinstance(order, str):
        return Labelled(MISMATCH, order, _rows(reference, candidate, names, None, None))
    if candidate.boxes.shape != reference.boxes.shape:
        told = f"the file has {candidate.boxes.shape[1]} boxes, PyTorch {reference.boxes.shape[1]}"
        return Labelled(MISMATCH, told, _rows(reference, candidate, names, None, None))
    aligned = _aligned(candidate, order, reference.labels)
    judgements = _judgements(reference, aligned, names, precision, report_only)
    pairs = zip(_each(reference), _each(aligned), strict=True)
    lost = [lost_between(*pair, reference.rule, parity.DETECTION_SLACK[precision]) for pair in pairs]
    rows = _rows(reference, candidate, names, lost, _differences(reference, aligned))
    counted = sum(each.counted for each in lost)
    agreement = None if not counted else 1 - sum(each.count for each in lost) / counted
    limit = None if report_only else parity.PROBABILITY_TOLERANCES.get(precision)
    share = None if report_only else parity.DETECTION_AGREEMENT[precision]
    is_other = candidate.rule != reference.rule
    faults = [f"the file's suppression is {candidate.rule}, PyTorch's {reference.rule}"] if is_other else []
    faults += number_faults(judgements) or far_photo(rows, limit)
    faults += _lost_faults(lost, names, reference.labels, agreement, share, counted)
    tolerance = {"max_abs_probability": limit, "agreement": share}
    return concluded(
        faults,
        (reference.labels, candidate.labels),
        report_only if counted else "; ".join(filter(None, [NOTHING, report_only])),
        photos=rows,
        judgements=judgements,
        agreement=agreement,
        tolerance={key: value for key, value in tolerance.items() if value is not None},
    )


def order_of(reference: Answers, candidate: Answers) -> np.ndarray | str:
    """Where the file has each of PyTorch's classes, or what keeps them apart."""
    order = label_order(reference.labels, candidate.labels, (reference.count, candidate.count))
    if isinstance(order, str) or candidate.has_background or order[0] == 0:
        return order
    first = candidate.labels[0]
    return f"labels: the file has {first!r} where PyTorch has {reference.labels[0]!r}, and sorts boxes out without it"


def _aligned(candidate: Answers, order: np.ndarray, labels: Labels) -> Answers:
    """With PyTorch's numbers of classes, in scores and detections."""
    hidden = not candidate.has_background
    number = np.argsort(order)  # PyTorch's of each of the file's
    found = tuple(replace(each, classes=number[each.classes]) for each in candidate.detections)
    scores = candidate.scores[:, :, order[1:] - 1 if hidden else order]
    return replace(candidate, scores=scores, detections=found, labels=labels)


def _judgements(
    reference: Answers, aligned: Answers, names: tuple[str, ...], precision: str, report_only: str
) -> dict[str, Judgement]:
    pairs = {"boxes": (reference.boxes, aligned.boxes), "scores": _comparable(reference, aligned)}
    options = {"precision": precision, "kinds": ("photo",) * len(names), "names": names}
    return {
        name: parity.judge(reference=ours, candidate=theirs, meaning=name, report_only=report_only or None, **options)
        for name, (ours, theirs) in pairs.items()
    }


def _comparable(reference: Answers, aligned: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Scores of both sides as they are compared."""
    if not aligned.has_background:
        return parity.foreground(reference.scores, aligned.scores)
    return parity.comparable(reference.scores, "scores"), parity.comparable(aligned.scores, "scores")


def _differences(reference: Answers, aligned: Answers) -> list[float | None]:
    """The largest of a score, photo by photo; None where one is not finite."""
    ours = reference.scores if aligned.has_background else reference.scores[:, :, 1:]
    largest = np.abs(ours.astype(np.float64) - aligned.scores).max(axis=(1, 2))
    return [float(value) if np.isfinite(value) else None for value in largest]


def _each(answers: Answers) -> Iterator[Side]:
    for row in zip(answers.boxes, answers.foreground, answers.detections, strict=True):
        yield Side(*row)


def _lost_faults(
    lost: list[Lost],
    names: tuple[str, ...],
    labels: Labels,
    agreement: float | None,
    share: float | None,
    counted: int,
) -> list[str]:
    """Too few detections in common, with the first that one side alone has."""
    is_few = share is not None and share < 1 and counted < parity.DETECTION_LEAST
    if agreement is None or share is None or is_few or agreement >= share:
        return []
    name, each = next((name, each) for name, each in zip(names, lost, strict=True) if each.count)
    found, who = each.missing, ("PyTorch", "the file")
    if not len(found.scores):
        found, who = each.strange, ("the file", "PyTorch")
    label = name_of(labels, int(found.classes[0]))
    told = f"{name}: {who[0]} finds {label!r} {found.scores[0]:.2f} where {who[1]} finds none"
    return [f"{told}; {agreement:.2%} of {counted} boxes have one on the other side, less than {share:.0%}"]


def _rows(
    reference: Answers,
    candidate: Answers,
    names: tuple[str, ...],
    lost: list[Lost] | None,
    differences: list[float | None] | None,
) -> tuple[Photo, ...]:
    theirs = candidate.labels
    if reference.labels is None and reference.count == candidate.count:
        theirs = None  # by place: nobody else names them
    pairs = zip(names, reference.detections, candidate.detections, strict=True)
    return tuple(
        Photo(
            name=name,
            reference=shown(ours, reference.labels),
            file=shown(found, theirs),
            reference_count=_count(ours),
            file_count=_count(found),
            lost=None if lost is None else lost[place].count,
            same_label=lost is not None and not lost[place].count,
            max_abs_probability=None if differences is None else differences[place],
        )
        for place, (name, ours, found) in enumerate(pairs)
    )


def shown(found: Detections, labels: Labels) -> list[dict[str, object]]:
    """The best detections, as a report has them: label or number of the class, score, corners."""
    best = [place for place in np.argsort(-found.scores, kind="stable") if found.scores[place] > LEAST_SHOWN]
    return [
        {
            "label": name_of(labels, int(found.classes[place])),
            "score": float(found.scores[place]),
            "box": [float(side) for side in found.boxes[place]],
        }
        for place in best[:MOST_SHOWN]
    ]


def _count(found: Detections) -> int:
    return int((found.scores > LEAST_SHOWN).sum())


def noise(reference: Answers, candidate: Answers) -> tuple[float, int]:
    """How far a file's scores are from PyTorch's, the squares of their differences, and of how many numbers; infinite
    where they cannot be compared."""
    order = order_of(reference, candidate)
    if isinstance(order, str) or candidate.boxes.shape != reference.boxes.shape:
        return np.inf, 0
    difference = np.subtract(*_comparable(reference, _aligned(candidate, order, reference.labels)))
    return (float((difference**2).sum()), difference.size) if np.isfinite(difference).all() else (np.inf, 0)


def other_ends(answers: Answers) -> Iterator[tuple[str, Answers]]:
    """Scores without their softmax, boxes in other forms; nothing of a file that has sorted them out by then."""
    if not answers.has_background:
        return
    yield "a softmax of its scores, which is missing", _again(answers, answers.boxes, _softmax(answers.scores))
    boxes = answers.boxes
    yield "x and y of its boxes exchanged", _again(answers, boxes[:, :, [1, 0, 3, 2]], answers.scores)
    centres, halves = boxes[:, :, :2], boxes[:, :, 2:] / 2
    corners = np.concatenate((centres - halves, centres + halves), axis=2)
    yield "its boxes taken as centre and size, not as corners", _again(answers, corners, answers.scores)


def _again(answers: Answers, boxes: np.ndarray, scores: np.ndarray) -> Answers:
    return of_values(boxes, scores, answers.labels, answers.rule)


def class_rows(answers: Answers) -> np.ndarray:
    """A column for each class but the background. Shapes: -> (photos * A, classes - 1)."""
    scores = answers.foreground
    return np.log(np.clip(scores.reshape(-1, scores.shape[2]).astype(np.float64), parity.PROBABILITY_FLOOR, None))


def in_order(answers: Answers, order: np.ndarray, labels: Labels) -> Answers:
    """With its classes but the background in another order, and called otherwise. order: counted without it."""
    whole = np.concatenate(([0], order + 1))
    return _aligned(answers, whole, labels)

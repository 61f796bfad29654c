"""What two files compute from the same images, each prepared as its own file declares."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mvit_deploy import images, parity, runtimes
from mvit_deploy.comparison.detections import Matched, match
from mvit_deploy.detection import Detections
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.images import ImageSet
from mvit_deploy.inspection import Inspection
from mvit_deploy.labelling.labels import numbered
from mvit_deploy.parity import MATCH, MISMATCH, NOT_RUN, Judgement
from mvit_deploy.runtimes import suppressed
from mvit_deploy.runtimes.tensors import channels_first
from mvit_deploy.spec import CLASSES, OWN, PRECISIONS, PROBABILITIES, QUANTIZED, Suppression

SEED = 0
_PHOTOS = ("photo", "builtin")
_LOGITS = "logits"


@dataclass(frozen=True)
class Answer:
    """An image to which two classifiers give different labels, or numbers of classes where they name none."""

    image: str
    kind: str
    a: str
    b: str


@dataclass(frozen=True)
class Numbers:
    """How far the second file is from the first. verdict: match within the floors of precision, mismatch, not_run.

    judgements: by what is compared. changed: of how many images (images) which ones are given another label; None of
    what is no classifier. by_label: the classes stand in another order and are compared by their labels. left_out:
    what is not compared and why.
    """

    verdict: str
    reason: str = ""
    precision: str | None = None
    images: int = 0
    judgements: dict[str, Judgement] = field(default_factory=dict)
    changed: tuple[Answer, ...] | None = None
    matched: Matched | None = None
    by_label: bool = False
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "floors_of": self.precision,
            "images": self.images,
            "outputs": [_judged(name, each) for name, each in self.judgements.items()],
            "other_labels": None if self.changed is None else [asdict(each) for each in self.changed],
            "detections": None if self.matched is None else asdict(self.matched),
            "by_label": self.by_label,
            "left_out": list(self.left_out),
        }


def _judged(name: str, judgement: Judgement) -> dict[str, object]:
    return {
        "name": name,
        **asdict(judgement.errors),
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "photos": judgement.photo_errors and asdict(judgement.photo_errors),
        "worst_input": judgement.worst,
        "tolerance": judgement.tolerance.to_json(),
    }


@dataclass(frozen=True, eq=False)
class _Outputs:
    """What a file gives for all images: values by meaning, maps channels first. Where it sorts boxes out, what it finds
    and the rule that its operator has."""

    values: dict[str, np.ndarray]
    detections: tuple[Detections, ...] | None = None
    rule: Suppression | None = None


def compare(a: Inspection, b: Inspection, folder: Path | None) -> Numbers:
    """Run both files. folder: of photos that join the built-in images.

    Raises: UsageError for a folder without readable images; MissingLibraryError.
    """
    obstacle = _obstacle(a, b)
    if obstacle:
        return Numbers(NOT_RUN, obstacle)
    precision = _looser(a, b)
    inputs = [_inputs(each, precision, folder) for each in (a, b)]
    if a.image_size != b.image_size:  # noise of another size is another image
        inputs = [each.take(place for place, kind in enumerate(each.kinds) if kind in _PHOTOS) for each in inputs]
    given = []
    for side, each, pictures in (("the first", a, inputs[0]), ("the second", b, inputs[1])):
        try:
            given.append(_run(each, pictures.pixels))
        except DamagedFileError as error:
            return Numbers(MISMATCH, f"{side} file cannot be run: {error}", precision)
        except runtimes.CannotRunHere as error:
            return Numbers(NOT_RUN, f"{side} file cannot be run here: {error}", precision)
    return _compared(a, b, given[0], given[1], inputs[0], precision)


def _obstacle(a: Inspection, b: Inspection) -> str:
    for side, each in (("first", a), ("second", b)):
        if each.interface is None:
            return f"the {side} file does not say how its images are prepared"
        if each.image_size is None:
            return f"the {side} file does not take one image of a fixed size"
    tasks = [each.interface.declared.task for each in (a, b)]
    return "" if tasks[0] == tasks[1] else f"one is for {tasks[0]}, the other for {tasks[1]}"


def _looser(a: Inspection, b: Inspection) -> str:
    """The precision whose floors hold; fp32, the strictest, where a file does not say."""
    said = [each.interface.precision for each in (a, b)]
    return max((word if word in PRECISIONS else PRECISIONS[0] for word in said), key=PRECISIONS.index)


def _inputs(side: Inspection, precision: str, folder: Path | None) -> ImageSet:
    """As for a verification: what is quantized is judged on given photos, where there are any, the rest is reported."""
    how = side.interface.declared.preprocessing or OWN
    if precision not in QUANTIZED:
        return images.verification_set(side.image_size, seed=SEED, folder=folder, how=how)
    photos = None if folder is None else images.load_folder(folder, side.image_size, how)
    return images.quantized_verification_set(side.image_size, seed=SEED, photos=photos)


def _run(side: Inspection, pixels: np.ndarray) -> _Outputs:
    """Raises: DamagedFileError, CannotRunHere."""
    if side.interface.suppression is not None:
        found = suppressed.detect(side.path, pixels)
        return _Outputs({"boxes": found.boxes, "scores": found.scores}, found.detections, found.rule)
    runner = runtimes.open_file(side.path)
    outputs = runner.run(pixels)
    described = [each for each in runner.interface.outputs if each.meaning != "label"]
    return _Outputs({o.meaning: channels_first(outputs[o.name], o) for o in described})


def _compared(
    a: Inspection, b: Inspection, first: _Outputs, second: _Outputs, inputs: ImageSet, precision: str
) -> Numbers:
    pairs = dict(_pairs(first, second))
    if not pairs:
        return Numbers(NOT_RUN, f"they give {_names(first)} and {_names(second)}", precision, len(inputs.kinds))
    orders = {name: _order(a.labels, b.labels, name, candidate) for name, (_, candidate) in pairs.items()}
    judgements = {
        name: parity.judge(
            precision=precision,
            reference=_comparable(reference, name),
            candidate=_comparable(_ordered(candidate, name, orders[name]), name),
            kinds=inputs.kinds,
            names=inputs.names,
            meaning=name,
        )
        for name, (reference, candidate) in pairs.items()
    }
    wrong = [f"{name}: {each.reason}" for name, each in judgements.items() if each.verdict == MISMATCH]
    if a.format == b.format and None not in (first.rule, second.rule) and first.rule != second.rule:
        wrong.append(f"the operators that sort boxes out have the rules {first.rule} and {second.rule}")
    return Numbers(
        verdict=MISMATCH if wrong else MATCH,
        reason="; ".join(wrong),
        precision=precision,
        images=len(inputs.kinds),
        judgements=judgements,
        changed=_other_labels(a, b, first, second, inputs),
        matched=_detections(first, second),
        by_label=any(order is not None for order in orders.values()),
        left_out=tuple(_left_out(first, second, pairs)),
    )


def _names(given: _Outputs) -> str:
    return ", ".join(given.values)


def _pairs(first: _Outputs, second: _Outputs) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """What both give, by its meaning: logits beside probabilities become probabilities, scores lose a background that
    only one of them has."""
    a, b = first.values, second.values
    if {_LOGITS, PROBABILITIES} == {*a, *b} and len(a) == len(b) == 1:
        yield PROBABILITIES, tuple(_probabilities(each) for each in (a, b))
        return
    for name in (name for name in a if name in b):
        values = a[name], b[name]
        if name == "scores" and (first.detections is None) != (second.detections is None):
            values = tuple(
                each if given.detections is not None else each[..., 1:]
                for each, given in zip(values, (first, second), strict=True)
            )
        yield name, values


def _probabilities(given: dict[str, np.ndarray]) -> np.ndarray:
    return given[PROBABILITIES] if PROBABILITIES in given else parity.softmax(given[_LOGITS])


def _comparable(values: np.ndarray, meaning: str) -> np.ndarray:
    if meaning == CLASSES:
        return np.rint(values).astype(np.int64)
    return parity.comparable(values, meaning)


def _order(
    first: tuple[str, ...] | None, second: tuple[str, ...] | None, meaning: str, values: np.ndarray
) -> list[int] | None:
    """Where the second file has each class of the first, by their labels; None where they are in one order, or cannot
    be told apart by labels."""
    axis = parity.class_axis(meaning, values.ndim)
    if axis is None or first is None or second is None:
        return None
    hidden = len(first) - values.shape[axis]  # a background that has a label and no score
    if hidden not in (0, 1) or len(first) != len(second):
        return None
    ours, theirs = numbered(first[hidden:]), numbered(second[hidden:])
    if ours == theirs or set(ours) != set(theirs):
        return None
    places = {label: place for place, label in enumerate(theirs)}
    return [places[label] for label in ours]


def _ordered(values: np.ndarray, meaning: str, order: list[int] | None) -> np.ndarray:
    return values if order is None else np.take(values, order, parity.class_axis(meaning, values.ndim))


def _other_labels(
    a: Inspection, b: Inspection, first: _Outputs, second: _Outputs, inputs: ImageSet
) -> tuple[Answer, ...] | None:
    rows = [_answers(side, given) for side, given in ((a, first), (b, second))]
    if None in rows:
        return None
    told = zip(inputs.names, inputs.kinds, *rows, strict=True)
    return tuple(Answer(*each) for each in told if each[2] != each[3])


def _answers(side: Inspection, given: _Outputs) -> list[str] | None:
    """The label of each image, or the number of its class; None of what gives no row of classes."""
    values = next((given.values[name] for name in (PROBABILITIES, _LOGITS) if name in given.values), None)
    if values is None or values.ndim != 2:
        return None
    best = np.nan_to_num(values, nan=-np.inf).argmax(axis=1)
    is_named = side.labels is not None and len(side.labels) == values.shape[1]
    return [side.labels[place] if is_named else str(place) for place in best]


def _detections(first: _Outputs, second: _Outputs) -> Matched | None:
    if first.detections is None or second.detections is None:
        return None
    return match(first.detections, second.detections)


def _left_out(first: _Outputs, second: _Outputs, pairs: dict[str, object]) -> Iterator[str]:
    sides = {"first": first, "second": second}
    for side, given in sides.items():
        for name in given.values:
            if name not in pairs and PROBABILITIES not in pairs:
                yield f"{name}: the {side} file alone gives it"
    if (first.detections is None) != (second.detections is None):
        yield "detections: one file alone sorts its boxes out; what enters that is compared"

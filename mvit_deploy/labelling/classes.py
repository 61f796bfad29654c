"""The classes of whole pictures: probabilities and labels of a classifier, on both sides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mvit_deploy import parity
from mvit_deploy.errors import DamagedFileError, UsageError
from mvit_deploy.labelling.judged import Labelled, concluded, far_photo, number_faults
from mvit_deploy.labelling.labels import Labels, label_order
from mvit_deploy.parity import MISMATCH
from mvit_deploy.runtimes import Runner
from mvit_deploy.spec import PROBABILITIES, Interface, OutputSpec

TOP = 5


@dataclass(frozen=True, eq=False)
class Answers:
    """What one side says of some photos.

    probabilities: float64 (photos, classes). labels: one a class, in the order of these; None where nobody names them.
    chosen: the label of each photo that a file gives beside its probabilities, as Core ML's classifiers do. faults:
    what makes them no probabilities. given: what the file's output held, of that meaning; None of PyTorch.
    """

    probabilities: np.ndarray
    labels: Labels
    chosen: tuple[str, ...] | None = None
    faults: tuple[str, ...] = ()
    given: np.ndarray | None = None
    meaning: str = PROBABILITIES

    def names(self) -> tuple[str | int, ...]:
        """Of the classes: labels, or their numbers."""
        return tuple(range(self.probabilities.shape[1])) if self.labels is None else self.labels

    def first(self, count: int) -> "Answers":
        """Of the first photos."""
        return replace(self, probabilities=self.probabilities[:count])


def of_reference(outputs: dict[str, np.ndarray], labels: Labels, found: Interface | None = None) -> Answers:
    """Of PyTorch: the softmax of what its module gives. found: as boxes takes it, of no use here.

    Shapes: logits (photos, classes). Raises: UsageError for a network without classes.
    """
    logits = outputs.get("logits")
    if logits is None or logits.ndim != 2:
        raise UsageError("--images compares labels; this model gives no row of logits")
    return Answers(parity.softmax(logits), labels)


def of_file(path: Path, runner: Runner, pixels: np.ndarray, names: Sequence[str]) -> Answers:
    """What a classifier's file says of photos that are prepared. path: of the file that the runner has opened.

    Shapes: uint8 RGB (photos, height, width, 3). Raises: DamagedFileError for a file that gives no classes;
    CannotRunHere.
    """
    class_output(runner.interface)
    return of_outputs(runner.interface, runner.run(pixels), names)


def of_outputs(found: Interface, outputs: dict[str, np.ndarray], names: Sequence[str]) -> Answers:
    """What a classifier's outputs say, by name as a runner gives them. Raises: DamagedFileError as of_file."""
    output, label = class_output(found), next((o for o in found.outputs if o.meaning == "label"), None)
    values = outputs[output.name]
    if values.ndim != 2 or (found.labels is not None and values.shape[1] != len(found.labels)):
        raise DamagedFileError(f"the file names {len(found.labels or ())} labels and gives {values.shape[1:]} numbers")
    if output.meaning == PROBABILITIES:
        probabilities, faults = values.astype(np.float64), probability_faults(values, names)
    else:
        probabilities, faults = _softmax_of_finite(values), []
    chosen = None if label is None else tuple(str(np.asarray(each).item()) for each in outputs[label.name])
    return Answers(probabilities, found.labels, chosen, tuple(faults), values, output.meaning)


def _softmax_of_finite(logits: np.ndarray) -> np.ndarray:
    """Rows with a NaN or an infinity become NaN, without a warning of NumPy's."""
    finite = np.isfinite(logits).all(axis=1, keepdims=True)
    return np.where(finite, parity.softmax(np.where(finite, logits, 0)), np.nan)


def class_output(found: Interface) -> OutputSpec:
    """The output of a classifier that has a number for each class. Raises: DamagedFileError when there is no one."""
    outputs = [output for output in found.outputs if output.meaning in ("logits", PROBABILITIES)]
    if len(outputs) != 1:
        names = ", ".join(output.name for output in found.outputs)
        raise DamagedFileError(f"the file gives {names}: not one output of logits or probabilities")
    return outputs[0]


def probability_faults(values: np.ndarray, names: Sequence[str]) -> list[str]:
    """What keeps rows from being probabilities, by the first that is none: finite, within 0..1, and 1 together.

    Shapes: (photos, classes).
    """
    finite = np.isfinite(values).all(axis=1)
    known = np.where(finite[:, None], values.astype(np.float64), 0)
    low, high = known.min(axis=1), known.max(axis=1)
    slack = parity.PROBABILITY_SUM_SLACK
    checks = {
        "a probability is not finite": ~finite,
        "a probability is outside 0..1": finite & ((low < -slack) | (high > 1 + slack)),
        "probabilities do not sum to 1": finite & (np.abs(known.sum(axis=1) - 1) > slack),
    }
    return [f"{fault} ({_of(wrong, names)})" for fault, wrong in checks.items() if wrong.any()]


def _of(wrong: np.ndarray, names: Sequence[str]) -> str:
    return f"{names[int(wrong.argmax())]}, {int(wrong.sum())} of {len(wrong)} photos"


@dataclass(frozen=True)
class Photo:
    """One photo: what each side finds most probable, whether that is the same label, the largest difference of a
    probability, and how far PyTorch's first is ahead of its second. None where numbers cannot be compared."""

    name: str
    reference: list[dict[str, object]]
    file: list[dict[str, object]]
    same_label: bool
    max_abs_probability: float | None
    margin: float


def judge(
    *, reference: Answers, candidate: Answers, names: tuple[str, ...], precision: str, report_only: str = ""
) -> Labelled:
    """Hold a file's answers to PyTorch's, label by label.

    Floors of the precision hold on mean-centred log-probabilities, as parity.judge has them for photos, and where
    parity.PROBABILITY_TOLERANCES has one, a limit on each difference of a probability. The labels have to be the same
    ones, in whatever order; where PyTorch's have no names and the file's do, the numbers are compared by place and the
    verdict is at best not_run. report_only: why no floor holds; labels and sums have to be right all the same.
    """
    order, rows = order_of(reference, candidate), rows_of(reference, candidate, names)
    if isinstance(order, str):
        return Labelled(MISMATCH, "; ".join([order, *candidate.faults]), rows)
    judgement = parity.judge(
        precision=precision,
        reference=parity.comparable(reference.probabilities, PROBABILITIES),
        candidate=parity.comparable(candidate.probabilities[:, order], PROBABILITIES),
        meaning=PROBABILITIES,
        kinds=("photo",) * len(names),
        names=names,
        report_only=report_only or None,
    )
    judgements = {PROBABILITIES: judgement}
    limit = None if report_only else parity.PROBABILITY_TOLERANCES.get(precision)
    numbers = number_faults(judgements) or far_photo(rows, limit)
    return concluded(
        [*candidate.faults, *chosen_faults(candidate, names), *numbers],
        (reference.labels, candidate.labels),
        judgement.reason,
        photos=rows,
        judgements=judgements,
        tolerance={} if limit is None else {"max_abs_probability": limit},
    )


def order_of(reference: Answers, candidate: Answers) -> np.ndarray | str:
    """Where the file has each of PyTorch's classes, or what keeps them apart."""
    counts = reference.probabilities.shape[1], candidate.probabilities.shape[1]
    return label_order(reference.labels, candidate.labels, counts)


def chosen_faults(candidate: Answers, names: Sequence[str]) -> list[str]:
    """A label that a file gives has to be the one of its largest probability."""
    if candidate.chosen is None or candidate.labels is None:
        return []
    places = {label: place for place, label in enumerate(candidate.labels)}
    rows = zip(candidate.chosen, candidate.probabilities, strict=True)
    wrong = np.array([label not in places or row[places[label]] < row.max() for label, row in rows])
    return [f"the file's label is not its most probable one ({_of(wrong, names)})"] if wrong.any() else []


def rows_of(reference: Answers, candidate: Answers, names: Sequence[str]) -> tuple[Photo, ...]:
    """Both sides' answers, photo by photo."""
    order, ours, theirs = order_of(reference, candidate), reference.names(), candidate.names()
    aligned = None if isinstance(order, str) else candidate.probabilities[:, order]
    if reference.labels is None and len(ours) == len(theirs):
        ours = theirs  # by place: nobody else names them
    rows = []
    for place, name in enumerate(names):
        expected, found = top(reference.probabilities[place], ours), top(candidate.probabilities[place], theirs)
        label = found[0]["label"] if candidate.chosen is None else candidate.chosen[place]
        best = np.sort(reference.probabilities[place])[::-1]
        rows.append(
            Photo(
                name=name,
                reference=expected,
                file=found,
                same_label=label == expected[0]["label"] and found[0]["probability"] is not None,
                max_abs_probability=None if aligned is None else _largest(aligned[place], reference, place),
                margin=float(best[0] - best[1]) if len(best) > 1 else 1.0,
            )
        )
    return tuple(rows)


def _largest(row: np.ndarray, reference: Answers, place: int) -> float | None:
    largest = float(np.abs(row - reference.probabilities[place]).max())
    return largest if np.isfinite(largest) else None


def top(probabilities: np.ndarray, names: Sequence[str | int], count: int = TOP) -> list[dict[str, object]]:
    """The most probable classes with their probabilities, the best first; of equal ones the earlier, None for what is
    not finite. Shapes: (classes,)."""
    finite = np.isfinite(probabilities)
    best = np.argsort(-np.where(finite, probabilities, -1), kind="stable")[:count]
    return [
        {"label": names[place], "probability": float(probabilities[place]) if finite[place] else None} for place in best
    ]


def noise(reference: Answers, candidate: Answers) -> tuple[float, int]:
    """How far a file's answers are from PyTorch's, the squares of their differences, and of how many numbers; infinite
    where they cannot be compared."""
    order = order_of(reference, candidate)
    if isinstance(order, str) or not np.isfinite(candidate.probabilities).all():
        return np.inf, 0
    pair = (
        parity.comparable(each, PROBABILITIES) for each in (reference.probabilities, candidate.probabilities[:, order])
    )
    difference = np.subtract(*pair)
    return float((difference**2).sum()), difference.size - len(difference)  # each row of logarithms has the mean 0


def other_ends(answers: Answers) -> Iterator[tuple[str, Answers]]:
    """A softmax too few or too many. Of softmax(p), log is p less a constant, and p sums to 1."""
    values = answers.given
    bare = replace(answers, faults=(), chosen=None)
    if answers.meaning == PROBABILITIES:
        yield "a softmax, which is missing", replace(bare, probabilities=parity.softmax(values))
    logs = np.log(np.clip(values.astype(np.float64), np.finfo(np.float64).tiny, None))
    once = logs + (1 - logs.sum(axis=1, keepdims=True)) / values.shape[1]
    words = "one softmax, where there are two"
    if answers.meaning != PROBABILITIES:
        once, words = values.astype(np.float64), "its outputs taken as the probabilities that they are, not as logits"
    yield words, replace(bare, probabilities=once)


def class_rows(answers: Answers) -> np.ndarray:
    """A column for each class. Shapes: -> (photos, classes)."""
    return np.log(np.clip(answers.probabilities, parity.PROBABILITY_FLOOR, None))


def in_order(answers: Answers, order: np.ndarray, labels: Labels) -> Answers:
    """With its classes in another order, and called otherwise."""
    return replace(answers, probabilities=answers.probabilities[:, order], labels=labels, chosen=None)

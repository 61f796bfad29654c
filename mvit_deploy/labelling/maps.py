"""The classes of the points of photos: maps of a segmenter, on both sides, point by point and label by label."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mvit_deploy import parity
from mvit_deploy.errors import DamagedFileError, UsageError
from mvit_deploy.labelling.judged import Labelled, concluded, number_faults
from mvit_deploy.labelling.labels import Labels, label_order, name_of
from mvit_deploy.parity import MISMATCH, Judgement
from mvit_deploy.runtimes import Runner
from mvit_deploy.runtimes.tensors import channels_first
from mvit_deploy.spec import CLASSES, Interface

TOP = 5  # labels of a photo that are shown


@dataclass(frozen=True, eq=False)
class Answers:
    """What one side says of some photos.

    classes: int64 (photos, h, w), the number of the class of each point; -1 where none can be told. logits: (photos,
    classes, h, w), of which these are the largest; None of a graph that gives nothing but classes. labels: of all
    classes; None where nobody names them.
    """

    classes: np.ndarray
    logits: np.ndarray | None
    labels: Labels

    def first(self, count: int) -> "Answers":
        """Of the first photos."""
        logits = None if self.logits is None else self.logits[:count]
        return replace(self, classes=self.classes[:count], logits=logits)


def of_reference(outputs: dict[str, np.ndarray], labels: Labels, found: Interface | None = None) -> Answers:
    """Of PyTorch. found: as boxes takes it, of no use here. Raises: UsageError for a network without a map."""
    answers = _of_outputs(outputs, labels)
    if answers is None:
        raise UsageError("--images compares the labels of points; this model gives no map of them")
    return answers


def _of_outputs(outputs: dict[str, np.ndarray], labels: Labels) -> Answers | None:
    """None for outputs that are no map. Maps channels first."""
    logits, classes = outputs.get("logits"), outputs.get(CLASSES)
    if classes is not None and classes.ndim == 3:
        return Answers(np.rint(classes).astype(np.int64), None, labels)
    if logits is None or logits.ndim != 4:
        return None
    is_known = np.isfinite(logits).all(axis=1)
    return Answers(np.where(is_known, logits.argmax(axis=1), -1), logits, labels)


def of_file(path: Path, runner: Runner, pixels: np.ndarray, names: Sequence[str]) -> Answers:
    """What a segmenter's file says of photos that are prepared. path: of the file that the runner has opened.

    Shapes: uint8 RGB (photos, height, width, 3). Raises: DamagedFileError for a file that gives no map; CannotRunHere.
    """
    found, outputs = runner.interface, runner.run(pixels)
    answers = _of_outputs({o.meaning: channels_first(outputs[o.name], o) for o in found.outputs}, found.labels)
    if answers is None:
        raise DamagedFileError(f"the file gives {', '.join(outputs)}: no map of classes or of their logits")
    count = None if answers.logits is None else answers.logits.shape[1]
    if None not in (count, found.labels) and count != len(found.labels):
        raise DamagedFileError(f"the file names {len(found.labels)} labels and gives maps of {count} classes")
    return answers


@dataclass(frozen=True)
class Photo:
    """One photo: the labels that take most of it on each side and what share, the share of points of which both say the
    same (None where they cannot be compared), and whether that is as many as the precision's floor."""

    name: str
    reference: list[dict[str, object]]
    file: list[dict[str, object]]
    agreement: float | None
    same_label: bool
    max_abs_probability: float | None = None


def judge(
    *, reference: Answers, candidate: Answers, names: tuple[str, ...], precision: str, report_only: str = ""
) -> Labelled:
    """Hold a file's maps to PyTorch's, label by label.

    Of the points of all photos the share of parity.CLASS_MAP_AGREEMENT has to have PyTorch's label; logits have to keep
    the floors of the precision, as parity.judge has them for photos. The labels have to be the same ones, in whatever
    order; where PyTorch's have no names and the file's do, the verdict is at best not_run. report_only: why no floor
    holds; labels have to be right all the same.
    """
    least = parity.CLASS_MAP_AGREEMENT[precision]
    order = order_of(reference, candidate)
    if not isinstance(order, str) and candidate.classes.shape != reference.classes.shape:
        order = f"the file's maps are {candidate.classes.shape[1:]}, PyTorch's {reference.classes.shape[1:]}"
    if isinstance(order, str):
        return Labelled(MISMATCH, order, _rows(reference, candidate, names, None, least))
    aligned = in_order(candidate, order, reference.labels)
    same = (aligned.classes == reference.classes).mean(axis=(1, 2))
    agreement = float(same.mean())
    judgements = _judgements(reference, aligned, names, precision, report_only)
    faults = number_faults(judgements)
    if not report_only and not agreement >= least:
        worst = int(same.argmin())
        told = f"{agreement:.3%} of the points have PyTorch's label, less than {least:.1%}"
        faults.append(f"{told}; on {names[worst]} {same[worst]:.3%}")
    if (aligned.classes < 0).any():
        faults.append("a point's class is none of the labels', or a logit is not finite")
    return concluded(
        faults,
        (reference.labels, candidate.labels),
        report_only,
        photos=_rows(reference, candidate, names, same, least),
        judgements=judgements,
        agreement=agreement,
        tolerance={} if report_only else {"agreement": least},
    )


def order_of(reference: Answers, candidate: Answers) -> np.ndarray | str:
    """Where the file has each of PyTorch's classes, or what keeps them apart."""
    known = [_count(each) for each in (reference, candidate)]
    if known == [None, None]:  # maps of classes that nobody names
        known = [1 + int(max(reference.classes.max(), candidate.classes.max(), 0))] * 2
    counts = [count or next(filter(None, known)) for count in known]
    return label_order(reference.labels, candidate.labels, (counts[0], counts[1]))


def _count(answers: Answers) -> int | None:
    """Of classes, as far as an answer tells."""
    if answers.labels is not None:
        return len(answers.labels)
    return None if answers.logits is None else answers.logits.shape[1]


def _judgements(
    reference: Answers, aligned: Answers, names: tuple[str, ...], precision: str, report_only: str
) -> dict[str, Judgement]:
    """Of logits, where both sides give them."""
    if reference.logits is None or aligned.logits is None:
        return {}
    judgement = parity.judge(
        precision=precision,
        reference=reference.logits,
        candidate=aligned.logits,
        kinds=("photo",) * len(names),
        names=names,
        report_only=report_only or None,
    )
    return {"logits": judgement}


def _rows(
    reference: Answers, candidate: Answers, names: tuple[str, ...], same: np.ndarray | None, least: float
) -> tuple[Photo, ...]:
    theirs = candidate.labels if reference.labels is not None or _count(reference) != _count(candidate) else None
    return tuple(
        Photo(
            name=name,
            reference=shares(reference.classes[place], reference.labels),
            file=shares(candidate.classes[place], theirs),
            agreement=None if same is None else float(same[place]),
            same_label=same is not None and bool(same[place] >= least),
        )
        for place, name in enumerate(names)
    )


def shares(classes: np.ndarray, labels: Labels) -> list[dict[str, object]]:
    """The labels, or numbers, that take most of a map, and what share. Shapes: (h, w)."""
    known, counts = np.unique(classes, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:TOP]
    return [{"label": name_of(labels, int(known[n])), "share": float(counts[n] / classes.size)} for n in order]


def noise(reference: Answers, candidate: Answers) -> tuple[float, int]:
    """How far a file's logits are from PyTorch's, the squares of their differences, and of how many numbers; of maps of
    classes the points that differ, twice; infinite where they cannot be compared."""
    order = order_of(reference, candidate)
    if isinstance(order, str) or candidate.classes.shape != reference.classes.shape:
        return np.inf, 0
    aligned = in_order(candidate, order, reference.labels)
    if reference.logits is None or aligned.logits is None:
        wrong = int((aligned.classes != reference.classes).sum())
        return float(wrong), wrong
    difference = aligned.logits.astype(np.float64) - reference.logits
    return (float((difference**2).sum()), difference.size) if np.isfinite(difference).all() else (np.inf, 0)


def other_ends(answers: Answers) -> Iterator[tuple[str, Answers]]:
    """Maps turned round, and where the file itself says the classes, counted from elsewhere."""
    for words, axis in (("its maps the other way up", -2), ("its maps with left and right exchanged", -1)):
        logits = None if answers.logits is None else np.flip(answers.logits, axis)
        yield words, replace(answers, classes=np.flip(answers.classes, axis), logits=logits)
    if answers.logits is None:
        yield "its classes counted from one less", replace(answers, classes=answers.classes - 1)


def class_rows(answers: Answers) -> np.ndarray | None:
    """A column for each class, where there are logits. Shapes: -> (points of all photos, classes)."""
    if answers.logits is None:
        return None
    return np.moveaxis(answers.logits, 1, 3).reshape(-1, answers.logits.shape[1]).astype(np.float64)


def in_order(answers: Answers, order: np.ndarray, labels: Labels) -> Answers:
    """With its classes in another order, and called otherwise. A number that is none of them becomes -1."""
    is_known = (answers.classes >= 0) & (answers.classes < len(order))
    number = np.argsort(order)  # the new one of each
    classes = np.where(is_known, number[np.where(is_known, answers.classes, 0)], -1)
    logits = None if answers.logits is None else answers.logits[:, order]
    return replace(answers, classes=classes, logits=logits, labels=labels)

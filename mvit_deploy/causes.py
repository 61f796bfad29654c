"""Which one mistake explains a file's answers: what is tried is undone in turn, until they are PyTorch's again.

Nothing is judged here. A file that does not match stays a mismatch, whatever would make it match.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mvit_deploy import labelling, parity, runtimes
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.labelling import Answers, Photos
from mvit_deploy.parity import MATCH
from mvit_deploy.runtimes import Runner
from mvit_deploy.spec import PROBABILITIES, Preprocessing

MOST_PHOTOS = 4  # each cause runs the file again
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 2.0), (0.0, 255.0))
Undone = tuple[str, Answers]


@dataclass(frozen=True, eq=False)
class Case:
    """A file whose answers on some photos are not the reference's. how: the reference's preprocessing."""

    path: Path
    photos: Photos
    reference: Answers
    how: Preprocessing
    precision: str


def explanations(case: Case) -> list[str]:
    """What alone would make the file agree, in words; empty where nothing that is known does, or it cannot be run.

    Raises: UsageError for a photo that cannot be read; MissingLibraryError.
    """
    few = case.photos.first(MOST_PHOTOS)
    short = replace(
        case,
        photos=few,
        reference=replace(case.reference, probabilities=case.reference.probabilities[: len(few.names)]),
    )
    try:
        return [words for words, answers in _undone(short) if _agrees(short, answers)]
    except (DamagedFileError, runtimes.CannotRunHere):  # it is a mismatch for that reason, or has not been run
        return []


def _agrees(case: Case, answers: Answers) -> bool:
    found = labelling.judge(
        reference=case.reference,
        candidate=replace(answers, chosen=None),
        names=tuple(case.photos.names),
        precision=case.precision,
    )
    return found.verdict == MATCH


def _undone(case: Case) -> Iterator[Undone]:
    runner = runtimes.open_file(case.path)
    found = runner.interface
    size, declared = labelling.image_size(found.inputs[0]), labelling.declared_preprocessing(found)
    pixels = case.photos.prepared(declared, size)
    given = runner.run(pixels)
    answers = labelling.answers_of_outputs(found, given, case.photos.names)
    yield from _other_ends(answers, given[labelling.class_output(found).name], labelling.class_output(found).meaning)
    yield from _other_labels(case, answers)
    changed: dict[str, Callable[[], np.ndarray]] = {"red and blue exchanged": lambda: pixels[..., ::-1]}
    if replace(declared, color_order=case.how.color_order) != case.how:
        changed[f"photos prepared as PyTorch's ({case.how})"] = lambda: case.photos.prepared(case.how, size)
    if size[0] == size[1]:
        changed["height and width exchanged"] = lambda: pixels.transpose(0, 2, 1, 3)
    for words, make in changed.items():
        yield words, _run(runner, np.ascontiguousarray(make()), case)
    yield from _other_ranges(runner, pixels, case)


def _run(runner: Runner, pixels: np.ndarray, case: Case) -> Answers:
    return labelling.answers_of_outputs(runner.interface, runner.run(pixels), case.photos.names)


def _other_ranges(runner: Runner, pixels: np.ndarray, case: Case) -> Iterator[Undone]:
    """Only of a file that takes tensors: a picture's pixels are what they are."""
    if not hasattr(runner, "invoke"):
        return
    declared = runner.interface
    for low, high in RANGES:
        image = replace(declared.inputs[0], range=(low, high))
        if image != declared.inputs[0]:
            runner.interface = replace(declared, inputs=(image,))
            yield f"values in [{low:g}, {high:g}]", _run(runner, pixels, case)
    runner.interface = declared


def _other_ends(answers: Answers, values: np.ndarray, meaning: str) -> Iterator[Undone]:
    """A softmax too few or too many. Of softmax(p), log is p less a constant, and p sums to 1."""
    if meaning == PROBABILITIES:
        yield "a softmax, which is missing", replace(answers, probabilities=parity.softmax(values), faults=())
    logs = np.log(np.clip(values.astype(np.float64), np.finfo(np.float64).tiny, None))
    once = logs + (1 - logs.sum(axis=1, keepdims=True)) / values.shape[1]
    words = "one softmax, where there are two"
    if meaning != PROBABILITIES:
        once, words = values.astype(np.float64), "its outputs taken as the probabilities that they are, not as logits"
    yield words, replace(answers, probabilities=once, faults=())


def _other_labels(case: Case, answers: Answers) -> Iterator[Undone]:
    """Each of PyTorch's classes with the numbers of the file's that are nearest, where that is an order."""
    ours, theirs = case.reference.probabilities, answers.probabilities
    if ours.shape != theirs.shape or not np.isfinite(theirs).all():
        return
    logs = [np.log(np.clip(each, parity.PROBABILITY_FLOOR, None)) for each in (ours, theirs)]
    order = np.array([np.abs(logs[1] - column[:, None]).sum(axis=0).argmin() for column in logs[0].T])
    by_label = labelling.label_order(case.reference, answers)
    is_order = len(set(order.tolist())) == len(order)
    if is_order and (isinstance(by_label, str) or not np.array_equal(order, by_label)):
        yield (
            "its labels in another order",
            replace(answers, probabilities=theirs[:, order], labels=case.reference.labels),
        )

"""Which one mistake explains a file's answers: what is tried is undone in turn, until they are PyTorch's again.

Nothing is judged here. A file that does not match stays a mismatch, whatever would make it match.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from mvit_deploy import runtimes
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.labelling.photos import Photos, declared_preprocessing, image_size
from mvit_deploy.parity import MATCH
from mvit_deploy.runtimes import Runner
from mvit_deploy.spec import Preprocessing

MOST_PHOTOS = 4  # each cause runs the file again
MOST_ROWS = 20000  # of points or anchors, to tell classes apart by
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 2.0), (0.0, 255.0))
Undone = tuple[str, object]


@dataclass(frozen=True, eq=False)
class Case:
    """A file whose answers on some photos are not the reference's. kind: the module of labelling whose answers they
    are; how: the reference's preprocessing."""

    kind: ModuleType
    path: Path
    photos: Photos
    reference: object
    how: Preprocessing
    precision: str


def explanations(case: Case) -> list[str]:
    """What alone would make the file agree, in words; empty where nothing that is known does, or it cannot be run.

    Raises: UsageError for a photo that cannot be read; MissingLibraryError.
    """
    short = replace(case, photos=case.photos.first(MOST_PHOTOS), reference=case.reference.first(MOST_PHOTOS))
    try:
        return [words for words, answers in _undone(short) if _agrees(short, answers)]
    except (DamagedFileError, runtimes.CannotRunHere):  # it is a mismatch for that reason, or has not been run
        return []


def _agrees(case: Case, answers: object) -> bool:
    names = tuple(case.photos.names)
    found = case.kind.judge(reference=case.reference, candidate=answers, names=names, precision=case.precision)
    return found.verdict == MATCH


def _undone(case: Case) -> Iterator[Undone]:
    runner = runtimes.open_file(case.path)
    found = runner.interface
    size, declared = image_size(found.inputs[0]), declared_preprocessing(found)
    pixels = case.photos.prepared(declared, size)
    answers = _run(runner, pixels, case)
    yield from case.kind.other_ends(answers)
    yield from _other_labels(case, answers)
    changed: dict[str, Callable[[], np.ndarray]] = {"red and blue exchanged": lambda: pixels[..., ::-1]}
    if replace(declared, color_order=case.how.color_order) != case.how:
        changed[f"photos prepared as PyTorch's ({case.how})"] = lambda: case.photos.prepared(case.how, size)
    if size[0] == size[1]:
        changed["height and width exchanged"] = lambda: pixels.transpose(0, 2, 1, 3)
    for words, make in changed.items():
        yield words, _run(runner, np.ascontiguousarray(make()), case)
    yield from _other_ranges(runner, pixels, case)


def _run(runner: Runner, pixels: np.ndarray, case: Case) -> object:
    return case.kind.of_file(case.path, runner, pixels, case.photos.names)


def _other_ranges(runner: Runner, pixels: np.ndarray, case: Case) -> Iterator[Undone]:
    """Only of a file that takes tensors: a picture's pixels are what they are. One that sorts boxes out is run by its
    path, as it is."""
    if not hasattr(runner, "invoke") or runner.interface.suppression is not None:
        return
    declared = runner.interface
    for low, high in RANGES:
        image = replace(declared.inputs[0], range=(low, high))
        if image != declared.inputs[0]:
            runner.interface = replace(declared, inputs=(image,))
            yield f"values in [{low:g}, {high:g}]", _run(runner, pixels, case)
    runner.interface = declared


def _other_labels(case: Case, answers: object) -> Iterator[Undone]:
    """Each of PyTorch's classes with the numbers of the file's that are nearest, where that is an order and not the
    one by which they are compared anyway."""
    ours, theirs = (case.kind.class_rows(each) for each in (case.reference, answers))
    if ours is None or theirs is None or ours.shape != theirs.shape or not np.isfinite(theirs).all():
        return
    step = -(-len(ours) // MOST_ROWS)
    order = np.array([np.abs(theirs[::step] - column[:, None]).sum(axis=0).argmin() for column in ours[::step].T])
    if len(set(order.tolist())) < len(order):
        return
    by_label = case.kind.order_of(case.reference, answers)
    if not isinstance(by_label, str):
        hidden = len(by_label) - len(order)  # a background, which is first
        by_label = by_label[hidden:] - hidden
    if isinstance(by_label, str) or not np.array_equal(order, by_label):
        yield "its labels in another order", case.kind.in_order(answers, order, case.reference.labels)

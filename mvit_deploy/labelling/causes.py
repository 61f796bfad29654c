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
from mvit_deploy.image_options import IMAGENET
from mvit_deploy.labelling.photos import Photos, declared_preprocessing, image_size
from mvit_deploy.parity import MATCH
from mvit_deploy.runtimes import Runner
from mvit_deploy.spec import Preprocessing

MOST_PHOTOS = 4  # each cause runs the file again
MOST_ROWS = 20000  # of points or anchors, to tell classes apart by
LEAST_VALUES = 32  # fewer may come nearer by chance
CLEARLY = 4  # times less noise: 6 dB
RANGES = {
    ends: f"values in [{ends[0]:g}, {ends[1]:g}]"
    for ends in ((0, 1), (-1, 1), (0, 2), (0, 0.5), (0.5, 1), (0.5, 1.5), (-0.5, 0.5), (0, 255))
}
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
    short = _first(case, MOST_PHOTOS)
    try:
        return [words for words, answers in _undone(short) if _agrees(short, answers)]
    except (DamagedFileError, runtimes.CannotRunHere):  # it is a mismatch for that reason, or has not been run
        return []


def _agrees(case: Case, answers: object) -> bool:
    names = tuple(case.photos.names)
    found = case.kind.judge(reference=case.reference, candidate=answers, names=names, precision=case.precision)
    return found.verdict == MATCH


def nearer(case: Case) -> list[str]:
    """Of a file that matches, what would bring it clearly nearer to the reference, in words.

    Floors of half precision and integers leave room, in which a network that hardly minds has PyTorch's answers
    although red and blue are exchanged or a mean is wrong. But no rounding comes nearer by a mistake: what does, undoes
    one.
    """
    short = _first(case, _enough(case))
    try:
        runner = runtimes.open_file(case.path)
        pixels = _pixels(runner, short)
        noise, count = case.kind.noise(short.reference, _run(runner, pixels, short))
        found = []
        for words, answers in _fed_otherwise(runner, pixels, short):
            left, _ = case.kind.noise(short.reference, answers)
            if count >= LEAST_VALUES and left * CLEARLY < noise:
                found.append((left, words))
        return [words for _, words in sorted(found)]
    except (DamagedFileError, runtimes.CannotRunHere):  # it was run a moment ago; what is fed here it need not take
        return []


def _first(case: Case, count: int) -> Case:
    return replace(case, photos=case.photos.first(count), reference=case.reference.first(count))


def _enough(case: Case) -> int:
    """Photos, so that there are twice as many values as are needed; two for maps of classes, which count points."""
    one = case.reference.first(1)
    _, values = case.kind.noise(one, one)
    return 2 if not values else min(LEAST_VALUES, -(-2 * LEAST_VALUES // values))


def _pixels(runner: Runner, case: Case) -> np.ndarray:
    found = runner.interface
    return case.photos.prepared(declared_preprocessing(found), image_size(found.inputs[0]))


def _undone(case: Case) -> Iterator[Undone]:
    runner = runtimes.open_file(case.path)
    pixels = _pixels(runner, case)
    answers = _run(runner, pixels, case)
    yield from case.kind.other_ends(answers)
    yield from _other_labels(case, answers)
    yield from _fed_otherwise(runner, pixels, case)


def _fed_otherwise(runner: Runner, pixels: np.ndarray, case: Case) -> Iterator[Undone]:
    found = runner.interface
    size, declared = image_size(found.inputs[0]), declared_preprocessing(found)
    changed: dict[str, Callable[[], np.ndarray]] = {"red and blue exchanged": lambda: pixels[..., ::-1]}
    if replace(declared, color_order=case.how.color_order) != case.how:
        changed[f"photos prepared as PyTorch's ({case.how})"] = lambda: case.photos.prepared(case.how, size)
    if size[0] == size[1]:
        changed["height and width exchanged"] = lambda: pixels.transpose(0, 2, 1, 3)
    for words, make in changed.items():
        yield words, _run(runner, np.ascontiguousarray(make()), case)
    # Apple's runtime takes a picture's pixels and no other values.
    if hasattr(runner, "invoke") or runner.kind == "evaluator":
        yield from _other_values(runner, pixels, case)


def _other_values(runner: Runner, pixels: np.ndarray, case: Case) -> Iterator[Undone]:
    """Values that no pixel has, as what stands before the network would give them."""
    low, high = runner.interface.inputs[0].range
    unit = pixels.astype(np.float32) / 255
    for (other_low, other_high), words in RANGES.items():
        if (other_low, other_high) != (low, high):
            wanted = unit * (other_high - other_low) + other_low
            yield words, _run(runner, (wanted - low) / (high - low) * 255, case)
    mean, std = (np.array(values, np.float32) for values in IMAGENET)
    known = {"mean added": unit + mean, "normalization undone": unit * std + mean, "normalization": (unit - mean) / std}
    for words, wanted in known.items():
        yield f"ImageNet's {words}", _run(runner, wanted * 255, case)


def _run(runner: Runner, pixels: np.ndarray, case: Case) -> object:
    return case.kind.of_file(case.path, runner, pixels, case.photos.names)


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

"""From photo to label: what a file answers by what it declares of itself alone, beside what PyTorch answers.

Tensors may agree while an app gets wrong labels, since a mean, an order of colours, a softmax or a list of labels is
wrong. Here everything from the encoded picture on is done as the file itself says; the answers are brought together by
the names of their labels. NumPy and the file's runtime are all that is needed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mvit_deploy import images, parity, runtimes
from mvit_deploy.decoding import decode
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.parity import MATCH, MISMATCH, NOT_RUN, Judgement
from mvit_deploy.preprocessing import apply
from mvit_deploy.spec import PROBABILITIES, InputSpec, Interface, OutputSpec, Preprocessing

TOP = 5
UNNAMED = "nothing but the file says what PyTorch's classes are called; give --labels"


class Photos:
    """Encoded pictures. Each is prepared once for every way in which somebody says that it is.

    names: for people, paths below the folder.
    """

    def __init__(self, paths: Sequence[Path], names: Sequence[str]) -> None:
        self._paths, self.names = tuple(paths), tuple(names)
        self._prepared: dict[tuple[Preprocessing, tuple[int, int]], np.ndarray] = {}

    def prepared(self, how: Preprocessing, size: tuple[int, int]) -> np.ndarray:
        """All of them, decoded, resized and cropped to size = (height, width).

        Shapes: -> uint8 (count, height, width, 3), RGB. Raises: UsageError for one that cannot be read.
        """
        key = (how, size)
        if key not in self._prepared:
            self._prepared[key] = np.stack([apply(decode(path), how, size) for path in self._paths])
        return self._prepared[key]

    def first(self, count: int) -> "Photos":
        """At most so many of them; what is prepared already is not prepared again."""
        few = Photos(self._paths[:count], self.names[:count])
        few._prepared = {key: pixels[:count] for key, pixels in self._prepared.items()}
        return few


def photos_below(folder: Path) -> Photos:
    """The pictures below a folder at any depth. Raises: UsageError when it does not exist or holds none."""
    paths = images.list_images(folder)
    return Photos(paths, [path.relative_to(folder).as_posix() for path in paths])


@dataclass(frozen=True, eq=False)
class Answers:
    """What one side says of some photos.

    probabilities: float64 (photos, classes). labels: one a class, in the order of these; None where nobody names them.
    chosen: the label of each photo that a file gives beside its probabilities, as Core ML's classifiers do. faults:
    what makes them no probabilities.
    """

    probabilities: np.ndarray
    labels: tuple[str, ...] | None
    chosen: tuple[str, ...] | None = None
    faults: tuple[str, ...] = ()

    def names(self) -> tuple[str | int, ...]:
        """Of the classes: labels, or their numbers."""
        return tuple(range(self.probabilities.shape[1])) if self.labels is None else self.labels


def answers_of_logits(logits: np.ndarray, labels: tuple[str, ...] | None) -> Answers:
    """Of PyTorch: the softmax of what its module gives. Shapes: logits (photos, classes)."""
    return Answers(parity.softmax(logits), labels)


def answers_of_file(path: Path, photos: Photos) -> Answers:
    """What a classifier's file says of photos. Everything that happens to them is read from the file.

    Raises: DamagedFileError when it cannot be read, does not say how a photo becomes its image, or gives no classes;
    UsageError for a photo that cannot be read; MissingLibraryError; CannotRunHere.
    """
    runner = runtimes.open_file(path)
    found = runner.interface
    class_output(found)
    pixels = photos.prepared(declared_preprocessing(found), image_size(found.inputs[0]))
    return answers_of_outputs(found, runner.run(pixels), photos.names)


def answers_of_outputs(found: Interface, outputs: dict[str, np.ndarray], names: Sequence[str]) -> Answers:
    """What a classifier's outputs say, by name as a runner gives them. Raises: DamagedFileError as answers_of_file."""
    output, label = class_output(found), next((o for o in found.outputs if o.meaning == "label"), None)
    values = outputs[output.name]
    if values.ndim != 2 or (found.labels is not None and values.shape[1] != len(found.labels)):
        raise DamagedFileError(f"the file names {len(found.labels or ())} labels and gives {values.shape[1:]} numbers")
    if output.meaning == PROBABILITIES:
        probabilities, faults = values.astype(np.float64), probability_faults(values, names)
    else:
        probabilities, faults = _softmax_of_finite(values), []
    chosen = None if label is None else tuple(str(np.asarray(each).item()) for each in outputs[label.name])
    return Answers(probabilities, found.labels, chosen, tuple(faults))


def _softmax_of_finite(logits: np.ndarray) -> np.ndarray:
    """Rows with a NaN or an infinity become NaN, without a warning of NumPy's."""
    finite = np.isfinite(logits).all(axis=1, keepdims=True)
    return np.where(finite, parity.softmax(np.where(finite, logits, 0)), np.nan)


def declared_preprocessing(found: Interface) -> Preprocessing:
    """How a photo becomes the file's image. Raises: DamagedFileError when the file does not say."""
    if found.declared.preprocessing is None:
        raise DamagedFileError("the file does not say how a photo becomes its image (preprocessing)")
    return found.declared.preprocessing


def image_size(image: InputSpec) -> tuple[int, int]:
    """(height, width) that a file takes. Raises: DamagedFileError for an input that is no image of one size."""
    sides = image.shape[2:] if image.layout == "NCHW" else image.shape[1:3]
    if len(image.shape) != 4 or min(sides) < 1:
        raise DamagedFileError(f"input {image.name!r} is declared {image.shape}, no image of one size")
    return sides


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


@dataclass(frozen=True)
class Labelled:
    """The verdict on a file's answers, photo by photo, and the judgement of their probabilities, None without one."""

    verdict: str
    reason: str
    photos: tuple[Photo, ...] = ()
    judgement: Judgement | None = None
    tolerance: dict[str, float] = field(default_factory=dict)

    @property
    def same_label(self) -> int:
        """The number of photos that get PyTorch's label."""
        return sum(photo.same_label for photo in self.photos)

    def to_json(self) -> dict[str, object]:
        differences = [photo.max_abs_probability for photo in self.photos]
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "count": len(self.photos),
            "same_label": self.same_label,
            "max_abs_probability": None if None in differences else max(differences, default=None),
            "errors": None if self.judgement is None else asdict(self.judgement.errors),
            "tolerance": self.tolerance,
            "photos": [asdict(photo) for photo in self.photos],
        }


def judge(
    *, reference: Answers, candidate: Answers, names: tuple[str, ...], precision: str, report_only: str = ""
) -> Labelled:
    """Hold a file's answers to PyTorch's, label by label.

    Floors of the precision hold on mean-centred log-probabilities, as parity.judge has them for photos, and where
    parity.PROBABILITY_TOLERANCES has one, a limit on each difference of a probability. The labels have to be the same
    ones, in whatever order; where PyTorch's have no names and the file's do, the numbers are compared by place and the
    verdict is at best not_run. report_only: why no floor holds; labels and sums have to be right all the same.
    """
    faults, order = list(candidate.faults), label_order(reference, candidate)
    if isinstance(order, str):
        rows = rows_of(reference, candidate, names)
        return Labelled(MISMATCH, "; ".join([order, *faults]), rows)
    aligned = candidate.probabilities[:, order]
    judgement = parity.judge(
        precision=precision,
        reference=parity.comparable(reference.probabilities, PROBABILITIES),
        candidate=parity.comparable(aligned, PROBABILITIES),
        meaning=PROBABILITIES,
        kinds=("photo",) * len(names),
        names=names,
        report_only=report_only or None,
    )
    rows = rows_of(reference, candidate, names)
    limit = None if report_only else parity.PROBABILITY_TOLERANCES.get(precision)
    faults += chosen_faults(candidate, names)
    faults += [judgement.reason] if judgement.verdict == MISMATCH else _far(rows, limit)
    tolerance = judgement.tolerance.to_json() | ({} if limit is None else {"max_abs_probability": limit})
    if faults:
        return Labelled(MISMATCH, "; ".join(faults), rows, judgement, tolerance)
    if reference.labels is None and candidate.labels is not None:
        return Labelled(NOT_RUN, UNNAMED, rows, judgement, tolerance)
    return Labelled(MATCH, judgement.reason, rows, judgement, tolerance)


def _far(rows: tuple[Photo, ...], limit: float | None) -> list[str]:
    """The photo on which a probability is furthest from PyTorch's, where that is too far."""
    if limit is None:
        return []
    worst = max(rows, key=lambda row: row.max_abs_probability)
    if worst.max_abs_probability <= limit:
        return []
    return [f"{worst.name}: a probability differs by {worst.max_abs_probability:.3g} > {limit:g}"]


def label_order(reference: Answers, candidate: Answers) -> np.ndarray | str:
    """Where the candidate has each class of the reference, by its label, or what keeps them apart.

    Labels that repeat, as the two cranes of ImageNet, are told apart by their order.
    """
    ours, theirs = reference.probabilities.shape[1], candidate.probabilities.shape[1]
    if ours != theirs:
        return f"the file has {theirs} classes, PyTorch {ours}"
    if reference.labels is None:
        return np.arange(ours)
    if candidate.labels is None:
        return "the file names no labels"
    expected, found = numbered(reference.labels), numbered(candidate.labels)
    places = {label: place for place, label in enumerate(found)}
    missing = [label[0] for label in expected if label not in places]
    if missing:
        strange = [label[0] for label in found if label not in set(expected)]
        return f"labels: the file has {_some(strange)} where PyTorch has {_some(missing)}"
    return np.array([places[label] for label in expected])


def numbered(labels: tuple[str, ...]) -> list[tuple[str, int]]:
    """Each label and how often it has been there before."""
    seen: Counter[str] = Counter()
    found = []
    for label in labels:
        found.append((label, seen[label]))
        seen[label] += 1
    return found


def _some(labels: list[str]) -> str:
    return ", ".join(map(repr, labels[:3])) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")


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
    order, ours, theirs = label_order(reference, candidate), reference.names(), candidate.names()
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

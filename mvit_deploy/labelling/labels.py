"""Two lists of labels, brought together by name."""

from collections import Counter

import numpy as np

Labels = tuple[str, ...] | None  # in the order of the classes; None where nobody names them


def label_order(ours: Labels, theirs: Labels, counts: tuple[int, int]) -> np.ndarray | str:
    """Where the file has each class of PyTorch's, by its label, or what keeps them apart. counts: of classes, PyTorch's
    and the file's.

    Labels that repeat, as the two cranes of ImageNet, are told apart by their order.
    """
    if counts[0] != counts[1]:
        return f"the file has {counts[1]} classes, PyTorch {counts[0]}"
    if ours is None:
        return np.arange(counts[0])
    if theirs is None:
        return "the file names no labels"
    expected, found = numbered(ours), numbered(theirs)
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


def name_of(labels: Labels, place: int) -> str | int:
    """The label of a class, or its number where it has none."""
    return labels[place] if labels is not None and 0 <= place < len(labels) else int(place)


def _some(labels: list[str]) -> str:
    return ", ".join(map(repr, labels[:3])) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")

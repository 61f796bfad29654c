"""Two lists of labels: what was renamed, added, removed and moved."""

from collections.abc import Sequence
from dataclasses import dataclass

from mvit_deploy.labelling.labels import numbered

Labels = Sequence[str] | None


@dataclass(frozen=True)
class LabelChanges:
    """From one list to the other; places count from 0. False where nothing changed.

    counts: how many each has, None for no labels at all. renamed: place, old, new, where neither is elsewhere. added,
    removed: place and label. moved: label, old and new place.
    """

    counts: tuple[int | None, int | None]
    renamed: tuple[tuple[int, str, str], ...] = ()
    added: tuple[tuple[int, str], ...] = ()
    removed: tuple[tuple[int, str], ...] = ()
    moved: tuple[tuple[str, int, int], ...] = ()

    def __bool__(self) -> bool:
        return self.counts[0] != self.counts[1] or any((self.renamed, self.added, self.removed, self.moved))

    def to_json(self) -> dict[str, object]:
        return {
            "counts": list(self.counts),
            "renamed": [{"place": place, "a": old, "b": new} for place, old, new in self.renamed],
            "added": [{"place": place, "label": label} for place, label in self.added],
            "removed": [{"place": place, "label": label} for place, label in self.removed],
            "moved": [{"label": label, "a": old, "b": new} for label, old, new in self.moved],
        }


def changes(a: Labels, b: Labels) -> LabelChanges:
    """What became of a's labels in b. Labels that repeat are told apart by their order."""
    counts = (None if a is None else len(a), None if b is None else len(b))
    first, second = (numbered(tuple(labels or ())) for labels in (a, b))
    old, new = ({label: place for place, label in enumerate(labels)} for labels in (first, second))
    gone = {place: label[0] for label, place in old.items() if label not in new}
    come = {place: label[0] for label, place in new.items() if label not in old}
    renamed = sorted(set(gone) & set(come))
    return LabelChanges(
        counts=counts,
        renamed=tuple((place, gone[place], come[place]) for place in renamed),
        added=tuple((place, label) for place, label in come.items() if place not in renamed),
        removed=tuple((place, label) for place, label in gone.items() if place not in renamed),
        moved=tuple((label[0], old[label], new[label]) for label in old if label in new and old[label] != new[label]),
    )

"""The verdict on a file's answers, whatever they are answers to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from mvit_deploy.labelling.labels import Labels
from mvit_deploy.parity import MATCH, MISMATCH, NOT_RUN, Judgement

UNNAMED = "nothing but the file says what PyTorch's classes are called; give --labels"


@dataclass(frozen=True)
class Labelled:
    """The verdict on a file's answers, photo by photo, and the judgements of their numbers, by name; none without any.

    photos: the kind's own rows; each has a name, what each side says (reference, file), and same_label, whether that is
    the same. agreement: the share of what can be counted over all photos that is the same, None where nothing can.
    tolerance: limits on single photos and on the agreement.
    """

    verdict: str
    reason: str
    photos: tuple[object, ...] = ()
    judgements: Mapping[str, Judgement] = field(default_factory=dict)
    agreement: float | None = None
    tolerance: Mapping[str, float] = field(default_factory=dict)

    @property
    def same_label(self) -> int:
        """The number of photos of which both sides say the same."""
        return sum(photo.same_label for photo in self.photos)

    def to_json(self) -> dict[str, object]:
        differences = [photo.max_abs_probability for photo in self.photos]
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "count": len(self.photos),
            "same_label": self.same_label,
            "agreement": self.agreement,
            "max_abs_probability": None if None in differences else max(differences, default=None),
            "tolerance": dict(self.tolerance),
            "outputs": [_output(name, each) for name, each in self.judgements.items()],
            "photos": [asdict(photo) for photo in self.photos],
        }


def _output(name: str, judgement: Judgement) -> dict[str, object]:
    return {
        "name": name,
        **asdict(judgement.errors),
        "verdict": judgement.verdict,
        "tolerance": judgement.tolerance.to_json(),
    }


def concluded(faults: list[str], named_by: tuple[Labels, Labels], reason: str, **found: object) -> Labelled:
    """A mismatch by the first faults, else no verdict where only the file names labels, else a match. named_by: the
    labels of PyTorch's and of the file's; reason: of a match; found: the other fields."""
    if faults:
        more = [f"and {len(faults) - 3} more"] if len(faults) > 3 else []
        return Labelled(MISMATCH, "; ".join([*faults[:3], *more]), **found)
    if named_by[0] is None and named_by[1] is not None:
        return Labelled(NOT_RUN, UNNAMED, **found)
    return Labelled(MATCH, reason, **found)


def number_faults(judgements: Mapping[str, Judgement]) -> list[str]:
    """Of those that do not match, by name where there are several."""
    wrong = {name: each.reason for name, each in judgements.items() if each.verdict == MISMATCH}
    return [f"{name}: {reason}" if len(judgements) > 1 else reason for name, reason in wrong.items()]


def far_photo(rows: tuple[object, ...], limit: float | None) -> list[str]:
    """The photo on which a probability is furthest from PyTorch's, where that is too far; limit None is none."""
    known = [row for row in rows if row.max_abs_probability is not None]
    if limit is None or not known:
        return []
    worst = max(known, key=lambda row: row.max_abs_probability)
    if worst.max_abs_probability <= limit:
        return []
    return [f"{worst.name}: a probability differs by {worst.max_abs_probability:.3g} > {limit:g}"]

"""Two shipped files side by side: what each says of itself, what it is made of, and its numbers on the same images."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from mvit_deploy import inspection, report
from mvit_deploy.anatomy import Share
from mvit_deploy.comparison import contract, numbers
from mvit_deploy.comparison.contract import Difference
from mvit_deploy.comparison.labels import LabelChanges, changes
from mvit_deploy.comparison.numbers import Numbers
from mvit_deploy.errors import UsageError
from mvit_deploy.hints import did_you_mean
from mvit_deploy.inspection import Inspection
from mvit_deploy.parity import MISMATCH, NOT_RUN

SAME, DIFFERS, NOT_COMPARED = "same", "differs", "not_compared"
LABELS, NUMBERS = "labels", "numbers"
MAY_DIFFER = (*contract.FIELDS, LABELS, NUMBERS)  # what a person may allow to differ
_EXIT_CODES = {SAME: 0, DIFFERS: 1, NOT_COMPARED: 3}


@dataclass(frozen=True)
class Comparison:
    """What differs between two files that are not the same bytes.

    differences: of the contract. same: the fields of it that were compared and are alike. operators: how many of each
    type on either side, where that differs; None for files of different targets. weights: by type, likewise; None
    where they are not counted. allowed: what may differ.
    """

    a: Inspection
    b: Inspection
    differences: tuple[Difference, ...]
    same: tuple[str, ...]
    labels: LabelChanges
    operators: dict[str, tuple[int, int]] | None
    weights: dict[str, tuple[Share, Share]] | None
    numbers: Numbers
    allowed: frozenset[str]

    @property
    def counted(self) -> list[str]:
        """The names of everything that differs, may not, and is no convention of a format, in order, each once."""
        found = [each.field for each in self.differences if each.counted]
        found += [LABELS] if self.labels else []
        found += [NUMBERS] if self.numbers.verdict == MISMATCH else []
        return [name for name in dict.fromkeys(found) if name not in self.allowed]

    @property
    def verdict(self) -> str:
        if self.counted:
            return DIFFERS
        return NOT_COMPARED if self.numbers.verdict == NOT_RUN and NUMBERS not in self.allowed else SAME

    @property
    def exit_code(self) -> int:
        """0 the same, 1 something differs, 3 the numbers could not be compared here and all else is the same."""
        return _EXIT_CODES[self.verdict]

    def to_json(self) -> dict[str, object]:
        sides = {"a": self.a, "b": self.b}
        return {
            **{side: _head(each.path, each.sha256, each.size_bytes) for side, each in sides.items()},
            "identical": False,
            "verdict": self.verdict,
            "differs_in": self.counted,
            "allowed": sorted(self.allowed),
            "contract": [asdict(each) for each in self.differences],
            "same": list(self.same),
            "labels": self.labels.to_json(),
            "operators": self.operators and {name: list(counts) for name, counts in self.operators.items()},
            "weights": self.weights and {name: [asdict(each) for each in pair] for name, pair in self.weights.items()},
            "numbers": self.numbers.to_json(),
        }


@dataclass(frozen=True)
class Identical:
    """Two files of the same bytes."""

    a: Path
    b: Path
    sha256: str
    size_bytes: int
    verdict = SAME
    exit_code = 0

    def to_json(self) -> dict[str, object]:
        sides = {side: _head(path, self.sha256, self.size_bytes) for side, path in (("a", self.a), ("b", self.b))}
        return {**sides, "identical": True, "verdict": SAME, "differs_in": []}


def _head(path: Path, sha256: str, size_bytes: int) -> dict[str, object]:
    return {"path": str(path), "sha256": sha256, "size_bytes": size_bytes}


def check_allowed(names: Collection[str]) -> frozenset[str]:
    """Raises: UsageError for what is no part of a comparison."""
    for name in names:
        if name not in MAY_DIFFER:
            known = ", ".join(MAY_DIFFER)
            raise UsageError(f"nothing called {name!r} is compared; known: {known}{did_you_mean(name, MAY_DIFFER)}")
    return frozenset(names)


def compare(
    a: Path, b: Path, *, folder: Path | None = None, allowed: frozenset[str] = frozenset()
) -> Comparison | Identical:
    """Compare two files. folder: of photos on which they are run beside the built-in ones.

    Raises: UsageError; MissingLibraryError; DamagedFileError.
    """
    inspection.check([a, b])
    digests = [report.sha256_of(path) for path in (a, b)]
    if digests[0] == digests[1] and a.suffix == b.suffix:
        return Identical(a, b, digests[0], report.size_of(a))
    first, second = (inspection.inspect(path) for path in (a, b))
    differences, same = contract.compare(first, second)
    return Comparison(
        a=first,
        b=second,
        differences=differences,
        same=same,
        labels=changes(first.labels, second.labels),
        operators=_operators(first, second),
        weights=_weights(first, second),
        numbers=numbers.compare(first, second, folder),
        allowed=allowed,
    )


def _operators(a: Inspection, b: Inspection) -> dict[str, tuple[int, int]] | None:
    if a.format != b.format:
        return None
    first, second = a.anatomy.operators, b.anatomy.operators
    counts = {name: (first.get(name, 0), second.get(name, 0)) for name in [*first, *second]}
    return {name: pair for name, pair in counts.items() if pair[0] != pair[1]}


def _weights(a: Inspection, b: Inspection) -> dict[str, tuple[Share, Share]] | None:
    if a.weights is None or b.weights is None:
        return None
    nothing = Share(0, 0)
    pairs = {name: (a.weights.get(name, nothing), b.weights.get(name, nothing)) for name in [*a.weights, *b.weights]}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

"""What the platforms' documents say against a shipped file, read from the file alone: one module per target.

Nothing is run and nothing is converted. A rule stands in rules.py with the document that it was read in; what a
consumer is documented to take stands in supported.py. The verb of every module is lint(path) -> LintResult.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mvit_deploy.lint.rules import ERROR, RULES, WARNING, Rule
from mvit_deploy.runtimes import module_for

PLACES = 5  # as many as a report names of each finding
SHOWN_TYPES = 3  # of operators that fall back, in a line of text


@dataclass(frozen=True)
class Operator:
    """One operator of a file: its place in the file's order, its type, and the name of it or of its first output."""

    index: int
    type: str
    name: str


@dataclass(frozen=True)
class Place:
    """Where a rule is broken: an operator, a tensor, or both. what: the offending shape, type or version, in words."""

    operator: Operator | None = None
    tensor: str | None = None
    what: str = ""

    def to_json(self) -> dict[str, object]:
        at = self.operator
        found = {} if at is None else {"index": at.index, "operator": at.type, "name": at.name}
        return found | {key: value for key, value in (("tensor", self.tensor), ("what", self.what)) if value}


@dataclass(frozen=True)
class Finding:
    """All places where a file breaks one rule."""

    rule: Rule
    places: tuple[Place, ...]

    @property
    def count(self) -> int:
        return len(self.places)

    @property
    def operators(self) -> dict[str, int]:
        """How many of each type, the most frequent first."""
        return dict(Counter(place.operator.type for place in self.places if place.operator).most_common())

    def to_json(self) -> dict[str, object]:
        return {
            "rule": self.rule.id,
            "consumer": self.rule.consumer,
            "severity": self.rule.severity,
            "count": self.count,
            "operators": self.operators,
            "places": [place.to_json() for place in self.places[:PLACES]],
            "text": self.rule.text,
            "source": str(self.rule.source),
        }


@dataclass(frozen=True)
class Consumer:
    """How much of a file an accelerator takes. blocked_by: the rules that keep it from the rest."""

    taken: int
    of: int
    blocked_by: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return {"taken": self.taken, "of": self.of, "blocked_by": list(self.blocked_by)}


@dataclass(frozen=True)
class LintResult:
    """The findings of one file, the worst first, and counts of its operators by type (constants are none)."""

    findings: tuple[Finding, ...]
    operators: Mapping[str, int]
    transposes: int
    reshapes: int
    consumers: Mapping[str, Consumer]

    @property
    def data_movement_fraction(self) -> float:
        """Share of the operators that are transposes or reshapes, which compute nothing."""
        total = sum(self.operators.values())
        return (self.transposes + self.reshapes) / total if total else 0.0

    def of(self, severity: str) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.rule.severity == severity)

    def to_json(self) -> dict[str, object]:
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "operators": dict(self.operators),
            "transposes": self.transposes,
            "reshapes": self.reshapes,
            "data_movement_fraction": self.data_movement_fraction,
            "consumers": {name: consumer.to_json() for name, consumer in self.consumers.items()},
        }


@dataclass
class Findings:
    """Collects what a target's module finds. operators: those of the file, as consumers are asked to take them."""

    operators: Collection[Operator]
    _places: dict[str, list[Place]] = field(default_factory=dict)

    def add(self, rule: str, operator: Operator | None = None, *, tensor: str | None = None, what: str = "") -> None:
        """Note one place that breaks a rule, by the rule's id."""
        self._places.setdefault(rule, []).append(Place(operator, tensor, what))

    def result(
        self, *, operators: Iterable[Operator], transposes: Collection[str], reshapes: Collection[str],
        consumers: Collection[str],
    ) -> LintResult:  # fmt: skip
        """operators: all of the file. transposes, reshapes: the types that are ones. consumers: who takes operators."""
        histogram = Counter(operator.type for operator in operators)
        found = [Finding(rule, tuple(self._places[rule.id])) for rule in RULES if rule.id in self._places]
        return LintResult(
            findings=tuple(sorted(found, key=lambda finding: finding.rule.rank)),
            operators=dict(histogram.most_common()),
            transposes=sum(histogram[type_] for type_ in transposes),
            reshapes=sum(histogram[type_] for type_ in reshapes),
            consumers={name: self._consumer(name, found) for name in consumers},
        )

    def _consumer(self, name: str, found: Iterable[Finding]) -> Consumer:
        blocking = [finding for finding in found if finding.rule.consumer == name and finding.rule.blocks]
        refused = {place.operator.index for finding in blocking for place in finding.places if place.operator}
        taken = sum(operator.index not in refused for operator in self.operators)
        return Consumer(taken, len(self.operators), tuple(finding.rule.id for finding in blocking))


def lint(path: Path) -> LintResult:
    """Hold a shipped file to the rules of its target.

    Raises: UsageError for an unknown suffix; MissingLibraryError; DamagedFileError.
    """
    return module_for(path, "mvit_deploy.lint", doing="linting").lint(path)


def summary(result: LintResult) -> str:
    """Errors and warnings in a line: the rules, and what falls back on each consumer; "" where there is none."""
    errors, warnings = result.of(ERROR), result.of(WARNING)
    if not errors and not warnings:
        return ""
    counts = [_counted(len(errors), "error"), _counted(len(warnings), "warning")]
    told = [_named(finding) for finding in (*errors, *warnings) if not _is_fall_back(finding)]
    by_consumer: dict[str, list[Finding]] = {}
    for finding in filter(_is_fall_back, warnings):
        by_consumer.setdefault(finding.rule.consumer, []).append(finding)
    told += [_fall_back(findings, result.consumers[consumer]) for consumer, findings in by_consumer.items()]
    return f"{', '.join(filter(None, counts))} ({'; '.join(told)})"


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count > 1)}" if count else ""


def _is_fall_back(finding: Finding) -> bool:
    return finding.rule.blocks and finding.rule.severity == WARNING


def _named(finding: Finding) -> str:
    where = next((place.what for place in finding.places if place.what), "")
    return f"{finding.rule.consumer}: {finding.rule.id}{f' ({where})' if where else ''}"


def _fall_back(findings: list[Finding], consumer: Consumer) -> str:
    types = sum((Counter(finding.operators) for finding in findings), Counter())
    shown = ", ".join(type_ for type_, _ in types.most_common(SHOWN_TYPES)) + (
        ", …" if len(types) > SHOWN_TYPES else ""
    )
    count = consumer.of - consumer.taken
    return f"{findings[0].rule.consumer}: {count} of {consumer.of} operators fall back: {shown}"

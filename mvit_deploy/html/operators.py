"""What lint found, in the rows of a page."""

from collections.abc import Sequence
from dataclasses import dataclass

from mvit_deploy.html import words
from mvit_deploy.report import Report, look_up

SHOWN_PLACES = 3


@dataclass(frozen=True)
class Rule:
    """One rule that a file breaks."""

    severity: str
    consumer: str
    rule: str
    text: str
    count: str
    places: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Operators:
    """The operators of one file. counts: by type, the most frequent first. consumers: who takes how many. remark: why
    it was not linted."""

    name: str
    total: int
    transposes: str
    reshapes: str
    moved: str
    counts: tuple[tuple[str, object], ...]
    consumers: tuple[tuple[str, str, str], ...]
    rules: tuple[Rule, ...]
    remark: str = ""


def operators(results: Sequence[Report], names: dict[str, str]) -> list[Operators]:
    """Of each file that was linted."""
    linted = [(names[str(r.path)], look_up(r.content, "artifact", "lint")) for r in results]
    return [_operators(name, lint) for name, lint in linted if isinstance(lint, dict)]


def _operators(name: str, lint: dict[str, object]) -> Operators:
    counts = lint.get("operators")
    counts = tuple(counts.items()) if isinstance(counts, dict) else ()
    findings, consumers = lint.get("findings") or (), lint.get("consumers")
    return Operators(
        name=name,
        total=sum(count for _, count in counts if words.is_number(count)),
        transposes=words.number(lint.get("transposes"), "d"),
        reshapes=words.number(lint.get("reshapes"), "d"),
        moved=words.number(lint.get("data_movement_fraction"), ".1%"),
        counts=counts,
        consumers=tuple(_consumer(*each) for each in (consumers if isinstance(consumers, dict) else {}).items()),
        rules=tuple(_rule(finding) for finding in findings),
        remark=words.text(lint.get("reason")),
    )


def _consumer(name: str, taken: object) -> tuple[str, str, str]:
    """Its name, how many operators it takes, and what keeps it from the rest."""
    count, of, blocked = (look_up(taken, key) for key in ("taken", "of", "blocked_by"))
    share = f" ({count / of:.1%})" if words.is_number(count) and words.is_number(of) and of else ""
    return name, f"{count} of {of}{share}", ", ".join(map(str, blocked or ()))


def _rule(finding: object) -> Rule:
    def says(key: str) -> str:
        value = look_up(finding, key)
        return "" if value is None else str(value)

    places = look_up(finding, "places") or ()
    return Rule(
        severity=says("severity"),
        consumer=says("consumer"),
        rule=says("rule"),
        text=says("text"),
        count=says("count"),
        places=tuple(_place(each) for each in places[:SHOWN_PLACES]),
        # A page holds no address that could be followed: the document's name and where it stands, as text.
        source=says("source").replace("https://", "").replace("http://", ""),
    )


def _place(place: object) -> str:
    operator, index = look_up(place, "operator"), look_up(place, "index")
    at = f"{operator} (operator {index})" if operator else ""
    return ": ".join(str(part) for part in (at or look_up(place, "tensor"), look_up(place, "what")) if part)

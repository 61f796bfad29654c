"""What export and verification do with a lint: nothing, a line of text and the report, or a mismatch where it errs."""

from dataclasses import dataclass
from pathlib import Path

from mvit_deploy.errors import DamagedFileError, MissingLibraryError
from mvit_deploy.lint import lint, summary
from mvit_deploy.lint.rules import ERROR
from mvit_deploy.spec import LINT_LEVELS

OFF, _, GATE = LINT_LEVELS


@dataclass(frozen=True)
class Linted:
    """facts: what the report's artifact.lint holds, None where it has none. refusal: why the file is a mismatch."""

    facts: dict[str, object] | None = None
    refusal: str = ""

    @property
    def artifact(self) -> dict[str, object]:
        """To be joined to the report's artifact."""
        return {} if self.facts is None else {"lint": self.facts}


def look(path: Path, level: str) -> Linted:
    """Lint a file as the level asks. Raises: MissingLibraryError, where the lint is a gate."""
    if level == OFF:
        return Linted()
    try:
        result = lint(path)
    except (DamagedFileError, MissingLibraryError) as error:
        if level == GATE and isinstance(error, MissingLibraryError):
            raise
        return Linted({"reason": str(error)}, str(error) if level == GATE else "")
    facts = {"summary": summary(result)} | result.to_json()
    broken = [finding for finding in result.of(ERROR) if level == GATE]
    return Linted(facts, "; ".join(f"{finding.rule.id}: {finding.rule.text}" for finding in broken))

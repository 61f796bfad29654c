"""What the Core ML evaluators say when they do not know an operation."""

from collections.abc import Iterable

from mvit_deploy.runtimes import CannotRunHere


class UnknownOperationError(CannotRunHere):
    """An operation, or a form of one, whose meaning is not implemented: the verdict is not run, never a guess."""

    def __init__(self, operation: str, line: int, text: str, supported: Iterable[str]) -> None:
        known = ", ".join(sorted(supported))
        super().__init__(
            f"line {line}: {text.strip()}: the program evaluator does not know {operation}; it knows: {known}"
        )
        self.operation = operation
        self.line = line


class UnknownFormError(Exception):
    """Raised inside an operation: its documentation does not say, or this code does not know, what this form means."""

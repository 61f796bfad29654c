"""Words that a person mistyped: refused, with the nearest that is known."""

from collections.abc import Iterable
from difflib import get_close_matches

from mvit_deploy.errors import UsageError


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A tail for an error message, "; did you mean 'coreml'?", or nothing when no known word is close.

    The end of a dotted name is close to it.
    """
    known = list(known)
    matches = get_close_matches(word.lower(), known, n=1) or [name for name in known if name.endswith(f".{word}")]
    return f"; did you mean {matches[0]!r}?" if matches else ""


def choose(word: str, known: Iterable[str], what: str) -> None:
    """Refuse a word that is not known. Raises: UsageError."""
    if word not in known:
        raise UsageError(f"unknown {what} {word!r}; known: {', '.join(known)}{did_you_mean(word, known)}")

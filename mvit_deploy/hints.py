"""Close matches for words that a person mistyped."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A tail for an error message, "; did you mean 'coreml'?", or nothing when no known word is close.

    The end of a dotted name is close to it.
    """
    known = list(known)
    matches = get_close_matches(word.lower(), known, n=1) or [name for name in known if name.endswith(f".{word}")]
    return f"; did you mean {matches[0]!r}?" if matches else ""

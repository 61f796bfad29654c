"""Numbers and names as a page words them. Reports are read from files that anybody may have written: a value of an
unexpected type is shown as it is, never computed with."""

from collections.abc import Iterable, Sequence
from math import isfinite

NOTHING = "–"
NO_LOSS_DB = 300.0  # where SQNR is capped
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def text(value: object) -> str:
    """As it is; nothing for None."""
    return "" if value is None else str(value)


def number(value: object, form: str, unit: str = "") -> str:
    """A number in a format of Python's with its unit; a dash for None; anything else as text."""
    if value is None:
        return NOTHING
    if not is_number(value):
        return str(value)
    return f"{value:{form}}{unit}"


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def decibels(value: object) -> str:
    return "no loss" if is_number(value) and value >= NO_LOSS_DB else number(value, ".1f")


def megabytes(value: object) -> str:
    return number(value / 1e6, ".2f", " MB") if is_number(value) else number(value, "")


def power_of_ten(exponent: int) -> str:
    return f"10{str(exponent).translate(SUPERSCRIPTS)}"


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """By path: file names, and as much of the folders before them as tells equal ones apart."""
    paths = list(dict.fromkeys(paths))
    parts = {path: path.replace("\\", "/").rstrip("/").split("/") for path in paths}
    found = {}
    for path, own in parts.items():
        others = [other for other in paths if other != path]
        counts = range(1, len(own) + 1)
        enough = (n for n in counts if all(parts[other][-n:] != own[-n:] for other in others))
        found[path] = "/".join(own[-next(enough, len(own)) :])
    return found


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"

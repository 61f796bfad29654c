"""What the edits of every format share: metadata of ours, a zero point's shift, and that there may be no place."""

import json

from mvit_deploy import metadata

SHIFT = 128  # of a zero point: what lies between unsigned and signed levels


class NoSuchPlace(Exception):
    """The file has nothing that could be wrong in this way."""


def axis_of(name: str, what: str, rank: int, *, classes_last: bool) -> int:
    """Of an output with a batch: class, row and column of a map, anchor and side or class of boxes and their scores.
    Raises: NoSuchPlace."""
    if rank == 4:
        axes = {"row": 1, "column": 2, "class": 3} if classes_last else {"class": 1, "row": 2, "column": 3}
    elif name in ("boxes", "scores"):
        axes = {"anchor": 1, {"boxes": "side", "scores": "class"}[name]: 2}
    else:
        axes = {"row": 1, "column": 2}
    if rank < 3 or what not in axes:
        raise NoSuchPlace
    return axes[what]


def say(said: dict[str, str], key: str, value: object) -> None:
    """Metadata with another value under one of our keys."""
    said[metadata.PREFIX + key] = value if isinstance(value, str) else json.dumps(value)

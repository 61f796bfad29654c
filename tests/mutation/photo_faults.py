"""What the edits of every format share: metadata of ours, a zero point's shift, and that there may be no place."""

import json

from mvit_deploy import metadata

SHIFT = 128  # of a zero point: what lies between unsigned and signed levels


class NoSuchPlace(Exception):
    """The file has nothing that could be wrong in this way."""


def say(said: dict[str, str], key: str, value: object) -> None:
    """Metadata with another value under one of our keys."""
    said[metadata.PREFIX + key] = value if isinstance(value, str) else json.dumps(value)

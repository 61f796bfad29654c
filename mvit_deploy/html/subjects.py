"""Files with what they were judged on, for those who look at them once more."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvit_deploy.images import ImageSet
from mvit_deploy.report import Report, look_up

SEEN_KINDS = ("photo", "builtin")  # of images that show something


@dataclass(frozen=True, eq=False)
class JudgedFile:
    """A report, the images that its file was judged on, what PyTorch gave for them, and PyTorch's module.

    outputs: by the names of the reference, (count, …) each. source: a reference.Reference. None where it is not known.
    """

    report: Report
    inputs: ImageSet | None = None
    outputs: dict[str, np.ndarray] | None = None
    source: object | None = None

    @property
    def path(self) -> Path:
        return self.report.path

    @property
    def key(self) -> str:
        """What the page calls it by."""
        return str(self.report.path)

    @property
    def is_there(self) -> bool:
        """Whether there is a file: not where it failed."""
        return self.path.exists()

    def says(self, *keys: str) -> object:
        """A value of the report, None where it has none."""
        return look_up(self.report.content, *keys)


@dataclass(frozen=True, eq=False)
class Seen:
    """An image that shows something, and PyTorch's row of each output for it."""

    name: str
    kind: str
    pixels: np.ndarray
    outputs: dict[str, np.ndarray]


def seen(group: Sequence[JudgedFile]) -> dict[str, Seen]:
    """The images that the files of a model were judged on, by their digests; what judges before what only shows."""
    found: dict[str, Seen] = {}
    for kind in SEEN_KINDS:
        for each in group:
            if each.inputs is None or each.outputs is None:
                continue
            for place in np.flatnonzero(each.inputs.where(kind)):
                rows = {name: values[place] for name, values in each.outputs.items()}
                image = Seen(each.inputs.names[place], kind, each.inputs.pixels[place], rows)
                found.setdefault(each.inputs.digests[place], image)
    return found


def by_model(judged: Sequence[JudgedFile]) -> list[list[JudgedFile]]:
    """Files of the same network, task and image size together, in the order of the first of each."""
    groups: dict[str, list[JudgedFile]] = {}
    for each in judged:
        facts = [each.says("model", key) for key in ("mode", "task", "variant", "image_size", "ending")]
        groups.setdefault(repr([*facts, each.says("model", "weights", "sha256")]), []).append(each)
    return list(groups.values())

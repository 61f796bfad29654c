"""How often files are right on photos that lie in folders named by their labels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvit_deploy import images
from mvit_deploy.bench.subject import Subject
from mvit_deploy.spec import OWN, Preprocessing
from mvit_deploy.verification import numeric_outputs

BATCH = 32  # decoded at a time, so that a folder of any size fits


@dataclass(frozen=True)
class Accuracy:
    """right of count photos have their folder's label as the first class; remark: why none was judged."""

    right: int = 0
    count: int = 0
    remark: str = ""

    @property
    def top1(self) -> float | None:
        """Share of right photos, None where none was judged."""
        return self.right / self.count if self.count else None


def find_photos(folder: Path) -> dict[Path, str]:
    """Photos below a folder, with the name of the sub-folder that each is in, empty for those in none.

    Raises: UsageError for a missing or empty folder.
    """
    inside = [(path, path.relative_to(folder).parts) for path in images.list_images(folder)]
    return {path: parts[0] if len(parts) > 1 else "" for path, parts in inside}


def measure(subjects: list[Subject], photos: dict[Path, str], progress: Callable[[str], None]) -> list[Accuracy]:
    """The accuracy of each file on those photos that are in a folder named as one of its labels.

    Raises: UsageError for an image that cannot be read.
    """
    remarks = [_obstacle(subject, set(photos.values())) for subject in subjects]
    judged = [subject for subject, remark in zip(subjects, remarks, strict=True) if not remark]
    outcomes: list[list[bool]] = [[] for _ in judged]
    paths = list(photos) if judged else []
    for start in range(0, len(paths), BATCH):
        progress(f"photo {start + 1} of {len(paths)}")
        for place, more in enumerate(_outcomes(judged, paths[start : start + BATCH], photos)):
            outcomes[place] += more
    found = iter(outcomes)
    return [Accuracy(remark=remark) if remark else _counted(next(found)) for remark in remarks]


def _counted(outcome: list[bool]) -> Accuracy:
    return Accuracy(sum(outcome), len(outcome))


def _obstacle(subject: Subject, folders: set[str]) -> str:
    """Why a file's accuracy cannot be measured on these folders; empty when it can."""
    if subject.runner.interface.suppression is not None:
        return "no accuracy: it finds boxes"
    labels, shape = subject.runner.interface.labels, numeric_outputs(subject.runner.interface)[0].shape
    if labels is None:
        return "no accuracy: there are no labels in the file"
    if len(shape) != 2 or shape[1] != len(labels):
        return f"no accuracy: its output {shape} is not one number for each of its {len(labels)} labels"
    if not folders & set(labels):
        return "no accuracy: no sub-folder of --images that holds photos is named as a label in the file"
    return ""


def _outcomes(subjects: list[Subject], paths: list[Path], photos: dict[Path, str]) -> Iterator[list[bool]]:
    """For each file, whether it is right on each photo that has one of its labels, prepared as the file declares; a
    photo is decoded once for all that prepare it alike."""
    pixels: dict[tuple[Path, tuple[int, int], Preprocessing], np.ndarray] = {}
    for subject in subjects:
        declared, size = subject.runner.interface.declared, subject.image_size
        how = declared.preprocessing or OWN
        chosen = [path for path in paths if photos[path] in declared.labels]
        for path in chosen:
            if (path, size, how) not in pixels:
                pixels[path, size, how] = images.prepare(path, size, how)
        truth = [declared.labels.index(photos[path]) for path in chosen]
        yield _right(subject, [pixels[path, size, how] for path in chosen], truth)


def _right(subject: Subject, pixels: list[np.ndarray], truth: list[int]) -> list[bool]:
    if not pixels:
        return []
    outputs = subject.runner.run(np.stack(pixels))[numeric_outputs(subject.runner.interface)[0].name]
    return [bool(found == true) for found, true in zip(outputs.argmax(1), truth, strict=True)]

"""What classifiers' files and PyTorch call each picture: as reports have it, or from running the files again."""

from collections.abc import Sequence

import numpy as np

from mvit_deploy import parity
from mvit_deploy.html import words
from mvit_deploy.html.exhibits import PYTORCH, Answer
from mvit_deploy.html.subjects import SEEN_KINDS, JudgedFile, Seen
from mvit_deploy.labelling import classes
from mvit_deploy.report import look_up
from mvit_deploy.runtimes import Runner
from mvit_deploy.spec import PROBABILITIES

Answers = dict[str, Answer]  # by the digest of the image


def reported(each: JudgedFile) -> dict[str, tuple[Answer, Answer]]:
    """A report's own comparison of labels, PyTorch's answer and the file's, by the digest of the photo."""
    found = each.says("verification", "labels")
    rows = look_up(found, "photos") if isinstance(found, dict) else found
    if not isinstance(rows, list | tuple) or each.inputs is None:
        return {}
    digests = _digests(each)
    pairs = ((digests.get(look_up(row, "name")), row) for row in rows)
    return {digest: of_row(each.key, row) for digest, row in pairs if digest is not None}


def of_row(key: str, row: object) -> tuple[Answer, Answer]:
    """PyTorch's answer and the file's, of a row that compares both. key: what the page calls the file by."""
    return Answer(PYTORCH, (_top(look_up(row, "reference")),)), _own(key, row)


def _digests(each: JudgedFile) -> dict[str, str]:
    """Of the photos by their names; a name that two of them share says nothing."""
    inputs = each.inputs
    named = [
        (n, d) for n, d, kind in zip(inputs.names, inputs.digests, inputs.kinds, strict=True) if kind in SEEN_KINDS
    ]
    names = [name for name, _ in named]
    return {name: digest for name, digest in named if names.count(name) == 1}


def _own(key: str, row: object) -> Answer:
    same = look_up(row, "same")
    same = look_up(row, "same_label") if same is None else same
    return Answer(key, (_top(look_up(row, "file")),), same=same if isinstance(same, bool) else None)


def _top(guesses: object) -> str:
    if not isinstance(guesses, list | tuple) or not guesses:
        return "no answer"
    return worded(look_up(guesses[0], "label"), look_up(guesses[0], "probability"))


def worded(label: object, probability: object) -> str:
    """A label, or the number of a class without one, and its probability."""
    name = f"class {label}" if isinstance(label, int) else str(label)
    return f"{name} {words.number(probability, '.1%')}" if probability is not None else f"{name}, not finite"


def of_pytorch(images: dict[str, Seen], labels: Sequence[str] | None) -> Answers:
    """From the logits of the reference; nothing where it gives none."""
    return {
        digest: Answer(PYTORCH, (_worded_row(parity.softmax(image.outputs["logits"][None])[0], labels),))
        for digest, image in images.items()
        if "logits" in image.outputs and image.outputs["logits"].ndim == 1
    }


def of_file(key: str, runner: Runner, images: dict[str, Seen]) -> Answers:
    """From running the file on the images. Raises: DamagedFileError for one without classes; CannotRunHere."""
    output = classes.class_output(runner.interface)
    given = runner.run(np.stack([image.pixels for image in images.values()]))[output.name]
    labels = runner.interface.labels
    found = {}
    for (digest, image), row in zip(images.items(), given, strict=True):
        is_finite = bool(np.isfinite(row).all())
        probabilities = row if output.meaning == PROBABILITIES or not is_finite else parity.softmax(row[None])[0]
        expected = image.outputs.get("logits")
        same = None if expected is None else is_finite and int(expected.argmax()) == int(row.argmax())
        found[digest] = Answer(key, (_worded_row(probabilities, labels),), same=same)
    return found


def _worded_row(probabilities: np.ndarray, labels: Sequence[str] | None) -> str:
    best = classes.top(probabilities, labels or range(len(probabilities)), 1)[0]
    return worded(best["label"], best["probability"])

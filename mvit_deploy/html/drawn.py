"""What detectors' and segmenters' files and PyTorch see in each picture, drawn."""

from collections.abc import Sequence

import numpy as np

from mvit_deploy import parity
from mvit_deploy.detection import Detections, by_rule, intersection_and_union
from mvit_deploy.html import words
from mvit_deploy.html.classified import Answers
from mvit_deploy.html.drawing import data_uri, with_boxes, with_classes
from mvit_deploy.html.exhibits import PYTORCH, Answer
from mvit_deploy.html.subjects import JudgedFile, Seen
from mvit_deploy.runtimes import Runner, suppressed
from mvit_deploy.runtimes.tensors import channels_first
from mvit_deploy.spec import CLASSES, Suppression

LEAST_SCORE, MOST_BOXES, NAMED_BOXES = 0.3, 10, 3
# A box of a file is PyTorch's where one of the same class covers it so far and has nearly its score.
SAME_IOU, SAME_SCORE = 0.9, 0.05
RULES = (Suppression(), Suppression(one_class=True))


def can_be_drawn(outputs: dict[str, np.ndarray]) -> bool:
    """Boxes with scores, or a map of classes or of their logits. outputs: of one image."""
    if {"boxes", "scores"} <= set(outputs):
        return True
    return CLASSES in outputs or ("logits" in outputs and outputs["logits"].ndim == 3)


def of_pytorch(images: dict[str, Seen], labels: Sequence[str] | None) -> Answers:
    """What the reference's outputs show."""
    found = {}
    for digest, image in images.items():
        if "boxes" in image.outputs:
            best = _best(_found(image.outputs, RULES[0]))
            found[digest] = Answer(PYTORCH, _named(best, labels), _with_detections(image, best))
        else:
            classes = _classes(image.outputs)
            found[digest] = Answer(PYTORCH, _shares(classes, labels), data_uri(with_classes(image.pixels, classes)))
    return found


def of_file(each: JudgedFile, runner: Runner, images: dict[str, Seen]) -> Answers:
    """What a file sees, and how far that is what PyTorch does. Raises: DamagedFileError; CannotRunHere."""
    labels, pixels = runner.interface.labels, np.stack([image.pixels for image in images.values()])
    if runner.interface.suppression is not None:
        given = suppressed.detect(each.path, pixels)
        pairs = zip(images.items(), given.detections, strict=True)
        return {digest: detected(each.key, image, found, given.rule, labels) for (digest, image), found in pairs}
    outputs = runner.run(pixels)
    first = {o.name: channels_first(outputs[o.name], o) for o in runner.interface.outputs}
    rows = [{name: values[place] for name, values in first.items()} for place in range(len(pixels))]
    if "boxes" in first:
        pairs = zip(images.items(), (_found(row, RULES[0]) for row in rows), strict=True)
        return {digest: detected(each.key, image, found, RULES[0], labels) for (digest, image), found in pairs}
    floor = parity.CLASS_MAP_AGREEMENT.get(str(each.says("artifact", "precision")), 1.0)
    pairs = zip(images.items(), rows, strict=True)
    return {digest: mapped(each.key, image, _classes(row), floor, labels) for (digest, image), row in pairs}


def _found(outputs: dict[str, np.ndarray], rule: Suppression) -> Detections:
    """Of boxes, and of scores with the background. Raises: UsageError for a value that is not finite."""
    return by_rule(outputs["boxes"], outputs["scores"], rule)


def _best(found: Detections) -> Detections:
    """What is worth drawing, the best first."""
    order = np.argsort(-found.scores, kind="stable")
    chosen = [place for place in order if found.scores[place] > LEAST_SCORE][:MOST_BOXES]
    return Detections(found.boxes[chosen], found.scores[chosen], found.classes[chosen])


def _with_detections(image: Seen, best: Detections) -> str:
    pairs = [(box, int(label)) for box, label in zip(best.boxes, best.classes, strict=True)]
    return data_uri(with_boxes(image.pixels, pairs[::-1]))


def detected(key: str, image: Seen, found: Detections, rule: Suppression, labels: Sequence[str] | None) -> Answer:
    """Each box that is drawn is looked for among all that PyTorch's outputs give by the same rule."""
    best, expected = _best(found), _found(image.outputs, rule)
    same = sum(_is_among(expected, *row) for row in zip(best.boxes, best.scores, best.classes, strict=True))
    said = f"{same} of {words.plural(len(best.scores), 'box').replace('boxs', 'boxes')} as PyTorch's"
    missed = not len(best.scores) and len(_best(expected).scores) > 0
    lines = (said if len(best.scores) else "no box", *_named(best, labels)[1:])
    return Answer(key, lines, _with_detections(image, best), same == len(best.scores) and not missed)


def _is_among(expected: Detections, box: np.ndarray, score: float, label: int) -> bool:
    alike = (expected.classes == label) & (np.abs(expected.scores - score) <= SAME_SCORE)
    intersection, union = intersection_and_union(box, expected.boxes[alike])
    return bool((intersection >= SAME_IOU * union).any())


def _named(best: Detections, labels: Sequence[str] | None) -> tuple[str, ...]:
    """How many boxes, and what the best are."""
    count = len(best.scores)
    named = (f"{_label(label, labels)} {score:.2f}" for label, score in zip(best.classes, best.scores, strict=True))
    return (f"{count} box{'' if count == 1 else 'es'}" if count else "no box", *list(named)[:NAMED_BOXES])


def _label(label: int, labels: Sequence[str] | None) -> str:
    return labels[label] if labels and 0 <= label < len(labels) else f"class {label}"


def _classes(outputs: dict[str, np.ndarray]) -> np.ndarray:
    """A map of classes of one image. Shapes: -> (height, width)."""
    if CLASSES in outputs:
        return np.rint(outputs[CLASSES]).astype(np.int64)
    return outputs["logits"].argmax(0)


def _shares(classes: np.ndarray, labels: Sequence[str] | None) -> tuple[str, ...]:
    """The largest classes and how much of the picture they take."""
    known, counts = np.unique(classes, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:NAMED_BOXES]
    return tuple(f"{_label(int(known[n]), labels)} {counts[n] / classes.size:.0%}" for n in order)


def mapped(key: str, image: Seen, classes: np.ndarray, floor: float, labels: Sequence[str] | None) -> Answer:
    expected, drawn = _classes(image.outputs), data_uri(with_classes(image.pixels, classes))
    if expected.shape != classes.shape:
        return Answer(key, (f"a map of {classes.shape}, PyTorch's is {expected.shape}",), drawn, same=False)
    share = float((expected == classes).mean())
    return Answer(key, (f"{share:.2%} of the points as PyTorch's", *_shares(classes, labels)), drawn, share >= floor)

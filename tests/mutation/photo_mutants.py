"""Faults of the last metre and what catches each: the contract, the numbers of photos alone, the reader's refusal."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from mvit_deploy import interface, labelling, metadata, runtimes
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.labelling import boxes, causes, classes, maps
from mvit_deploy.labelling.photos import Photos, image_size
from mvit_deploy.parity import MISMATCH
from mvit_deploy.photo_labels import NEARER
from mvit_deploy.spec import CLASSES, OWN, PROBABILITIES, Contract, Output, Preprocessing
from tests.mutation.photo_edits import NoSuchPlace, opened

TENSORS, PICTURES = (".onnx", ".tflite"), (".mlpackage", ".mlmodel")
ALL = TENSORS + PICTURES
Edit = Callable[[object], None]


@dataclass(frozen=True)
class Fault:
    """contract, cause: words in what the contract and the explanation say; empty where they cannot tell."""

    edit: Edit
    formats: tuple[str, ...] = ALL
    contract: str = ""
    cause: str = ""


def prepared(**changes: object) -> Edit:
    """The file says that photos are prepared otherwise."""

    def edit(file: object) -> None:
        said = metadata.preprocessing_to_json(OWN) | changes
        file.say("preprocessing", said)

    return edit


def labelled(order: Callable[[list[str]], list[str]], *, everywhere: bool = False) -> Edit:
    def edit(file: object) -> None:
        labels = order(list(metadata.read(dict(file.said)).labels))
        file.set_labels(labels)
        if everywhere:
            file.say("labels", labels)

    return edit


def one_off(labels: list[str]) -> list[str]:
    return labels[1:] + labels[:1]


def two_exchanged(labels: list[str]) -> list[str]:
    return [labels[1], labels[0], *labels[2:]]


def last_exchanged(labels: list[str]) -> list[str]:
    return [*labels[:-2], labels[-1], labels[-2]]


def turned(file: object, side: str) -> None:
    """Of the map that a segmenter gives."""
    try:
        file.take("logits", side)
    except NoSuchPlace:
        file.take(CLASSES, side)


def normalized_twice(file: object) -> None:
    file.normalize_image((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


ORDER, PREPARED, EXCHANGED = "its labels in another order", "photos prepared as PyTorch's", "red and blue exchanged"
FAULTS = {
    "scale 1/127.5, as declared": Fault(
        lambda f: f.say("value_range", [0.0, 2.0]), TENSORS, "value range", "values in [0, 1]"
    ),
    "mean 127.5, as declared": Fault(
        lambda f: f.say("value_range", [-1.0, 1.0]), TENSORS, "value range", "values in [0, 1]"
    ),
    "scale 1/127.5, in the graph": Fault(lambda f: f.scale_image(2), cause="values in [0, 0.5]"),
    "wrong mean, in the graph": Fault(lambda f: f.shift_image(-0.449)),
    "normalized twice": Fault(normalized_twice, (".onnx",), cause="ImageNet's normalization undone"),
    "BGR, as declared": Fault(lambda f: f.swap_colors(), ALL, "colour order", EXCHANGED),
    "BGR, in the metadata alone": Fault(
        lambda f: f.say("color_order", "BGR"), PICTURES, "colour order in the metadata"
    ),
    "BGR, in the stem's weights": Fault(lambda f: f.swap_stem(), cause=EXCHANGED),
    "labels one off": Fault(labelled(one_off), TENSORS, "labels", ORDER),
    "two labels exchanged": Fault(labelled(two_exchanged), TENSORS, "labels", ORDER),
    "labels one off, in the classifier": Fault(labelled(one_off), PICTURES, cause=ORDER),
    "labels one off, in classifier and metadata": Fault(labelled(one_off, everywhere=True), PICTURES, "labels", ORDER),
    "softmax missing": Fault(lambda f: f.drop_softmax(), cause="a softmax, which is missing"),
    "softmax once too often": Fault(lambda f: f.add_softmax(), cause="softmax|probabilities that they are"),
    "resize 304 for 288": Fault(prepared(resize=304), ALL, "preprocessing", PREPARED),
    "crop 272 for 256": Fault(prepared(crop=[272, 272]), ALL, "preprocessing", PREPARED),
    "no crop": Fault(prepared(crop=None), ALL, "preprocessing", PREPARED),
    "nearest for bilinear": Fault(prepared(resampling="nearest"), ALL, "preprocessing", PREPARED),
    "height and width exchanged": Fault(lambda f: f.transpose_image(), cause="height and width exchanged"),
    "zero point 128 levels off": Fault(lambda f: f.move_zero_point()),
    "input's zero point 128 levels off": Fault(lambda f: f.move_input_zero_point(), (".tflite",), "input zero point"),
}

# What is not about the softmax or the labels of a classifier can happen to every file.
_OF_CLASSIFIERS = ("softmax", "label", "metadata alone")
COMMON = {name: fault for name, fault in FAULTS.items() if not any(word in name for word in _OF_CLASSIFIERS)}
COMMON |= {
    "labels one off": Fault(labelled(one_off), ALL, "labels"),
    "last two labels exchanged": Fault(labelled(last_exchanged), ALL, "labels"),
}
OF_DETECTORS = COMMON | {
    "softmax of scores missing": Fault(
        lambda f: f.drop_softmax(), TENSORS, cause="a softmax of its scores, which is missing"
    ),
    "x and y exchanged": Fault(
        lambda f: f.take("boxes", "side", [1, 0, 3, 2]), TENSORS, cause="x and y of its boxes exchanged"
    ),
    "anchors the other way round": Fault(lambda f: f.take("boxes", "anchor"), TENSORS),
    "scores the other way round": Fault(lambda f: f.take("scores", "class"), TENSORS),
    "overlap 0.7 for 0.5": Fault(lambda f: f.set_rule(overlap=0.7), TENSORS),
    "classes counted from one more": Fault(lambda f: f.count_classes_from(1), TENSORS),
}
OF_SEGMENTERS = COMMON | {
    "map the other way up": Fault(lambda f: turned(f, "row"), TENSORS, cause="its maps the other way up"),
    "left and right exchanged": Fault(
        lambda f: turned(f, "column"), TENSORS, cause="its maps with left and right exchanged"
    ),
    "classes the other way round": Fault(lambda f: f.take("logits", "class"), TENSORS, cause=ORDER),
    "classes counted from one more": Fault(
        lambda f: f.count_classes_from(1), TENSORS, cause="its classes counted from one less"
    ),
}
FAULTS_OF = {classes: FAULTS, boxes: OF_DETECTORS, maps: OF_SEGMENTERS}


@dataclass(frozen=True, eq=False)
class Good:
    """A sound file, photos, PyTorch's answers on them, and how PyTorch's photos are prepared. kind: of labelling's;
    outputs: PyTorch's, where they are not a classifier's."""

    path: Path
    precision: str
    photos: Photos
    reference: object
    how: Preprocessing = OWN
    kind: ModuleType = classes
    outputs: tuple[Output, ...] = ()
    contract: Contract = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self,
            "contract",
            contract_of(self.path, self.outputs or (Output("logits", self.reference.probabilities.shape[1:]),)),
        )


def contract_of(path: Path, outputs: tuple[Output, ...]) -> Contract:
    """What a sound file promises, as its report has it."""
    found = runtimes.open_file(path).interface
    declared, image = found.declared, found.inputs[0]
    return Contract(
        mode=declared.mode,
        task=declared.task,
        variant=declared.variant,
        image_size=image_size(image),
        outputs=outputs,
        labels=declared.labels,
        io=image.dtype if path.suffix in TENSORS else "float32",
        probabilities=PROBABILITIES in [output.meaning for output in found.outputs],
        preprocessing=declared.preprocessing,
        about=declared.about,
        suppression=declared.suppression,
    )


@dataclass(frozen=True)
class Caught:
    """What each of the three says of a file; empty where it has nothing against it. causes: what explains it."""

    refused: str = ""
    contract: tuple[str, ...] = ()
    numbers: str = ""
    causes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.refused or self.contract or self.numbers)


def judged(path: Path, good: Good, *, explain: bool = False) -> Caught:
    """A file held to what a sound one promises and PyTorch answers. explain: also look for what undoes the fault."""
    try:
        contract = tuple(interface.faults(good.contract, runtimes.open_file(path).interface))
        answers = labelling.answers_of_file(good.kind, path, good.photos)
    except DamagedFileError as error:
        return Caught(refused=str(error))
    names = tuple(good.photos.names)
    found = good.kind.judge(reference=good.reference, candidate=answers, names=names, precision=good.precision)
    case = causes.Case(good.kind, path, good.photos, good.reference, good.how, good.precision)
    if found.verdict != MISMATCH:
        nearer = causes.nearer(case) if good.precision != "fp32" else []
        return Caught("", contract, f"{NEARER} {nearer[0]}" if nearer else "", tuple(nearer))
    return Caught("", contract, found.reason, tuple(causes.explanations(case)) if explain else ())


def mutants(good: Good, folder: Path) -> Iterator[tuple[str, Path]]:
    """Each fault that the file has a place for, and the faulty file, which the next one replaces."""
    height, width = good.contract.image_size
    for name, fault in FAULTS_OF[good.kind].items():
        if good.path.suffix not in fault.formats or (name == "height and width exchanged" and height != width):
            continue
        path = folder / good.path.name
        copied(good.path, path)
        try:
            file = opened(path)
            fault.edit(file)
        except NoSuchPlace:
            continue
        file.save()
        yield name, path


def copied(path: Path, target: Path) -> None:
    """A copy, over an earlier one."""
    if path.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(path, target)
    else:
        shutil.copyfile(path, target)

"""A shipped file that is judged again: what it, the report beside it and a person say that it is held to."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvit_deploy import images, metadata, preprocessing, reference, report, runtimes
from mvit_deploy.calibration import photos
from mvit_deploy.checkpoints import hub
from mvit_deploy.errors import AbsentCheckpointError, UsageError
from mvit_deploy.images import ImageSet
from mvit_deploy.nn.endings import ENDINGS
from mvit_deploy.reference import Reference
from mvit_deploy.spec import (
    IO_TYPES,
    NEEDS_CALIBRATION,
    OWN,
    PROBABILITIES,
    QUANTIZED,
    Contract,
    Interface,
    Output,
    Preprocessing,
)

log = logging.getLogger(__name__)
REPORT_SUFFIX = ".report.json"
NO_PHOTOS = "the photos that a calibrated file is judged on are not here; give --verify-images"
NO_REFERENCE = "there is no reference to hold it to: {why}; give --weights"


@dataclass(frozen=True)
class Options:
    """What mvit-verify and mvit_deploy.verify take, by the same names. None is "as the report says"."""

    weights: str | None = None
    mode: str | None = None
    precision: str | None = None
    verify_images: Path | None = None
    seed: int | None = None
    locate: bool = False
    allow_unverified: bool = False
    command: str = "mvit_deploy.verify"


@dataclass(frozen=True)
class Subject:
    """A file, the report beside it, empty where there is none, and what a person says instead of the report."""

    path: Path
    said: dict[str, object]
    options: Options

    def says(self, *keys: str) -> object:
        """A value of the report, None where it has none."""
        return report.look_up(self.said, *keys)

    @property
    def seed(self) -> int:
        """Of the verification inputs."""
        given = self.options.seed
        return (given if given is not None else self.says("verification", "inputs", "seed")) or 0

    @property
    def verify_images(self) -> Path | None:
        """A folder that is gone is left out."""
        return self.options.verify_images or self._folder("folder")

    @property
    def calibration(self) -> Path | None:
        """A folder that is gone is left out."""
        return self._folder("calibration")

    def _folder(self, key: str) -> Path | None:
        said = self.says("verification", "inputs", key)
        return Path(str(said)) if said and Path(str(said)).is_dir() else None


def read_subject(path: Path, options: Options) -> Subject:
    """The file that a path names, itself or by its report.

    Raises: UsageError when neither is there, the suffix is unknown, or the report is not one of ours.
    """
    named_by_report = path.name.endswith(REPORT_SUFFIX)
    file = path.with_name(path.name.removesuffix(REPORT_SUFFIX)) if named_by_report else path
    beside = report.report_path(file)
    runtimes.target_of(file)
    if named_by_report and not beside.exists():
        raise UsageError(f"there is no report {path}")
    if not named_by_report and not file.exists():
        raise UsageError(f"there is no file {path}")
    return Subject(file, report.read(beside) if beside.exists() else {}, options)


def reference_of(subject: Subject, interface: Interface) -> tuple[Reference | None, str]:
    """The module that a file is held to, and what is wrong with it; None and the reason where there is none.

    Raises: CheckpointError, UsageError for weights that were given.
    """
    source, problem = _bare_reference_of(subject, interface)
    if source is None:
        return None, problem
    source = reference.with_output_stride(source, subject.says("model", "output_stride"))
    source = reference.with_normalization(source, _declared(subject, interface)["normalization"])
    ending = str(subject.says("model", "ending") or next(iter(ENDINGS[source.task])))
    return reference.with_ending(source, ending, size_of(subject, interface)), problem


def _bare_reference_of(subject: Subject, interface: Interface) -> tuple[Reference | None, str]:
    options = subject.options
    classes = interface.outputs[-1].shape[-1] if len(interface.outputs[-1].shape) == 2 else None
    classes = subject.says("model", "num_classes") or classes
    declared = interface.declared
    kind = {
        "task": subject.says("model", "task") or declared.task,
        "variant": subject.says("model", "variant") or declared.variant or "paper",
    }
    mode = options.mode or subject.says("model", "mode")
    seed = options.seed if options.seed is not None else subject.says("model", "weights", "seed")
    if options.weights is not None:
        count = classes if options.weights == "random" else None
        return reference.from_weights(
            options.mode or (mode if count else None), options.weights, num_classes=count, seed=seed or 0, **kind
        ), ""
    named = subject.says("model", "weights", "source")
    if named is None:
        return None, NO_REFERENCE.format(why="no report lies beside the file")
    if named == "random":
        source = reference.from_weights(mode, "random", num_classes=classes, seed=seed or 0, **kind)
    else:
        path = _checkpoint(str(named), subject.path.parent)
        if path is None:
            return None, NO_REFERENCE.format(why=f"the report names {named}, which is not here")
        try:
            source = reference.from_weights(None, path, num_classes=None, seed=0, **kind)
        except AbsentCheckpointError as error:
            return None, NO_REFERENCE.format(why=str(error))
    expected = subject.says("model", "weights", "sha256")
    changed = source.weights["sha256"] != expected
    if changed and named == "random":
        return None, NO_REFERENCE.format(
            why="this machine's random numbers are not those that the report was made with"
        )
    return source, f"the weights {named} have changed since the report" if changed else ""


def _checkpoint(named: str, beside: Path) -> str | None:
    """The checkpoint that a report names: as seen from here, or from where the report lies, or from the Hub."""
    if named.startswith(hub.SCHEME):
        return named
    return next((str(path) for path in (Path(named), beside / named) if path.exists()), None)


def missing_photos(subject: Subject, precision: str) -> str:
    """Why a calibrated file cannot be judged: photos like its own are needed, those of this package are not."""
    has_photos = subject.verify_images is not None or subject.calibration is not None
    return "" if precision not in NEEDS_CALIBRATION or has_photos else NO_PHOTOS


def size_of(subject: Subject, interface: Interface) -> tuple[int, int]:
    """Height and width, as the report has them or else as the file takes them."""
    image, said = interface.inputs[0], subject.says("model", "image_size")
    return tuple(said) if said else (image.shape[2:] if image.layout == "NCHW" else image.shape[1:3])


def inputs_of(subject: Subject, source: Reference, size: tuple[int, int], precision: str) -> ImageSet:
    """The images that the report was made with, as far as their folders are here."""
    how = _preprocessing_of(subject, source)
    if precision not in QUANTIZED:
        return images.verification_set(size, seed=subject.seed, folder=subject.verify_images, how=how)
    calibration = subject.calibration
    chosen = photos(
        size,
        calibration=calibration,
        count=None if calibration is None else subject.says("verification", "inputs", "calibration_count"),
        verify_images=subject.verify_images,
        on_warning=log.warning,
        how=how,
    )
    return images.quantized_verification_set(size, seed=subject.seed, photos=chosen.judging)


def _preprocessing_of(subject: Subject, source: Reference) -> Preprocessing:
    """Of photos: as in the report where it has inputs, whatever weights are given now."""
    if not subject.says("verification", "inputs"):
        return source.preprocessing
    return preprocessing.from_json(subject.says("verification", "inputs", "preprocessing"))


def origin_of(subject: Subject, source: Reference | None) -> dict[str, object]:
    """The verification inputs as a report names them; None without a reference, where there are none."""
    folder = subject.verify_images
    calibration = {key: subject.says("verification", "inputs", key) for key in ("calibration", "calibration_count")}
    how = OWN if source is None else _preprocessing_of(subject, source)
    named = {"seed": subject.seed, "folder": None if folder is None else str(folder)}
    return named | calibration | {"preprocessing": preprocessing.to_json(how)}


def contract_of(
    subject: Subject, interface: Interface, source: Reference, size: tuple[int, int], outputs: dict[str, np.ndarray]
) -> Contract:
    """What the report promised, where there is one; otherwise what the file says of itself."""
    said_inputs, labels = subject.says("artifact", "inputs"), subject.says("artifact", "labels")
    declared = interface.inputs[0]
    shape, color_order, dtype = declared.shape, declared.color_order, declared.dtype
    if said_inputs:
        shape, color_order, dtype = (said_inputs[0][key] for key in ("shape", "color_order", "dtype"))
    elif not subject.said:
        labels = interface.labels
    return Contract(
        mode=source.mode,
        task=str(subject.says("model", "task") or interface.declared.task or "classification"),
        variant=source.variant,
        image_size=size,
        outputs=tuple(Output(name, values.shape[1:]) for name, values in outputs.items()),
        labels=None if labels is None else tuple(labels),
        color_order=color_order,
        dynamic_batch=shape[0] == -1,
        io=dtype if dtype in IO_TYPES else IO_TYPES[0],
        suppression=interface.suppression,
        probabilities=_gives_probabilities(subject, interface),
        **_declared(subject, interface),
    )


def _gives_probabilities(subject: Subject, interface: Interface) -> bool:
    """As the report has its outputs, or else the file."""
    said = subject.says("artifact", "outputs")
    meanings = [output["meaning"] for output in said] if said else [output.meaning for output in interface.outputs]
    return PROBABILITIES in meanings


def _declared(subject: Subject, interface: Interface) -> dict[str, object]:
    """Normalization, preprocessing and origin: as the report has them, or else the file."""
    said = subject.says("artifact", "declared")
    return metadata.said_in(said if isinstance(said, dict) else metadata.facts(interface.declared))

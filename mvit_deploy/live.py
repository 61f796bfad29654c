"""Comparison with live PyTorch: the module that a shipped file is held to, the images, and where they part.

Only what needs PyTorch stands here; recheck imports it when there is nothing else to hold a file to, or on demand.
"""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from mvit_deploy import images, metadata, parity, photo_labels, preprocessing, reference, verification
from mvit_deploy.calibration import photos
from mvit_deploy.checkpoints import hub
from mvit_deploy.errors import AbsentCheckpointError, UsageError
from mvit_deploy.image_options import parse_normalization
from mvit_deploy.images import ImageSet
from mvit_deploy.locate import Location, locate_in
from mvit_deploy.nn.config import config_for
from mvit_deploy.nn.endings import ENDINGS
from mvit_deploy.nn.heads.segmentation import RATES
from mvit_deploy.parity import MISMATCH, NOT_RUN
from mvit_deploy.reference import Reference
from mvit_deploy.spec import (
    CLASSES,
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
from mvit_deploy.subject import Judged, Options, Subject, size_of
from mvit_deploy.verification import Expectation, Verification

log = logging.getLogger(__name__)
# Outputs of references, by the digests of weights and inputs: several files share them.
Outputs = dict[tuple[str, str], dict[str, np.ndarray]]
NO_PHOTOS = "the photos that a calibrated file is judged on are not here; give --verify-images"
NO_REFERENCE = "there is no reference to hold it to: {why}; give --weights"


def check(options: Options, known: Outputs) -> None:
    """Raises: UsageError for a mode that is none, and for a folder of --images without any."""
    if options.images is not None:
        photo_labels.check(options.images, known)
    if options.mode is not None:
        config_for(options.mode)


def judge(subject: Subject, interface: Interface, precision: str, known: Outputs) -> Judged:
    """Hold a file to PyTorch, run here and now. known: outputs of earlier calls, which later ones share.

    Raises: DamagedFileError; CheckpointError and UsageError for weights that were given.
    """
    source, problem = reference_of(subject, interface)
    missing = missing_photos(subject, precision)
    if source is None or missing:
        origin = origin_of(subject, source)
        return Judged(Verification(NOT_RUN, problem or missing, interface), origin=origin, model=subject.says("model"))
    size = size_of(subject, interface)
    inputs = inputs_of(subject, source, size, precision)
    outputs = reference.run_once(source, inputs, known)
    contract = contract_of(subject, interface, source, size, outputs)
    no_floor = verification.no_floor(precision, source.weights["source"])
    found = verification.verify(subject.path, Expectation(contract, precision, inputs, outputs, report_only=no_floor))
    if subject.options.images is not None:
        found = photo_labels.with_labels(found, subject, interface, source, precision, known)
    if subject.options.locate:
        location = _locate(subject, source, inputs, precision, found)
        found = replace(found, findings=found.findings | {"location": location.to_json()})
    facts = dict(subject.says("model") or {"task": "classification", "num_classes": None})
    facts |= reference.model_facts(source, size)
    return Judged(found, "weights", inputs, origin_of(subject, source), problem, facts)


def _locate(subject: Subject, source: Reference, inputs: ImageSet, precision: str, found: Verification) -> Location:
    """Raises: UsageError for a quantized file, or a module without our stages."""
    if precision in QUANTIZED:
        raise UsageError(f"--locate follows float files; the blame in a {precision} file's report says where it loses")
    location = locate_in(subject.path, source, inputs, precision, is_wrong=found.verdict == MISMATCH)
    if location is None:
        raise UsageError("--locate follows the stages of a MobileViT classifier; this model is another")
    return location


def reference_of(subject: Subject, interface: Interface) -> tuple[Reference | None, str]:
    """The module that a file is held to, and what is wrong with it; None and the reason where there is none.

    Raises: CheckpointError, UsageError for weights that were given.
    """
    source, problem = _bare_reference_of(subject, interface)
    if source is None:
        return None, problem
    size = size_of(subject, interface)
    ending, output_stride = ending_of(interface, source.task, size)
    if subject.said:
        ending = str(subject.says("model", "ending") or next(iter(ENDINGS[source.task])))
        output_stride = subject.says("model", "output_stride")
    source = reference.with_output_stride(source, output_stride)
    source = reference.with_normalization(source, _declared(subject, interface, source)["normalization"])
    return reference.with_ending(source, ending, size), problem


def ending_of(interface: Interface, task: str, size: tuple[int, int]) -> tuple[str, int | None]:
    """How the graph of a file without a report ends, and a segmenter's output stride, None where that cannot be told:
    as its outputs look. What is told wrong is a mismatch of their names or shapes."""
    outputs = {output.meaning: output for output in interface.outputs}
    if task == "detection":
        return "raw" if "locations" in outputs else "boxes", None
    found = outputs.get(CLASSES, outputs.get("logits"))
    if task != "segmentation" or found is None:
        return next(iter(ENDINGS[task])), None
    height = found.shape[2 if CLASSES not in outputs and found.layout != "NHWC" else 1]
    is_upsampled = height == size[0]
    words = ["upsampled"] * is_upsampled + ["classes"] * (CLASSES in outputs)
    stride = None if is_upsampled or height < 1 else size[0] // height
    return " ".join(words) or "logits", stride if stride in RATES else None


def _bare_reference_of(subject: Subject, interface: Interface) -> tuple[Reference | None, str]:
    options = subject.options
    classes = subject.says("model", "num_classes") or _classes_of(interface)
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


def _classes_of(interface: Interface) -> int | None:
    """As many as the file's output has a number for, else as it has labels."""
    found = next((o for o in interface.outputs if parity.class_axis(o.meaning, len(o.shape)) is not None), None)
    if found is None or interface.suppression is not None:
        return None if interface.labels is None else len(interface.labels)
    return found.shape[-1 if found.layout == "NHWC" else parity.class_axis(found.meaning, len(found.shape))]


def _checkpoint(named: str, beside: Path) -> str | None:
    """The checkpoint that a report names: as seen from here, or from where the report lies, or from the Hub."""
    if named.startswith(hub.SCHEME):
        return named
    return next((str(path) for path in (Path(named), beside / named) if path.exists()), None)


def missing_photos(subject: Subject, precision: str) -> str:
    """Why a calibrated file cannot be judged: photos like its own are needed, those of this package are not."""
    has_photos = judging_folder(subject, precision) is not None or subject.calibration is not None
    return "" if precision not in NEEDS_CALIBRATION or has_photos else NO_PHOTOS


def judging_folder(subject: Subject, precision: str) -> Path | None:
    """The photos to judge on: for want of others those of --images, where a calibrated file has none without."""
    needs_some = precision in NEEDS_CALIBRATION and subject.calibration is None
    return subject.verify_images or (subject.options.images if needs_some else None)


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
        verify_images=judging_folder(subject, precision),
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
    asked = subject.says("verification", "inputs", "preprocessing", "of") == "request"
    named = {"seed": subject.seed, "folder": None if folder is None else str(folder)}
    return named | calibration | {"preprocessing": preprocessing.to_json(how, asked=asked)}


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
        **_declared(subject, interface, source),
    )


def _gives_probabilities(subject: Subject, interface: Interface) -> bool:
    """As the report has its outputs, or else the file."""
    said = subject.says("artifact", "outputs")
    meanings = [output["meaning"] for output in said] if said else [output.meaning for output in interface.outputs]
    return PROBABILITIES in meanings


def _declared(subject: Subject, interface: Interface, source: Reference) -> dict[str, object]:
    """Normalization, preprocessing and origin: as the report has them, or else the file; the first as a person says."""
    said, asked = subject.says("artifact", "declared"), subject.options.normalize
    found = metadata.said_in(said if isinstance(said, dict) else metadata.facts(interface.declared))
    return found if asked is None else found | {"normalization": parse_normalization(asked, source.color_order)}

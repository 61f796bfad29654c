"""A file and PyTorch on a folder of photos, each with its own preprocessing and its own labels (--images).

PyTorch's side is the module with the preprocessing of its checkpoint, and labels that a person gives, or its report, or
the checkpoint; nothing of it is read from the file that is judged.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mvit_deploy import labelling, metadata, reference, runtimes, verification
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.image_options import preprocessing_of
from mvit_deploy.images import ImageSet
from mvit_deploy.labelling import causes
from mvit_deploy.labelling.judged import Labelled
from mvit_deploy.labelling.photos import Photos, photos_below
from mvit_deploy.parity import MATCH, MISMATCH, NOT_RUN
from mvit_deploy.reference import Reference
from mvit_deploy.request import made_distinct, read_labels
from mvit_deploy.spec import Interface, Preprocessing
from mvit_deploy.subject import Subject, size_of
from mvit_deploy.verification import Verification

FINDING = "photo_labels"  # its name in a report, under verification
NEARER = "its answers are far nearer to PyTorch's with"
UNKNOWN = "nothing but the file says what PyTorch's images are normalized by; give --normalize"
Shared = dict[tuple[str, str], object]


@dataclass(frozen=True)
class Side:
    """PyTorch's side: labels and who named them (person, report, checkpoint, nobody), and its preprocessing."""

    labels: tuple[str, ...] | None
    named_by: str
    how: Preprocessing


def check(folder: Path, shared: Shared) -> Photos:
    """The photos, kept for later files. Raises: UsageError when there are none."""
    key = ("photos", str(folder))
    if key not in shared:
        shared[key] = photos_below(folder)
    return shared[key]


def with_labels(
    found: Verification, subject: Subject, interface: Interface, source: Reference, precision: str, shared: Shared
) -> Verification:
    """The judgement with that of the labels of photos under its findings. A mismatch of these is one of the file, and
    labels that could not be compared leave no match.

    Raises: UsageError for photos or labels that cannot be read, and for a network that gives nothing with labels.
    """
    photos, side = check(subject.options.images, shared), side_of(subject, source, size_of(subject, interface))
    labelled, explained = _judge(subject, interface, source, precision, photos, side, shared)
    labelled = _held(labelled, subject, interface, side)
    origin = {"folder": str(subject.options.images), "labels_from": side.named_by}
    how = {"reference": metadata.preprocessing_to_json(side.how)}
    if interface.declared.preprocessing is not None:
        how["file"] = metadata.preprocessing_to_json(interface.declared.preprocessing)
    told = {"task": source.task} | labelled.to_json() | {"would_agree_with": explained, "preprocessing": how} | origin
    reason = "; ".join([labelled.reason, *(f"it would agree with {words}" for words in explained)])
    told["reason"] = reason
    found = replace(found, findings=found.findings | {FINDING: told})
    if labelled.verdict == MATCH or (labelled.verdict == NOT_RUN and found.verdict != MATCH):
        return found
    told = "; ".join(filter(None, [f"photos: {reason}", found.reason]))
    return replace(found, verdict=labelled.verdict, reason=told)


def _judge(
    subject: Subject,
    interface: Interface,
    source: Reference,
    precision: str,
    photos: Photos,
    side: Side,
    shared: Shared,
) -> tuple[Labelled, list[str]]:
    """The verdict, and what would make a mismatch a match."""
    kind = labelling.KINDS[source.task]
    outputs = _outputs_of(source, photos, side, size_of(subject, interface), shared)
    expected = kind.of_reference(outputs, side.labels, interface)
    try:
        answers = labelling.answers_of_file(kind, subject.path, photos)
    except DamagedFileError as error:
        return Labelled(MISMATCH, str(error)), []
    except runtimes.CannotRunHere as reason:
        return Labelled(NOT_RUN, str(reason)), []
    labelled = kind.judge(
        reference=expected,
        candidate=answers,
        names=tuple(photos.names),
        precision=precision,
        report_only=verification.no_floor(precision, source.weights["source"]),
    )
    case = causes.Case(kind, subject.path, photos, expected, side.how, precision)
    if labelled.verdict == MISMATCH:
        return labelled, causes.explanations(case)
    nearer = causes.nearer(case) if precision != "fp32" else []
    if nearer:  # by less than the floors of its precision allow
        labelled = replace(labelled, verdict=MISMATCH, reason=f"{NEARER} {nearer[0]}")
    return labelled, []


def _held(labelled: Labelled, subject: Subject, interface: Interface, side: Side) -> Labelled:
    """What the file declares against PyTorch's side, whose photos int8 may label alike although they are not."""
    declared = interface.declared
    if declared.preprocessing is not None and declared.preprocessing != side.how:
        told = f"the file's photos are {_words(declared.preprocessing)}, PyTorch's {_words(side.how)}"
        return replace(labelled, verdict=MISMATCH, reason="; ".join(filter(None, [told, labelled.reason])))
    unknown = declared.normalization is not None and not subject.said and subject.options.normalize is None
    return replace(labelled, verdict=NOT_RUN, reason=UNKNOWN) if unknown and labelled.verdict == MATCH else labelled


def _words(how: Preprocessing) -> str:
    return f"{how}, {how.color_order}, half pixels {how.half_pixel}, rounded {how.rounding}"


def _outputs_of(
    source: Reference, photos: Photos, side: Side, size: tuple[int, int], shared: Shared
) -> dict[str, np.ndarray]:
    """PyTorch's, run once for all files of the same network."""
    pixels = photos.prepared(side.how, size)
    return reference.run_once(source, ImageSet(pixels, ("photo",) * len(pixels), tuple(photos.names)), shared)


def side_of(subject: Subject, source: Reference, size: tuple[int, int]) -> Side:
    """Labels and preprocessing as a person gives them, else as the report has them, else as the checkpoint does.

    Raises: UsageError for what cannot be read, and for labels that are not as many as there are classes.
    """
    options, given = subject.options, subject.options.labels
    said = subject.says("artifact", "declared")
    of_report = metadata.said_in(said)["preprocessing"] if isinstance(said, dict) else None
    how = replace(of_report or source.preprocessing, color_order=source.color_order)
    how = preprocessing_of(how, options.resize, options.resampling, size)
    labels, named_by = source.labels, "checkpoint"
    if given is not None:
        count, has_background = source.num_classes, source.task != "classification"
        labels = read_labels(given, num_classes=count, distinct=False, has_background=has_background)
        named_by = "person"
    elif subject.said:
        said = subject.says("artifact", "labels")
        labels, named_by = None if said is None else tuple(map(str, said)), "report"
    if labels is None:
        return Side(None, "nobody", how)
    is_core_ml = runtimes.target_of(subject.path) == "coreml"  # whose classifiers have each label once
    needs_distinct = is_core_ml and source.task == "classification"
    return Side(made_distinct(labels) if needs_distinct else labels, named_by, how)

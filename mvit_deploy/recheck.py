"""Judging shipped files again: what a file or its report says it is held to, and whether it still holds here."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mvit_deploy import chatter, images, locate, parity, reference, report, runtimes, verification
from mvit_deploy.adopt import adopt
from mvit_deploy.calibration import photos
from mvit_deploy.errors import DamagedFileError, UsageError
from mvit_deploy.hints import did_you_mean
from mvit_deploy.images import ImageSet
from mvit_deploy.locate import Location
from mvit_deploy.nn.config import CONFIGS
from mvit_deploy.nn.heads.classification import Classifier
from mvit_deploy.parity import MISMATCH, NOT_RUN
from mvit_deploy.reference import Reference
from mvit_deploy.report import Report
from mvit_deploy.request import NEEDS_CALIBRATION, QUANTIZED
from mvit_deploy.spec import IO_TYPES, Contract, Interface
from mvit_deploy.verification import Expectation, Verification

log = logging.getLogger(__name__)
REPORT_SUFFIX = ".report.json"
Outputs = dict[
    tuple[str, str], np.ndarray
]  # of references, by the digests of weights and inputs: several files share them
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
    """A file and the report beside it, empty where there is none."""

    path: Path
    said: dict[str, object]

    def says(self, *keys: str) -> object:
        """A value of the report, None where it has none."""
        return report.look_up(self.said, *keys)


def verify(
    files: str | Path | Iterable[str | Path],
    *,
    weights: str | Path | None = None,
    mode: str | None = None,
    precision: str | None = None,
    verify_images: str | Path | None = None,
    seed: int | None = None,
    locate: bool = False,
    allow_unverified: bool = False,
) -> list[Report]:
    """Judge shipped files again, here, against PyTorch.

    Args: files or their reports (FILE.report.json). The reference is that of weights (a path, or "random" with mode and
    seed), else the one that the report names. locate: also say which stage and operation is the first that differs.
    Nothing is written. Returns: one report a file, with the exit code that mvit-verify ends with.
    Raises: UsageError, MissingLibraryError, CheckpointError.
    """
    paths = [files] if isinstance(files, str | Path) else list(files)
    folder = None if verify_images is None else Path(verify_images)
    given = None if weights is None else str(weights)
    options = Options(given, mode, precision, folder, seed, locate, allow_unverified)
    return list(run([Path(path) for path in paths], options))


def run(paths: list[Path], options: Options) -> Iterator[Report]:
    """Judge file after file; everything that is wrong with the request is found before the first."""
    if options.precision is not None and options.precision not in parity.TOLERANCES:
        known = tuple(parity.TOLERANCES)
        hint = did_you_mean(options.precision, known)
        raise UsageError(f"unknown precision {options.precision!r}; known: {', '.join(known)}{hint}")
    if options.mode is not None and options.mode not in CONFIGS:
        hint = did_you_mean(options.mode, CONFIGS)
        raise UsageError(f"unknown mode {options.mode!r}; known: {', '.join(CONFIGS)}{hint}")
    known: Outputs = {}
    for subject in [read_subject(path) for path in paths]:
        yield _judge(subject, options, known)


def read_subject(path: Path) -> Subject:
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
    return Subject(file, report.read(beside) if beside.exists() else {})


def _judge(subject: Subject, options: Options, known: Outputs) -> Report:
    precision = options.precision or subject.says("artifact", "precision") or ""
    inputs, found, source = None, None, None
    if not subject.path.exists():
        found = Verification(MISMATCH, f"the file {subject.path} that the report describes is not there")
    else:
        with chatter.into_log(f"verify-{subject.path.name}"):
            try:
                interface = runtimes.open_file(subject.path).interface
                precision = _known_precision(precision or interface.precision)
                source, problem = _reference(subject, options, interface)
                problem = problem or _missing_photos(subject, options, precision)
                if source is None or problem.startswith(NO_PHOTOS):
                    found = Verification(NOT_RUN, problem, interface)
                else:
                    inputs, found = _verify(subject, options, interface, source, precision, known)
                    found = _with_fault(found, problem)
            except DamagedFileError as error:
                found = Verification(MISMATCH, str(error))
            location = _locate(subject, options, source, inputs, precision, found)
        found = _with_fault(found, _changed(subject))
        if location is not None:
            found = replace(found, findings=found.findings | {"location": location.to_json()})
    code = report.exit_code_of(found.verdict, allow_unverified=options.allow_unverified)
    return Report(subject.path, code, _content(subject, options, found, source, inputs, _known_precision(precision)))


def _known_precision(word: str | None) -> str:
    """The precision whose floors hold: the strictest where a file does not say."""
    return word if word in parity.TOLERANCES else "fp32"


def _reference(subject: Subject, options: Options, interface: Interface) -> tuple[Reference | None, str]:
    """The module that a file is held to, and what is wrong with it; None and the reason where there is none.

    Raises: CheckpointError, UsageError for weights that were given.
    """
    classes = interface.outputs[-1].shape[-1] if len(interface.outputs[-1].shape) == 2 else None
    mode = options.mode or subject.says("model", "mode")
    seed = options.seed if options.seed is not None else subject.says("model", "weights", "seed")
    if options.weights is not None:
        count = classes if options.weights == "random" else None
        return reference.from_weights(
            options.mode or (mode if count else None), options.weights, num_classes=count, seed=seed or 0
        ), ""
    named = subject.says("model", "weights", "source")
    if named is None:
        return None, NO_REFERENCE.format(why="no report lies beside the file")
    if named == "random":
        source = reference.from_weights(mode, "random", num_classes=classes, seed=seed or 0)
    else:
        path = _checkpoint(str(named), subject.path.parent)
        if path is None:
            return None, NO_REFERENCE.format(why=f"the report names {named}, which is not here")
        source = reference.from_weights(None, str(path), num_classes=None, seed=0)
    expected = subject.says("model", "weights", "sha256")
    changed = source.weights["sha256"] != expected
    if changed and named == "random":
        return None, NO_REFERENCE.format(
            why="this machine's random numbers are not those that the report was made with"
        )
    return source, f"the weights {named} have changed since the report" if changed else ""


def _checkpoint(named: str, beside: Path) -> Path | None:
    """The checkpoint that a report names: as seen from here, or from where the report lies."""
    return next((path for path in (Path(named), beside / named) if path.is_file()), None)


def _verify(
    subject: Subject,
    options: Options,
    interface: Interface,
    source: Reference,
    precision: str,
    known: Outputs,
) -> tuple[ImageSet, Verification]:
    image = interface.inputs[0]
    said_size = subject.says("model", "image_size")
    size = tuple(said_size) if said_size else (image.shape[2:] if image.layout == "NCHW" else image.shape[1:3])
    inputs = _inputs(subject, options, size, precision)
    key = (str(source.weights["sha256"]), inputs.sha256)
    outputs = known[key] if key in known else known.setdefault(key, reference.run(source, inputs.pixels))
    contract = _contract(subject, interface, source, size, outputs)
    return inputs, verification.verify(
        subject.path,
        Expectation(contract, precision, inputs, outputs, report_only=_report_only(source, precision)),
    )


def _inputs(subject: Subject, options: Options, size: tuple[int, int], precision: str) -> ImageSet:
    """The images that the report was made with, as far as their folders are here."""
    origin = _origin(subject, options)
    if precision not in QUANTIZED:
        return images.verification_set(size, **origin)
    calibration = _calibration(subject)
    chosen = photos(
        size,
        calibration=calibration,
        count=None if calibration is None else subject.says("verification", "inputs", "calibration_count"),
        verify_images=origin["folder"],
        on_warning=log.warning,
    )
    return images.quantized_verification_set(size, seed=origin["seed"], photos=chosen.judging)


def _calibration(subject: Subject) -> Path | None:
    said = subject.says("verification", "inputs", "calibration")
    return Path(str(said)) if said and Path(str(said)).is_dir() else None


def _calibration_facts(subject: Subject) -> dict[str, object]:
    return {key: subject.says("verification", "inputs", key) for key in ("calibration", "calibration_count")}


def _missing_photos(subject: Subject, options: Options, precision: str) -> str:
    """Why a calibrated file cannot be judged: photos like its own are needed, those of this package are not."""
    has_photos = _origin(subject, options)["folder"] is not None or _calibration(subject) is not None
    return "" if precision not in NEEDS_CALIBRATION or has_photos else NO_PHOTOS


def _report_only(source: Reference, precision: str) -> str:
    """Why the floors of a precision are not applied; nothing where they are."""
    if precision in NEEDS_CALIBRATION and source.weights["source"] == "random":
        return f"random weights: the errors of {precision} are reported without a floor"
    return ""


def _origin(subject: Subject, options: Options) -> dict[str, object]:
    """The seed and the folder of the verification inputs; a folder that is gone is left out."""
    seed = options.seed if options.seed is not None else subject.says("verification", "inputs", "seed")
    said = subject.says("verification", "inputs", "folder")
    folder = options.verify_images or (Path(str(said)) if said and Path(str(said)).is_dir() else None)
    return {"seed": seed or 0, "folder": folder}


def _contract(
    subject: Subject, interface: Interface, source: Reference, size: tuple[int, int], outputs: np.ndarray
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
        task=str(subject.says("model", "task") or "classification"),
        variant=source.variant,
        image_size=size,
        output_name="logits" if outputs.ndim == 2 else "features",
        output_shape=outputs.shape[1:],
        labels=None if labels is None else tuple(labels),
        color_order=color_order,
        dynamic_batch=shape[0] == -1,
        io=dtype if dtype in IO_TYPES else IO_TYPES[0],
    )


def _changed(subject: Subject) -> str:
    expected = subject.says("artifact", "sha256")
    if expected is None or report.sha256_of(subject.path) == expected:
        return ""
    return "the file is not the one that its report describes: its sha256 has changed"


def _with_fault(found: Verification, fault: str) -> Verification:
    """A fault beside the numbers makes a mismatch; the numbers stay."""
    if not fault:
        return found
    return replace(found, verdict=MISMATCH, reason="; ".join(filter(None, [fault, found.reason])))


def _locate(
    subject: Subject,
    options: Options,
    source: Reference | None,
    inputs: ImageSet | None,
    precision: str,
    found: Verification,
) -> Location | None:
    """Raises: UsageError for a module without our stages."""
    if not options.locate or source is None or inputs is None:
        return None
    if precision in QUANTIZED:
        raise UsageError(f"--locate follows float files; the blame in a {precision} file's report says where it loses")
    location = locate_in(subject.path, source, inputs, precision, is_wrong=found.verdict == MISMATCH)
    if location is None:
        raise UsageError("--locate follows the stages of a MobileViT classifier; this model is another")
    return location


def locate_in(path: Path, source: Reference, inputs: ImageSet, precision: str, *, is_wrong: bool) -> Location | None:
    """Where a file leaves PyTorch, on a photo and on noise; None for a module that is no classifier of ours.

    Raises: DamagedFileError; CannotRunHere; MissingLibraryError.
    """
    model = adopt(source.module)
    if not isinstance(model, Classifier):
        return None
    chosen = inputs.pixels[[inputs.kinds.index("photo"), inputs.kinds.index("noise")]]
    reference_trail = locate.trail(model, chosen, path.suffix, color_order=source.color_order)
    return locate.locate(path, reference_trail, tolerance=locate.TOLERANCES[precision], is_wrong=is_wrong)


def _content(
    subject: Subject,
    options: Options,
    found: Verification,
    source: Reference | None,
    inputs: ImageSet | None,
    precision: str,
) -> dict[str, object]:
    """A report of this judgement; what only the first export knows is taken over from its report."""
    path, origin = subject.path, _origin(subject, options)
    artifact = dict(subject.says("artifact") or {"min_ios": None, "int8": {"weight_fraction": 0.0, "kept_float": []}})
    artifact |= {
        "path": str(path),
        "target": runtimes.target_of(path),
        "format": path.suffix.removeprefix("."),
        "precision": precision,
        **verification.file_facts(found, path),
    }
    folder = None if origin["folder"] is None else str(origin["folder"])
    return report.content(
        command=options.command,
        artifact=artifact,
        model=_model_facts(subject, source, inputs),
        verification=verification.to_json(
            found, precision, inputs, origin | {"folder": folder} | _calibration_facts(subject)
        ),
        timings_s={},
    )


def _model_facts(subject: Subject, source: Reference | None, inputs: ImageSet | None) -> object:
    if source is None or inputs is None:
        return subject.says("model")
    facts = dict(subject.says("model") or {"task": "classification", "num_classes": None})
    return facts | reference.model_facts(source, inputs.pixels.shape[1:3])

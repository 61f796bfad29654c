"""Judging shipped files again: what a file or its report says it is held to, and whether it still holds here."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from mvit_deploy import chatter, parity, reference, report, runtimes, verification
from mvit_deploy.errors import DamagedFileError, UsageError
from mvit_deploy.hints import did_you_mean
from mvit_deploy.images import ImageSet
from mvit_deploy.locate import Location, locate_in
from mvit_deploy.nn.config import CONFIGS
from mvit_deploy.parity import MISMATCH, NOT_RUN
from mvit_deploy.reference import Reference
from mvit_deploy.report import Report
from mvit_deploy.spec import QUANTIZED, Interface
from mvit_deploy.subject import (
    NO_PHOTOS,
    Options,
    Subject,
    contract_of,
    inputs_of,
    missing_photos,
    origin_of,
    read_subject,
    reference_of,
    size_of,
)
from mvit_deploy.verification import Expectation, Verification

# Outputs of references, by the digests of weights and inputs: several files share them.
Outputs = dict[tuple[str, str], dict[str, np.ndarray]]


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
    for subject in [read_subject(path, options) for path in paths]:
        yield _judge(subject, known)


def _judge(subject: Subject, known: Outputs) -> Report:
    options = subject.options
    precision = options.precision or subject.says("artifact", "precision") or ""
    inputs, found, source = None, None, None
    if not subject.path.exists():
        found = Verification(MISMATCH, f"the file {subject.path} that the report describes is not there")
    else:
        with chatter.into_log(f"verify-{subject.path.name}"):
            try:
                interface = _interface_of(subject.path)
                precision = _known_precision(precision or interface.precision)
                source, problem = reference_of(subject, interface)
                problem = problem or missing_photos(subject, precision)
                if source is None or problem.startswith(NO_PHOTOS):
                    found = Verification(NOT_RUN, problem, interface)
                else:
                    inputs, found = _verify(subject, interface, source, precision, known)
                    found = _with_fault(found, problem)
            except DamagedFileError as error:
                found = Verification(MISMATCH, str(error))
            location = _locate(subject, source, inputs, precision, found)
        found = _with_fault(found, _changed(subject))
        if location is not None:
            found = replace(found, findings=found.findings | {"location": location.to_json()})
    code = report.exit_code_of(found.verdict, allow_unverified=options.allow_unverified)
    return Report(subject.path, code, _content(subject, found, source, inputs, _known_precision(precision)))


def _interface_of(path: Path) -> Interface:
    """Raises: DamagedFileError for a file that takes or gives nothing too."""
    found = runtimes.open_file(path).interface
    if not found.inputs or not found.outputs:
        raise DamagedFileError("the file has no input or no output")
    return found


def _known_precision(word: str | None) -> str:
    """The precision whose floors hold: the strictest where a file does not say."""
    return word if word in parity.TOLERANCES else "fp32"


def _verify(
    subject: Subject, interface: Interface, source: Reference, precision: str, known: Outputs
) -> tuple[ImageSet, Verification]:
    size = size_of(subject, interface)
    inputs = inputs_of(subject, source, size, precision)
    key = (str(source.weights["sha256"]), inputs.sha256)
    outputs = known[key] if key in known else known.setdefault(key, reference.run(source, inputs.pixels))
    contract, reason = contract_of(subject, interface, source, size, outputs), verification.no_floor(precision, source)
    expected = Expectation(contract, precision, inputs, outputs, report_only=reason)
    return inputs, verification.verify(subject.path, expected)


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
    subject: Subject, source: Reference | None, inputs: ImageSet | None, precision: str, found: Verification
) -> Location | None:
    """Raises: UsageError for a module without our stages."""
    if not subject.options.locate or source is None or inputs is None:
        return None
    if precision in QUANTIZED:
        raise UsageError(f"--locate follows float files; the blame in a {precision} file's report says where it loses")
    location = locate_in(subject.path, source, inputs, precision, is_wrong=found.verdict == MISMATCH)
    if location is None:
        raise UsageError("--locate follows the stages of a MobileViT classifier; this model is another")
    return location


def _content(
    subject: Subject,
    found: Verification,
    source: Reference | None,
    inputs: ImageSet | None,
    precision: str,
) -> dict[str, object]:
    """A report of this judgement; what only the first export knows is taken over from its report."""
    path = subject.path
    artifact = dict(subject.says("artifact") or {"min_ios": None, "int8": {"weight_fraction": 0.0, "kept_float": []}})
    artifact |= {
        "path": str(path),
        "target": runtimes.target_of(path),
        "format": path.suffix.removeprefix("."),
        "precision": precision,
        **verification.file_facts(found, path),
    }
    return report.content(
        command=subject.options.command,
        artifact=artifact,
        model=_model_facts(subject, source, inputs),
        verification=verification.to_json(found, precision, inputs, origin_of(subject, source)),
        timings_s={},
    )


def _model_facts(subject: Subject, source: Reference | None, inputs: ImageSet | None) -> object:
    if source is None or inputs is None:
        return subject.says("model")
    facts = dict(subject.says("model") or {"task": "classification", "num_classes": None})
    return facts | reference.model_facts(source, inputs.pixels.shape[1:3])

"""Judging shipped files again: every claim of a report, and the outputs, against what PyTorch gave at export.

Nothing here needs PyTorch; where it has to run, since that is asked for or nothing else is there, live does it.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from mvit_deploy import certificate, chatter, claims, golden, interface, parity, report, runtimes, verification
from mvit_deploy.certificate import Certificate
from mvit_deploy.claims import Claim
from mvit_deploy.errors import DamagedFileError, MissingLibraryError, UsageError
from mvit_deploy.golden import Golden, golden_path
from mvit_deploy.hints import choose, did_you_mean
from mvit_deploy.lint import gate
from mvit_deploy.lint.gate import Linted
from mvit_deploy.parity import MISMATCH, NOT_RUN, Errors
from mvit_deploy.report import Report
from mvit_deploy.spec import LINT_LEVELS, Interface
from mvit_deploy.subject import Judged, Options, Subject, read_subject
from mvit_deploy.verification import Verification

GOLDEN, WEIGHTS = "golden", "weights"  # what a file was held to
SAME_REL_MAX = 1e-4  # between then and now: what another order of sums makes of float32


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
    live: bool = False,
    lint: str = "warn",
    images: str | Path | None = None,
    labels: str | Path | Iterable[str] | None = None,
    normalize: str | None = None,
    resize: str | int | tuple[int, int] | None = None,
    resampling: str | None = None,
) -> list[Report]:
    """Judge shipped files again, here: every claim of their reports, and their outputs.

    Args: files or their reports (FILE.report.json). The outputs are held to what PyTorch gave at export for the images
    of FILE.golden.npz, without PyTorch. With live, or with weights (a path, or "random" with mode and seed),
    verify_images, images, seed, mode or locate, and where there is no golden file, PyTorch runs here: with the weights
    given, else those that the report names. locate: also say which stage and operation is the first that differs.
    images: a folder of photos that each file and PyTorch label in their own ways, from the encoded picture on; labels:
    what PyTorch's classes are called, a file with one a line or the names, else as in the report or the checkpoint.
    normalize, resize, resampling: how PyTorch's images are prepared, as export takes them, likewise.
    Nothing is written. Returns: one report a file, with the exit code that mvit-verify ends with.
    Raises: UsageError, MissingLibraryError, CheckpointError.
    """
    paths = [files] if isinstance(files, str | Path) else list(files)
    folder = None if verify_images is None else Path(verify_images)
    given = None if weights is None else str(weights)
    options = Options(
        given,
        mode,
        precision,
        folder,
        seed,
        locate,
        allow_unverified,
        live=live,
        lint=lint,
        images=None if images is None else Path(images),
        labels=labels if labels is None or isinstance(labels, str | Path) else tuple(labels),
        normalize=normalize,
        resize=resize,
        resampling=resampling,
    )
    return list(run([Path(path) for path in paths], options))


def run(paths: list[Path], options: Options) -> Iterator[Report]:
    """Judge file after file; everything that is wrong with the request is found before the first."""
    if options.precision is not None and options.precision not in parity.TOLERANCES:
        known = tuple(parity.TOLERANCES)
        hint = did_you_mean(options.precision, known)
        raise UsageError(f"unknown precision {options.precision!r}; known: {', '.join(known)}{hint}")
    choose(options.lint, LINT_LEVELS, "lint level")
    for word in ("labels", "resize", "resampling"):
        if getattr(options, word) is not None and options.images is None:
            raise UsageError(f"--{word} belongs to --images, which is not given")
    outputs: dict[tuple[str, str], object] = {}
    if options.needs_pytorch:
        _live().check(options, outputs)
    for subject in [read_subject(path, options) for path in paths]:
        yield _judge(subject, outputs)


def _live() -> ModuleType:
    """The module of what needs PyTorch, which takes seconds to import. Raises: MissingLibraryError."""
    try:
        from mvit_deploy import live
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"comparison with live PyTorch needs {error.name}: pip install {error.name}"
        ) from error
    return live


def _judge(subject: Subject, outputs: dict[tuple[str, str], object]) -> Report:
    options = subject.options
    precision = options.precision or str(subject.says("artifact", "precision") or "")
    checked: list[Claim] = []
    linted = Linted()
    if not subject.path.exists():
        gone = f"the file {subject.path} that the report describes is not there"
        judged = Judged(Verification(MISMATCH, gone), model=subject.says("model"))
        checked = [Claim("file", False, gone)]
    else:
        with chatter.into_log(f"verify-{subject.path.name}"):
            found = None
            try:
                found = _interface_of(subject.path)
                precision = _known_precision(precision or found.precision)
                judged, checked = _held(subject, found, precision, outputs)
            except DamagedFileError as error:
                judged = Judged(Verification(MISMATCH, str(error)), model=subject.says("model"))
                checked = [claims.of_outputs(judged.found, "")]
            checked = [*claims.of_report(subject, found), *checked]
            linted = gate.look(subject.path, options.lint)
            checked += [Claim("lint", False, linted.refusal)] if linted.refusal else []
    found = _together(judged, checked)
    code = report.exit_code_of(found.verdict, allow_unverified=options.allow_unverified)
    return Report(
        subject.path, code, _content(subject, replace(judged, found=found), _known_precision(precision), linted)
    )


def _interface_of(path: Path) -> Interface:
    """Raises: DamagedFileError for a file that takes or gives nothing too."""
    found = runtimes.open_file(path).interface
    if not found.inputs or not found.outputs:
        raise DamagedFileError("the file has no input or no output")
    return found


def _known_precision(word: str | None) -> str:
    """The precision whose floors hold: the strictest where a file does not say."""
    return word if word in parity.TOLERANCES else "fp32"


def _held(
    subject: Subject, found: Interface, precision: str, outputs: dict[tuple[str, str], object]
) -> tuple[Judged, list[Claim]]:
    """The file's run, and the claims on what was needed for it. Raises: DamagedFileError, and as live.judge."""
    held = subject.certificate
    has_golden = held is not None and golden_path(subject.path).exists()
    if has_golden and not subject.options.needs_pytorch:
        judged, checked = _against_golden(subject, held, found, precision)
    else:
        judged = _against_weights(subject, found, precision, outputs)
        checked = [] if held is None else list(claims.of_golden(subject, held, *_read_golden(subject, held)))
        checked += [claims.of_outputs(judged.found, "PyTorch gives here")]
        if judged.problem:
            checked.append(Claim("weights", False, judged.problem))
    if held is not None:
        checked += claims.of_int8(subject)
        checked += [] if judged.problem else claims.of_weights(subject)
    return judged, checked


def _against_weights(
    subject: Subject, found: Interface, precision: str, outputs: dict[tuple[str, str], object]
) -> Judged:
    """PyTorch as the reference. Where nobody asked for it, not having it is no error. Raises: as live.judge."""
    try:
        return _live().judge(subject, found, precision, outputs)
    except MissingLibraryError as error:
        if subject.options.needs_pytorch:
            raise
        reason = f"there is no golden file {golden_path(subject.path).name} to hold it to, and {error}"
        return Judged(Verification(NOT_RUN, reason, found), model=subject.says("model"))


def _read_golden(subject: Subject, held: Certificate) -> tuple[Golden | None, str]:
    """Golden inputs and outputs, or None and what is wrong with the file."""
    try:
        return golden.read(golden_path(subject.path), held.samples), ""
    except DamagedFileError as error:
        return None, str(error)


def _against_golden(
    subject: Subject, held: Certificate, found: Interface, precision: str
) -> tuple[Judged, list[Claim]]:
    """The outputs that PyTorch gave at export as the reference."""
    read, problem = _read_golden(subject, held)
    checked = list(claims.of_golden(subject, held, read, problem))
    origin = {"golden": golden_path(subject.path).name}
    if read is None:
        ran = Verification(NOT_RUN, problem, found)
        return Judged(ran, GOLDEN, None, origin, model=subject.says("model")), [*checked, claims.of_outputs(ran, "")]
    # Metadata are claims of their own; the file is run even where they say something else.
    declared = {name: getattr(found.declared, name) for name in interface.DECLARED_FIELDS}
    reason = verification.no_floor(precision, subject.says("model", "weights", "source"))
    expected = verification.golden_expectation(replace(held.contract, **declared), precision, read, reason)
    ran = _since_export(subject, held, verification.verify(subject.path, expected), read)
    judged = Judged(ran, GOLDEN, read.inputs, origin, model=subject.says("model"))
    return judged, [*checked, claims.of_outputs(ran, "PyTorch gave at export")]


def _since_export(subject: Subject, held: Certificate, ran: Verification, read: Golden) -> Verification:
    """With how far the outputs are from those at export; a mismatch then says whether they have changed since."""
    pairs = {name: (values, ran.outputs.get(name)) for name, values in read.measured.items()}
    pairs = {n: (then, now) for n, (then, now) in pairs.items() if now is not None and now.shape == then.shape}
    if not pairs:
        return ran
    moved = {name: parity.measure(reference=then, candidate=now) for name, (then, now) in pairs.items()}
    values = {name: {"max_abs": each.max_abs, "rel_max": each.rel_max} for name, each in moved.items()}
    findings = ran.findings | {"since_export": {"runtime": held.runtime, "outputs": values}}
    if ran.verdict != MISMATCH:
        return replace(ran, findings=findings)
    told = "it gave the same at export and never was near PyTorch"
    if any(_distance(each) > SAME_REL_MAX for each in moved.values()):
        told = f"at export {held.runtime} gave other values for the same images; here runs {_name_of(ran.runtime)}"
    return replace(ran, findings=findings, reason=f"{ran.reason} ({told})")


def _distance(errors: Errors) -> float:
    """rel_max; of whole numbers the share that differs; infinite for what is not finite."""
    if errors.rel_max is not None:
        return errors.rel_max
    return math.inf if errors.top1_agreement is None else 1 - errors.top1_agreement


def _name_of(runtime: dict[str, str] | None) -> str:
    return "nothing" if runtime is None else f"{runtime['name']} {runtime['version']}"


def _together(judged: Judged, checked: list[Claim]) -> Verification:
    """A claim that does not hold makes a mismatch; the numbers stay."""
    found = judged.found
    findings = found.findings | {
        "reference": judged.reference,
        "claims": [claim.to_json() for claim in checked],
    }
    broken = [claim for claim in checked if claim.holds is False]
    told = [f"{claim.claim}: {claim.detail}" for claim in broken]
    if found.verdict == MISMATCH and not any(found.reason in line for line in told):
        told.append(found.reason)
    verdict = MISMATCH if broken else found.verdict
    return replace(found, verdict=verdict, reason="; ".join(told) or found.reason, findings=findings)


def _content(subject: Subject, judged: Judged, precision: str, linted: Linted) -> dict[str, object]:
    """A report of this judgement; what only the first export knows is taken over from its report."""
    path, found = subject.path, judged.found
    artifact = dict(subject.says("artifact") or {"min_ios": None, "int8": {"weight_fraction": 0.0, "kept_float": []}})
    artifact.pop("lint", None)  # of the export; here is another file, perhaps, or another tool
    artifact |= {
        "path": str(path),
        "target": runtimes.target_of(path),
        "format": path.suffix.removeprefix("."),
        "precision": precision,
        **verification.file_facts(found, path),
        **linted.artifact,
    }
    content = report.content(
        command=subject.options.command,
        artifact=artifact,
        model=judged.model,
        verification=verification.to_json(found, precision, judged.inputs, judged.origin),
        timings_s={},
    )
    plan = subject.says("quantization")
    is_known = plan is not None and subject.certificate is not None and certificate.is_whole(subject.said)
    return content | {"quantization": plan} if is_known else content

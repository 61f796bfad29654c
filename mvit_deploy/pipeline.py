"""The only code that knows the order: check everything (work), convert, read back, run, judge, rename, report."""

import gc
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from torch import nn

from mvit_deploy import account, chatter, evidence, report, targets, verification, workplace
from mvit_deploy.errors import CheckpointError, MissingLibraryError, MvitError, UsageError, explain
from mvit_deploy.evidence import Evidence
from mvit_deploy.golden import golden_path
from mvit_deploy.lint import gate
from mvit_deploy.locate import locate_in
from mvit_deploy.parity import MISMATCH, NOT_RUN
from mvit_deploy.report import Report
from mvit_deploy.request import Job, Options
from mvit_deploy.runtimes import CannotRunHere
from mvit_deploy.verification import Expectation, Verification
from mvit_deploy.work import Notify, Work, prepare

log = logging.getLogger(__name__)
T = TypeVar("T")


def export(
    model_or_mode: nn.Module | str | None,
    *,
    target: str | Iterable[str],
    precision: str | Iterable[str] | None = None,
    task: str | None = None,
    variant: str = "paper",
    weights: str | Path = "random",
    num_classes: int | None = None,
    labels: str | Path | Iterable[str] | None = None,
    image_size: int | str | tuple[int, int] | None = None,
    verify_images: str | Path | None = None,
    calibration: str | Path | None = None,
    calibration_count: int | None = None,
    keep_float: Iterable[str] = (),
    plan: str | Path | None = None,
    format: str | None = None,
    min_ios: int | None = None,
    dynamic_batch: bool = False,
    io: str = "float32",
    color_order: str | None = None,
    raw_head: bool = False,
    nms: bool = False,
    upsample: bool = False,
    argmax: bool = False,
    output_stride: int | None = None,
    probabilities: bool | None = None,
    normalize: str | None = None,
    resize: str | int | tuple[int, int] | None = None,
    resampling: str | None = None,
    author: str | None = None,
    license: str | None = None,
    model_version: str | None = None,
    output: str | Path = "exported",
    seed: int = 0,
    verify: bool = True,
    allow_unverified: bool = False,
    lint: str = "warn",
    on_step: Notify = lambda step: None,
) -> list[Report]:
    """Write a model as files for phones and prove, here, that each computes what PyTorch computes.

    Args: the command line's, by its names. model_or_mode is xxs, xs or s, None (the mode is then the weights'), or a
    module of your own: image (B, 3, H, W), float32, [0, 1] -> one tensor; it is not modified. labels: a file or the
    labels themselves. color_order, for a module only, is what it takes, RGB or BGR. on_step is told what begins.
    Returns: one report a file. A file that does not match is not there: look at report.exit_code or report.verdict.
    Raises: UsageError, MissingLibraryError, CheckpointError, before anything is written.
    """
    options = Options(
        target=_words(target),
        precision=None if precision is None else _words(precision),
        task=task,
        variant=variant,
        weights=str(weights),
        num_classes=num_classes,
        labels=labels if labels is None else Path(labels) if isinstance(labels, str | Path) else tuple(labels),
        image_size=image_size,
        verify_images=None if verify_images is None else Path(verify_images),
        calibration=None if calibration is None else Path(calibration),
        calibration_count=calibration_count,
        keep_float=(keep_float,) if isinstance(keep_float, str) else tuple(keep_float),
        plan=None if plan is None else Path(plan),
        format=format,
        min_ios=min_ios,
        dynamic_batch=dynamic_batch,
        io=io,
        color_order=color_order,
        raw_head=raw_head,
        nms=nms,
        upsample=upsample,
        argmax=argmax,
        output_stride=output_stride,
        probabilities=probabilities,
        normalize=normalize,
        resize=resize,
        resampling=resampling,
        author=author,
        license=license,
        model_version=model_version,
        output=Path(output),
        seed=seed,
        verify=verify,
        allow_unverified=allow_unverified,
        lint=lint,
    )
    work = prepare(model_or_mode, options, on_step)
    return list(run(work, on_step))


def run(work: Work, on_step: Notify) -> Iterable[Report]:
    """Write and judge file after file. A failure of one does not stop the others."""
    for job in work.jobs:
        _remove_older(work.path_of(job))
    for target in dict.fromkeys(job.target for job in work.jobs):
        lower = _Lowering(work)
        for job in (job for job in work.jobs if job.target == target):
            yield _write_and_judge(work, job, lower, on_step)
        del lower
        gc.collect()


class _Lowering:
    """The first half of a conversion, shared by the float precisions of one format of a target."""

    def __init__(self, work: Work) -> None:
        self._work, self._done = work, {}

    def __call__(self, job: Job) -> object:
        key = (job.settings, job.precision if job.is_quantized else "")
        if key not in self._done:
            exporter = targets.exporter(job.target)
            self._done[key] = exporter.lower(self._module(job), self._work.contract_of(job), job.settings)
        return self._done[key]

    def _module(self, job: Job) -> nn.Module:
        work = self._work
        return work.quantizer.form(job.precision) if job.is_quantized else work.fused


def _write_and_judge(work: Work, job: Job, lower: _Lowering, on_step: Notify) -> Report:
    final = work.path_of(job)
    timings: dict[str, float] = {}
    try:
        with workplace.temporary_folder(work.options.output) as folder:
            partial = folder / final.name
            if job.is_quantized:
                _timed(timings, "quantize", lambda: work.quantizer.settle(job.precision))
            on_step(f"{job}: converting")
            _timed(timings, "convert", lambda: _convert(job, lower, partial))
            on_step(f"{job}: verifying")
            expected = _expectation(work, job)
            found = _timed(timings, "verify", lambda: _verify(work, job, partial, expected))
            linted = gate.look(partial, work.options.lint)
            is_wrong = found.verdict == MISMATCH
            if linted.refusal and not is_wrong:
                found = replace(found, verdict=MISMATCH, reason=f"lint: {linted.refusal}")
            if found.verdict != MISMATCH:
                found, beside = _timed(timings, "certify", lambda: _evidence(work, partial, expected, found))
            content = account.content_of(work, job, found, partial, timings)
            content["artifact"] |= linted.artifact
            if is_wrong:
                content["verification"] |= _location(work, job, partial, found)
            if found.verdict == MISMATCH:
                return _failed(work, final, 1, content)
            beside.write(content, partial)
            workplace.write_text(report.report_path(partial), report.dump(content))
            for path in (lambda file: file, golden_path, report.report_path):
                os.replace(path(partial), path(final))
    except (UsageError, MissingLibraryError, CheckpointError):
        raise
    except Exception as error:  # whatever a converter raises is the result for this file; the others go on
        log.debug("%s failed", job, exc_info=True)
        on_step(f"{job}: failed")  # raises where a converter made an error of an interruption: nothing is left of it
        failure = Verification(NOT_RUN, explain(error))
        return _failed(work, final, 6, account.content_of(work, job, failure, None, timings))
    code = report.exit_code_of(found.verdict, allow_unverified=work.options.allow_unverified)
    return Report(final, code, content)


def _convert(job: Job, lower: _Lowering, partial: Path) -> None:
    with chatter.into_log(partial.name):
        try:
            exporter = targets.exporter(job.target)
            exporter.write(lower(job), job.precision, partial)
        except Exception:
            workplace.check_space(partial.parent)  # libraries report a full disk in words of their own
            raise


def _expectation(work: Work, job: Job) -> Expectation:
    judging = work.judging_of(job)
    reason = verification.no_floor(job.precision, work.reference.weights["source"])
    return Expectation(work.contract_of(job), job.precision, judging.inputs, judging.outputs, report_only=reason)


def _verify(work: Work, job: Job, partial: Path, expected: Expectation) -> Verification:
    with chatter.into_log(f"verify-{partial.name}"):
        if work.options.verify:
            return verification.verify(partial, expected)
        if targets.missing_libraries(job.target, to_export=False):
            return Verification(NOT_RUN, verification.NOT_ASKED)
        return verification.inspect_only(partial, expected.contract)


def _evidence(work: Work, partial: Path, expected: Expectation, found: Verification) -> tuple[Verification, Evidence]:
    if not work.options.verify:
        return found, evidence.unmeasured(expected)
    with chatter.into_log(f"certify-{partial.name}"):
        return evidence.measured(partial, expected, found)


def _location(work: Work, job: Job, partial: Path, found: Verification) -> dict[str, object]:
    """Where a file that was run and is wrong leaves PyTorch, for the report; nothing where that cannot be told."""
    if not found.judgements or work.judging is None or job.is_quantized:
        return {}
    try:
        with chatter.into_log(f"locate-{partial.name}"):
            location = locate_in(partial, work.reference, work.judging.inputs, job.precision, is_wrong=True)
    except (MvitError, CannotRunHere) as error:
        log.warning("%s: cannot tell where it goes wrong: %s", job, error)
        return {}
    return {} if location is None else {"location": location.to_json()}


def _failed(work: Work, final: Path, code: int, content: dict[str, object]) -> Report:
    """Leave nothing under the final name, and the numbers beside it where the disk still takes them."""
    _remove_older(final)
    try:
        workplace.write_text(report.failed_path(final), report.dump(content))
    except OSError as error:
        log.warning("could not write %s: %s", report.failed_path(final), error)
    return Report(final, code, content)


def _remove_older(final: Path) -> None:
    for path in (final, golden_path(final), report.report_path(final), report.failed_path(final)):
        workplace.remove(path)


def _timed(timings: dict[str, float], name: str, call: Callable[[], T]) -> T:
    start = time.perf_counter()
    result = call()
    timings[name] = time.perf_counter() - start
    return result


def _words(given: str | Iterable[str]) -> str | tuple[str, ...]:
    return given if isinstance(given, str) else tuple(given)

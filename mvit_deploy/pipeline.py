"""The only code that knows the order: check everything, convert, read back, run, judge, rename, report."""

import errno
import gc
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from torch import nn

from mvit_deploy import chatter, images, reference, report, runtimes, targets, verification, workplace
from mvit_deploy.adopt import adopt
from mvit_deploy.calibration import Photos, photos
from mvit_deploy.errors import CheckpointError, MissingLibraryError, MvitError, UsageError
from mvit_deploy.images import ImageSet
from mvit_deploy.nn.config import check_image_size
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.parity import MISMATCH, NOT_RUN
from mvit_deploy.quantization.preparation import Quantizer, choice_of
from mvit_deploy.recheck import locate_in
from mvit_deploy.reference import Reference
from mvit_deploy.report import Report
from mvit_deploy.request import NEEDS_CALIBRATION, QUANTIZED, Job, Options, parse_image_size, plan, read_labels
from mvit_deploy.runtimes import CannotRunHere
from mvit_deploy.runtimes.census import census
from mvit_deploy.spec import DEFAULT_IMAGE_SIZE, Contract
from mvit_deploy.verification import Expectation, Verification

log = logging.getLogger(__name__)
Notify = Callable[[str], None]
T = TypeVar("T")


def export(
    model_or_mode: nn.Module | str | None,
    *,
    target: str | Iterable[str],
    precision: str | Iterable[str] | None = None,
    task: str = "classification",
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
    output: str | Path = "exported",
    seed: int = 0,
    verify: bool = True,
    allow_unverified: bool = False,
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
        output=Path(output),
        seed=seed,
        verify=verify,
        allow_unverified=allow_unverified,
    )
    work = prepare(model_or_mode, options, on_step)
    return list(run(work, on_step))


@dataclass(frozen=True)
class Judging:
    """Images, and what the reference gives for them."""

    inputs: ImageSet
    outputs: np.ndarray


@dataclass(frozen=True)
class Work:
    """A request that has passed every check: what to write, from what, and what it is held to.

    judging: for float files, quantized_judging: for quantized ones; None where not asked for.
    """

    jobs: tuple[Job, ...]
    options: Options
    reference: Reference
    contract: Contract
    judging: Judging | None
    quantized_judging: Judging | None
    photos: Photos
    fused: nn.Module
    quantizer: Quantizer | None
    model_facts: dict[str, object]

    def judging_of(self, job: Job) -> Judging | None:
        return self.quantized_judging if job.precision in QUANTIZED else self.judging

    def path_of(self, job: Job) -> Path:
        """OUTPUT/mobilevit_MODE[_kornia]_PRECISION.SUFFIX"""
        variant = "_kornia" if self.contract.variant == "kornia" else ""
        return self.options.output / f"mobilevit_{self.contract.mode}{variant}_{job.precision}{job.suffix}"

    def contract_of(self, job: Job) -> Contract:
        return replace(self.contract, dynamic_batch=job.settings.dynamic_batch, io=job.settings.io)


def prepare(model_or_mode: nn.Module | str | None, options: Options, on_step: Notify) -> Work:
    """All that can be found before a file is written. Raises: UsageError, MissingLibraryError, CheckpointError."""
    jobs, skipped = plan(options)
    for line in skipped:
        on_step(f"skipped: {line}")
    for target in dict.fromkeys(job.target for job in jobs):
        targets.check_libraries(target, to_run=options.verify)
    size = parse_image_size(DEFAULT_IMAGE_SIZE[options.task] if options.image_size is None else options.image_size)
    check_image_size(*size)
    source = _reference(model_or_mode, options)
    for note in source.notes:
        on_step(f"note: {note}")
    contract = _contract(source, options, size, jobs)
    chosen = _photos(options, jobs, size, on_step)
    judging = quantized_judging = None
    if options.verify:
        on_step("PyTorch: running the reference")
        judging, quantized_judging = _judging(source, options, jobs, size, chosen)
    workplace.check_output(options.output)
    fused = fuse(adopt(source.module))
    quantizer = _quantizer(source, fused, options, jobs, size, chosen, on_step)
    facts = _model_facts(source, contract)
    return Work(tuple(jobs), options, source, contract, judging, quantized_judging, chosen, fused, quantizer, facts)


def _photos(options: Options, jobs: list[Job], size: tuple[int, int], on_step: Notify) -> Photos:
    if not any(job.precision in QUANTIZED for job in jobs):
        return Photos(None, None)
    return photos(
        size,
        calibration=options.calibration,
        count=options.calibration_count,
        verify_images=options.verify_images,
        on_warning=lambda line: on_step(f"warning: {line}"),
    )


def _judging(
    source: Reference, options: Options, jobs: list[Job], size: tuple[int, int], chosen: Photos
) -> tuple[Judging | None, Judging | None]:
    """Images and PyTorch's outputs for float files, and for quantized ones; None where there is no such file."""
    plain = quantized = None
    if any(job.precision not in QUANTIZED for job in jobs):
        inputs = images.verification_set(size, seed=options.seed, folder=options.verify_images)
        plain = Judging(inputs, reference.run(source, inputs.pixels))
    if any(job.precision in QUANTIZED for job in jobs):
        inputs = images.quantized_verification_set(size, seed=options.seed, photos=chosen.judging)
        quantized = Judging(inputs, reference.run(source, inputs.pixels))
    return plain, quantized


def _quantizer(
    source: Reference,
    fused: nn.Module,
    options: Options,
    jobs: list[Job],
    size: tuple[int, int],
    chosen: Photos,
    on_step: Notify,
) -> Quantizer | None:
    """Raises: UsageError for a module that cannot be followed, or a plan that does not fit it."""
    if not any(job.precision in QUANTIZED for job in jobs):
        return None
    choice = choice_of(options.keep_float, options.plan, source.mode)
    given = None
    if chosen.calibration is not None:
        given = reference.image_tensors(chosen.calibration.pixels, source.color_order)
    return Quantizer(fused, size, given, choice, on_step)


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
        key = (job.settings, job.precision if job.precision in QUANTIZED else "")
        if key not in self._done:
            exporter = targets.exporter(job.target)
            self._done[key] = exporter.lower(self._module(job), self._work.contract_of(job), job.settings)
        return self._done[key]

    def _module(self, job: Job) -> nn.Module:
        quantizer = self._work.quantizer
        return quantizer.form(job.precision) if job.precision in QUANTIZED and quantizer else self._work.fused


def _write_and_judge(work: Work, job: Job, lower: _Lowering, on_step: Notify) -> Report:
    final = work.path_of(job)
    timings: dict[str, float] = {}
    try:
        with workplace.temporary_folder(work.options.output) as folder:
            partial = folder / final.name
            if work.quantizer is not None and job.precision in QUANTIZED:
                _timed(timings, "quantize", lambda: work.quantizer.settle(job.precision))
            on_step(f"{job}: converting")
            _timed(timings, "convert", lambda: _convert(job, lower, partial))
            on_step(f"{job}: verifying")
            found = _timed(timings, "verify", lambda: _verify(work, job, partial))
            content = _content(work, job, found, partial, timings)
            if found.verdict == MISMATCH:
                content["verification"] |= _location(work, job, partial, found)
                return _failed(work, final, 1, content)
            written = report.report_path(partial)
            workplace.write_text(written, report.dump(content))
            os.replace(partial, final)
            os.replace(written, report.report_path(final))
    except (UsageError, MissingLibraryError, CheckpointError):
        raise
    except Exception as error:  # whatever a converter raises is the result for this file; the others go on
        log.debug("%s failed", job, exc_info=True)
        failure = Verification(NOT_RUN, _explain(error))
        return _failed(work, final, 6, _content(work, job, failure, None, timings))
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


def _verify(work: Work, job: Job, partial: Path) -> Verification:
    contract = work.contract_of(job)
    with chatter.into_log(f"verify-{partial.name}"):
        judging = work.judging_of(job)
        if judging is not None:
            reason = _report_only(work, job)
            expected = Expectation(contract, job.precision, judging.inputs, judging.outputs, report_only=reason)
            return verification.verify(partial, expected)
        if targets.missing_libraries(job.target, to_export=False):
            return Verification(NOT_RUN, verification.NOT_ASKED)
        return verification.inspect_only(partial, contract)


def _report_only(work: Work, job: Job) -> str:
    """Why the floors of a precision are not applied; nothing where they are."""
    if job.precision in NEEDS_CALIBRATION and work.reference.weights["source"] == "random":
        return f"random weights: {job.precision} is calibrated and run, its errors are reported without a floor"
    return ""


def _location(work: Work, job: Job, partial: Path, found: Verification) -> dict[str, object]:
    """Where a file that was run and is wrong leaves PyTorch, for the report; nothing where that cannot be told."""
    if found.judgement is None or work.judging is None or job.precision in QUANTIZED:
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


def _content(
    work: Work, job: Job, found: Verification, partial: Path | None, timings: dict[str, float]
) -> dict[str, object]:
    artifact = {
        "path": str(work.path_of(job)),
        "target": job.target.name,
        "format": job.settings.format,
        "precision": job.precision,
        **verification.file_facts(found, partial),
        "min_ios": job.settings.min_ios,
        "int8": _int8(job, partial),
    }
    content = report.content(
        command=work.options.command,
        artifact=artifact,
        model=work.model_facts,
        verification=verification.to_json(found, job.precision, _inputs(work, job), _origin(work.options)),
        timings_s={name: round(seconds, 3) for name, seconds in timings.items()},
    )
    if work.quantizer is not None and job.precision in QUANTIZED:
        content["quantization"] = work.quantizer.to_json(job.precision) | {"calibration": _calibration(work)}
    return content


def _inputs(work: Work, job: Job) -> ImageSet | None:
    judging = work.judging_of(job)
    return None if judging is None else judging.inputs


def _int8(job: Job, partial: Path | None) -> dict[str, object]:
    """What of a file really is int8, counted from what the runtime executes; just that for a float file."""
    if job.precision not in QUANTIZED or partial is None or not partial.exists():
        return {"weight_fraction": 0.0, "kept_float": []}
    try:
        with chatter.into_log(f"census-{partial.name}"):
            return census(partial).to_json()
    except (MvitError, runtimes.CannotRunHere) as error:
        log.warning("%s: cannot count what runs in int8: %s", job, error)
        return {"weight_fraction": None, "kept_float": None, "reason": str(error)}


def _calibration(work: Work) -> dict[str, object] | None:
    used = work.photos.calibration
    if used is None:
        return None
    return {"folder": str(work.options.calibration), "count": len(used.names), "sha256": used.sha256}


def _origin(options: Options) -> dict[str, object]:
    folder = options.verify_images
    calibration = None if options.calibration is None else str(options.calibration)
    return {
        "seed": options.seed,
        "folder": None if folder is None else str(folder),
        "calibration": calibration,
        "calibration_count": options.calibration_count,
    }


def _reference(model_or_mode: nn.Module | str | None, options: Options) -> Reference:
    if not isinstance(model_or_mode, nn.Module):
        if options.color_order is not None:
            raise UsageError("color_order is for a module of your own; checkpoints are brought to RGB")
        return reference.from_weights(
            model_or_mode, options.weights, num_classes=options.num_classes, seed=options.seed
        )
    if options.weights != "random" or options.num_classes is not None:
        raise UsageError("a module brings its own weights and classes; weights and num_classes are for a mode")
    return reference.from_module(model_or_mode, color_order=options.color_order)


def _contract(source: Reference, options: Options, size: tuple[int, int], jobs: list[Job]) -> Contract:
    """Raises: UsageError when the module does not take the size, or labels are given and do not fit."""
    shape = _output_shape(source, size)
    labels = None
    if options.labels is not None:
        if len(shape) != 1:
            raise UsageError(f"labels are for a classifier; this model's output has shape {(1, *shape)}")
        needs_distinct = any(job.target.name == "coreml" for job in jobs)
        labels = read_labels(options.labels, num_classes=shape[0], distinct=needs_distinct)
    return Contract(
        mode=source.mode,
        task=options.task,
        variant=source.variant,
        image_size=size,
        output_name="logits" if len(shape) == 1 else "features",
        output_shape=shape,
        labels=labels,
        color_order=source.color_order,
    )


def _output_shape(source: Reference, size: tuple[int, int]) -> tuple[int, ...]:
    try:
        return reference.run(source, np.zeros((1, *size, 3), np.uint8)).shape[1:]
    except MvitError:
        raise
    except Exception as error:
        raise UsageError(f"the module fails on an image of {size[0]}x{size[1]}: {_explain(error)}") from error


def _model_facts(source: Reference, contract: Contract) -> dict[str, object]:
    classes = contract.output_shape[0] if len(contract.output_shape) == 1 else None
    facts = {"task": contract.task, "num_classes": classes}
    return facts | reference.model_facts(source, contract.image_size)


def _remove_older(final: Path) -> None:
    for path in (final, report.report_path(final), report.failed_path(final)):
        workplace.remove(path)


def _timed(timings: dict[str, float], name: str, call: Callable[[], T]) -> T:
    start = time.perf_counter()
    result = call()
    timings[name] = time.perf_counter() - start
    return result


def _explain(error: Exception) -> str:
    """One line on an error, a full disk by name, with its notes (where the log is)."""
    text = (str(error).strip().splitlines() or [""])[0][:400]
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = "the disk is full"
    elif not isinstance(error, MvitError):
        text = f"{type(error).__name__}: {text}"
    return "; ".join([text, *getattr(error, "__notes__", [])])


def _words(given: str | Iterable[str]) -> str | tuple[str, ...]:
    return given if isinstance(given, str) else tuple(given)

"""A request that has passed every check: everything that can be found before a file is written."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from mvit_deploy import golden, images, reference, targets, workplace
from mvit_deploy.adopt import adopt
from mvit_deploy.calibration import Photos, photos
from mvit_deploy.errors import MvitError, UsageError, explain
from mvit_deploy.image_options import parse_image_size, parse_normalization, preprocessing_of
from mvit_deploy.images import ImageSet
from mvit_deploy.nn.config import check_image_size
from mvit_deploy.nn.endings import ended, measured
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.quantization.preparation import Quantizer, choice_of
from mvit_deploy.reference import Reference
from mvit_deploy.request import Job, Options, ending_of, made_distinct, plan, read_labels
from mvit_deploy.spec import DEFAULT_IMAGE_SIZE, IO_TYPES, SUPPRESSIONS, About, Contract, Output

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Judging:
    """Images, and what the reference gives for them."""

    inputs: ImageSet
    outputs: dict[str, np.ndarray]


@dataclass(frozen=True)
class Work:
    """A request that has passed every check: what to write, from what, and what it is held to.

    judging: for float files, quantized_judging: for quantized ones; None where there is none. quantizer: None where all
    files are float.
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

    def judging_of(self, job: Job) -> Judging:
        return self.quantized_judging if job.is_quantized else self.judging

    def path_of(self, job: Job) -> Path:
        """OUTPUT/mobilevit_MODE[_kornia][_TASK]_PRECISION.SUFFIX"""
        variant = "_kornia" if self.contract.variant == "kornia" else ""
        task = "" if self.contract.task == "classification" else f"_{self.contract.task}"
        return self.options.output / f"mobilevit_{self.contract.mode}{variant}{task}_{job.precision}{job.suffix}"

    def contract_of(self, job: Job) -> Contract:
        suppression = SUPPRESSIONS[job.target.name] if self.options.nms else None
        return replace(
            self.contract,
            dynamic_batch=job.settings.dynamic_batch,
            io=job.settings.io,
            suppression=suppression,
            probabilities=self._gives_probabilities(job),
        )

    def _gives_probabilities(self, job: Job) -> bool:
        """As asked; else where an app's framework expects them, of a classifier with labels and float outputs."""
        if self.options.probabilities is not None:
            return self.options.probabilities
        has_labels = self.contract.task == "classification" and self.contract.labels is not None
        return has_labels and job.target.name in ("coreml", "tflite") and job.settings.io == IO_TYPES[0]


def prepare(model_or_mode: nn.Module | str | None, options: Options, on_step: Notify) -> Work:
    """All that can be found before a file is written. Raises: UsageError, MissingLibraryError, CheckpointError."""
    jobs, skipped = plan(options)
    for line in skipped:
        on_step(f"skipped: {line}")
    for target in dict.fromkeys(job.target for job in jobs):
        targets.check_libraries(target, to_run=options.verify)
    asked = None if options.image_size is None else parse_image_size(options.image_size)
    if asked is not None:
        check_image_size(*asked)
    source = _reference(model_or_mode, options)
    size = asked or DEFAULT_IMAGE_SIZE[source.task]
    ending = ending_of(options, source.task)
    source = reference.with_output_stride(source, options.output_stride)
    how = preprocessing_of(source.preprocessing, options.resize, options.resampling, size)
    source = replace(source, preprocessing=how)
    source = reference.with_normalization(source, parse_normalization(options.normalize, source.color_order))
    source = reference.with_ending(source, ending, size)
    for note in source.notes:
        on_step(f"note: {note}")
    contract = _contract(source, options, size, jobs)
    chosen = Photos(None, None)
    if any(job.is_quantized for job in jobs):
        chosen = photos(
            size,
            calibration=options.calibration,
            count=options.calibration_count,
            verify_images=options.verify_images,
            on_warning=lambda line: on_step(f"warning: {line}"),
            how=source.preprocessing,
        )
    on_step("PyTorch: running the reference")
    judging, quantized_judging = _judging(source, options, jobs, size, chosen)
    workplace.check_output(options.output)
    fused, quantizer = fuse(adopt(source.module)), None
    if any(job.is_quantized for job in jobs):
        quantizer = _quantizer(source, fused, options, size, chosen, on_step)
    facts = reference.model_facts(source, size) | {"num_classes": _num_classes(source, contract.outputs)}
    return Work(tuple(jobs), options, source, contract, judging, quantized_judging, chosen, fused, quantizer, facts)


def _judging(
    source: Reference, options: Options, jobs: list[Job], size: tuple[int, int], chosen: Photos
) -> tuple[Judging | None, Judging | None]:
    """Images and PyTorch's outputs for float files, and for quantized ones; None where there is no such file. Where
    nothing is verified, there are those images alone that are laid beside the files."""

    def judged_on(inputs: ImageSet) -> Judging:
        chosen = inputs if options.verify else inputs.take(next(golden.choices(inputs))[0])
        return Judging(chosen, reference.run(source, chosen.pixels))

    plain = quantized = None
    if not all(job.is_quantized for job in jobs):
        inputs = images.verification_set(
            size, seed=options.seed, folder=options.verify_images, how=source.preprocessing
        )
        plain = judged_on(inputs)
    if any(job.is_quantized for job in jobs):
        inputs = images.quantized_verification_set(size, seed=options.seed, photos=chosen.judging)
        quantized = judged_on(inputs)
    return plain, quantized


def _quantizer(
    source: Reference,
    fused: nn.Module,
    options: Options,
    size: tuple[int, int],
    chosen: Photos,
    on_step: Notify,
) -> Quantizer:
    """Raises: UsageError for a module that cannot be followed, or a plan that does not fit it."""
    choice = choice_of(options.keep_float, options.plan, source.mode)
    given = None
    if chosen.calibration is not None:
        given = reference.image_tensors(chosen.calibration.pixels, source.color_order)

    def end(module: nn.Module) -> nn.Module:
        return ended(module, source.ending, size)

    return Quantizer(measured(fused), size, given, choice, on_step, end)


def _reference(model_or_mode: nn.Module | str | None, options: Options) -> Reference:
    if not isinstance(model_or_mode, nn.Module):
        if options.color_order is not None:
            raise UsageError("color_order is for a module of your own; checkpoints are brought to RGB")
        return reference.from_weights(
            model_or_mode,
            options.weights,
            num_classes=options.num_classes,
            seed=options.seed,
            task=options.task,
            variant=options.variant,
        )
    if options.weights != "random" or options.num_classes is not None:
        raise UsageError("a module brings its own weights and classes; weights and num_classes are for a mode")
    return reference.from_module(model_or_mode, color_order=options.color_order)


def _contract(source: Reference, options: Options, size: tuple[int, int], jobs: list[Job]) -> Contract:
    """Raises: UsageError when the module does not take the size, or labels are given and do not fit."""
    outputs = _outputs(source, size)
    if options.io != IO_TYPES[0] and [output.dtype for output in outputs] != ["float32"]:
        raise UsageError(f"--io {options.io} is for files with one output of logits, this has {_listed(outputs)}")
    if options.probabilities and [output.name for output in outputs] != ["logits"]:
        raise UsageError(f"--probabilities is for files with one output of logits, this has {_listed(outputs)}")
    needs_distinct = source.task == "classification" and any(job.target.name == "coreml" for job in jobs)
    labels = source.labels
    if labels is not None and needs_distinct:
        labels = made_distinct(labels)
    if options.labels is not None:
        count = _num_classes(source, outputs)
        if count is None:
            raise UsageError(f"labels are for classes; this model's output has shape {(1, *outputs[0].shape)}")
        has_background = source.task != "classification"
        labels = read_labels(options.labels, num_classes=count, distinct=needs_distinct, has_background=has_background)
    return Contract(
        mode=source.mode,
        task=source.task,
        variant=source.variant,
        image_size=size,
        outputs=outputs,
        labels=labels,
        color_order=source.color_order,
        normalization=source.normalization,
        preprocessing=replace(source.preprocessing, color_order=source.color_order),
        about=About(options.author, options.license, options.model_version, str(source.weights["sha256"])),
    )


def _outputs(source: Reference, size: tuple[int, int]) -> tuple[Output, ...]:
    try:
        given = reference.run(source, np.zeros((1, *size, 3), np.uint8))
        return tuple(Output(name, values.shape[1:]) for name, values in given.items())
    except MvitError:
        raise
    except Exception as error:
        raise UsageError(f"the module fails on an image of {size[0]}x{size[1]}: {explain(error)}") from error


def _listed(outputs: tuple[Output, ...]) -> str:
    return " and ".join(output.name for output in outputs)


def _num_classes(source: Reference, outputs: tuple[Output, ...]) -> int | None:
    """Of a module of one's own, what it gives as a row is logits; None where it gives something else."""
    shape = outputs[0].shape
    return source.num_classes or (shape[0] if len(shape) == 1 else None)

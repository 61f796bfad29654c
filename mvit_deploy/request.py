"""From the words of a person to a plan of files; everything here is checked before anything is written."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from exporters import MIN_IOS, TARGETS, Target
from mvit_deploy.errors import UsageError
from mvit_deploy.hints import choose, did_you_mean
from mvit_deploy.spec import (
    IO_TYPES,
    LINT_LEVELS,
    NEEDS_CALIBRATION,
    PRECISION_ALIASES,
    PRECISIONS,
    QUANTIZED,
    TASKS,
    VARIANTS,
    Settings,
)
from mvit_deploy.targets import target_named

LOWEST_IOS = {"fp32": 15, "fp16": 15, "w8": 16, "w8a8": 17}
DEFAULT_IOS = 16
BACKGROUND = "background"


@dataclass(frozen=True)
class Job:
    """One file to be written."""

    target: Target
    precision: str
    settings: Settings

    @property
    def suffix(self) -> str:
        return self.target.formats[self.settings.format]

    @property
    def is_quantized(self) -> bool:
        return self.precision in QUANTIZED

    def __str__(self) -> str:
        return f"{self.settings.format} {self.precision}"


@dataclass(frozen=True)
class Options:
    """What the command line and mvit_deploy.export take, by the same names. None is "not said"."""

    target: str | tuple[str, ...]
    precision: str | tuple[str, ...] | None = None
    task: str | None = None
    variant: str = "paper"
    weights: str = "random"
    num_classes: int | None = None
    labels: Path | tuple[str, ...] | None = None
    image_size: str | int | tuple[int, int] | None = None
    verify_images: Path | None = None
    calibration: Path | None = None
    calibration_count: int | None = None
    keep_float: tuple[str, ...] = ()
    plan: Path | None = None
    format: str | None = None
    min_ios: int | None = None
    dynamic_batch: bool = False
    io: str = IO_TYPES[0]
    color_order: str | None = None
    output: Path = Path("exported")
    raw_head: bool = False
    nms: bool = False
    upsample: bool = False
    argmax: bool = False
    output_stride: int | None = None
    probabilities: bool | None = None
    normalize: str | None = None
    resize: str | int | tuple[int, int] | None = None
    resampling: str | None = None
    author: str | None = None
    license: str | None = None
    model_version: str | None = None
    seed: int = 0
    verify: bool = True
    allow_unverified: bool = False
    lint: str = "warn"
    command: str = "mvit_deploy.export"  # as the report says it


def plan(options: Options) -> tuple[list[Job], list[str]]:
    """The files to write, and a line for each pair of target and precision that `all` passes over.

    Raises: UsageError for an unknown or contradictory choice.
    """
    choose(options.task or TASKS[0], TASKS, "task")
    choose(options.variant, VARIANTS, "variant")
    choose(options.io, IO_TYPES, "io")
    choose(options.lint, LINT_LEVELS, "lint level")
    names = split_words(options.target)
    every = "all" in names
    targets = [target_named(name) for name in names if name != "all"]
    if every:
        targets = list(TARGETS.values())
    if not targets:
        raise UsageError(f"no target given; known: {', '.join(TARGETS)}, all")
    _check_belongs(options, targets)
    precisions = parse_precisions(options.precision)
    jobs, skipped = [], []
    for target in targets:
        for precision in precisions or (target.default_precision,):
            if precision in target.precisions:
                jobs.append(Job(target, precision, _settings(options, target, precision)))
            elif every:
                skipped.append(_has_not(target, precision))
            else:
                raise UsageError(_has_not(target, precision))
    if not jobs:
        raise UsageError("; ".join(skipped))
    _check_quantization(options, jobs)
    if all(job.settings.io != options.io for job in jobs) and options.io != IO_TYPES[0]:
        raise UsageError(f"--io {options.io} belongs to precision w8a8 of target tflite, which is not asked for")
    return jobs, skipped


def _check_quantization(options: Options, jobs: list[Job]) -> None:
    """Refuse int8 without images to calibrate on, and options that nothing in the request takes."""
    precisions = {job.precision for job in jobs}
    uncalibrated = [word for word in NEEDS_CALIBRATION if word in precisions]
    if uncalibrated and options.calibration is None:
        raise UsageError(
            f"{' and '.join(uncalibrated)}: activations are calibrated on images; give --calibration DIR with "
            "100 or so photos like those that the app will see (w8 needs none)"
        )
    given = {
        "--calibration": options.calibration is not None,
        "--calibration-count": options.calibration_count is not None,
        "--keep-float": bool(options.keep_float),
        "--plan": options.plan is not None,
    }
    for option, is_given in given.items():
        if is_given and not precisions & set(QUANTIZED):
            raise UsageError(f"{option} belongs to the precisions {', '.join(QUANTIZED)}, none of which is asked for")
    if (options.keep_float or options.plan is not None) and options.calibration is None:
        raise UsageError("--keep-float and --plan need --calibration: without it weights alone are rounded")


def parse_precisions(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """Known precisions, aliases resolved, each once, in the order given; none for None.

    Raises: UsageError with the nearest name, and when something is given that holds no word.
    """
    if given is None:
        return ()
    known = (*PRECISIONS, *PRECISION_ALIASES)
    words = split_words(given)
    if not words:
        raise UsageError(f"no precision given; known: {', '.join(known)}")
    for word in words:
        if word not in known:
            raise UsageError(f"unknown precision {word!r}; known: {', '.join(known)}{did_you_mean(word, known)}")
    return tuple(dict.fromkeys(PRECISION_ALIASES.get(word, word) for word in words))


def split_words(given: str | Iterable[str]) -> list[str]:
    """Comma-separated words, or a sequence of such, each once."""
    parts = [given] if isinstance(given, str) else given
    return list(dict.fromkeys(word.strip() for part in parts for word in part.split(",") if word.strip()))


def ending_of(options: Options, task: str) -> str:
    """How the graphs of a task end, by the names of nn.endings. Raises: UsageError for an option of another task."""
    tasks = {"raw_head": "detection", "nms": "detection", "upsample": "segmentation", "argmax": "segmentation"}
    for option, owner in tasks.items():
        if getattr(options, option) and task != owner:
            raise UsageError(f"--{option.replace('_', '-')} belongs to --task {owner}, this is {task}")
    if options.probabilities and task != "classification":
        raise UsageError(f"--probabilities belongs to --task classification, this is {task}")
    if options.probabilities and options.io != IO_TYPES[0]:
        raise UsageError(f"--probabilities are float32: levels of {options.io} do not tell small ones apart")
    if options.output_stride is not None and task != "segmentation":
        raise UsageError(f"--output-stride belongs to --task segmentation, this is {task}")
    if options.nms and options.raw_head:
        raise UsageError("--nms works on decoded boxes, --raw-head leaves them out; give one of the two")
    if options.nms and options.dynamic_batch:
        raise UsageError("--nms finds another number of boxes on each image; --dynamic-batch cannot be given with it")
    if task == "detection":
        return "raw" if options.raw_head else "boxes"
    words = ["upsampled"] * options.upsample + ["classes"] * options.argmax
    return " ".join(words) or "logits"


def read_labels(
    given: Path | Iterable[str], *, num_classes: int, distinct: bool, has_background: bool = False
) -> tuple[str, ...]:
    """Labels, one a line of a UTF-8 file or one an item, as many as there are classes.

    With has_background there may be one less: "background" is then put first. Blank lines at the end of a file are no
    labels.
    Raises: UsageError when the file cannot be read, is empty, has another number of lines or an empty one, when a label
    is not text, or when one repeats although a target needs them distinct.
    """
    labels = _label_lines(Path(given)) if isinstance(given, str | Path) else tuple(given)
    if not labels:
        raise UsageError(f"{given} holds no labels")
    for number, label in enumerate(labels, 1):
        if not isinstance(label, str):
            raise UsageError(f"label {number} is {label!r}, not text")
        if not label.strip():
            raise UsageError(f"label {number} is empty")
    if has_background and len(labels) == num_classes - 1:
        labels = (BACKGROUND, *labels)
    if len(labels) != num_classes:
        raise UsageError(f"{len(labels)} labels for {num_classes} classes")
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if distinct and repeated:
        raise UsageError(
            f"Core ML's classifier needs labels that differ; given more than once: {', '.join(repeated[:5])}"
        )
    return labels


def made_distinct(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels in which those that repeat an earlier one have their class behind them: ImageNet has two cranes."""
    return tuple(f"{label} ({place})" if label in labels[:place] else label for place, label in enumerate(labels))


def _label_lines(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()  # every line end is \n now
    except (OSError, ValueError) as error:  # not UTF-8, or a NUL in the path, is a ValueError
        raise UsageError(f"cannot read the labels in {path}: {error}") from error
    return tuple(line.strip() for line in text.split("\n")) if text else ()


def _settings(options: Options, target: Target, precision: str) -> Settings:
    if target.name == "onnx":
        return Settings(target.default_format, dynamic_batch=options.dynamic_batch)
    if target.name != "coreml":
        settings = Settings(target.default_format)
        return replace(settings, io=options.io) if (target.name, precision) == ("tflite", "w8a8") else settings
    file_format = options.format or target.default_format
    if file_format not in target.formats:
        known = ", ".join(target.formats)
        raise UsageError(f"unknown format {file_format!r}; known: {known}{did_you_mean(file_format, target.formats)}")
    if file_format == "mlmodel":
        if precision == "w8a8":
            raise UsageError("an .mlmodel holds no int8 activations; w8a8 needs --format mlpackage (iOS 17)")
        if options.min_ios is not None:
            raise UsageError("--min-ios is for mlpackage; an .mlmodel says itself what it needs (iOS 13 or 14)")
        return Settings(file_format)
    return Settings(file_format, min_ios=_min_ios(options.min_ios, precision))


def _min_ios(asked: int | None, precision: str) -> int:
    if asked is None:
        return max(DEFAULT_IOS, LOWEST_IOS[precision])
    if asked not in MIN_IOS:
        raise UsageError(f"unknown --min-ios {asked}; known: {', '.join(map(str, MIN_IOS))}")
    if asked < LOWEST_IOS[precision]:
        raise UsageError(f"--min-ios {asked}: {precision} needs iOS {LOWEST_IOS[precision]}")
    return asked


def _check_belongs(options: Options, targets: list[Target]) -> None:
    """Refuse options of one target when that target is not asked for."""
    names = {target.name for target in targets}
    given = {"--format": options.format is not None, "--min-ios": options.min_ios is not None}
    for option, is_given in given.items():
        if is_given and "coreml" not in names:
            raise UsageError(f"{option} belongs to target coreml, which is not asked for")
    if options.dynamic_batch and "onnx" not in names:
        raise UsageError("--dynamic-batch belongs to target onnx, which is not asked for")


def _has_not(target: Target, precision: str) -> str:
    why = ""
    if target.name == "coreml" and precision == "w8a16":
        why = " (Core ML has no 16-bit integer activations, and its w8 computes in fp16 already)"
    return f"{target.name} has no precision {precision}{why}; it has: {', '.join(target.precisions)}"

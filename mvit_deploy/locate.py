"""Where a file leaves PyTorch: its stages and its operations, followed by the values that they give.

Names do not survive conversion, values do: a stage of the module is found in a file as the tensor that equals its
output. The stage behind the last one that agrees is the one that is wrong: right values do not come from wrong ones.
Within it, the first operation is named whose result is neither a value of the deployment form nor on the way to one.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mvit_deploy.adopt import adopt
from mvit_deploy.images import ImageSet
from mvit_deploy.nn.channels_last import channels_last
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.nn.heads.classification import Classifier
from mvit_deploy.reference import Reference, image_tensors
from mvit_deploy.runtimes import taps
from mvit_deploy.runtimes.taps import TapOperation, Tapped

# A stage agrees when max|d| / max|ref| is within this, or within NOISE_FACTOR times PyTorch's own rounding error in the
# stage (fp32 against float64), which grows with depth and differs from weights to weights.
TOLERANCES = {"fp32": 1e-5, "fp16": 2e-2}
NOISE_FACTOR = 4
INPUT, HEAD, OUTPUT = "input", "head", "output"


@dataclass(frozen=True)
class StageError:
    """One stage: the value of the file that comes nearest to it, and how near, as the worst of all images."""

    stage: str
    value: str
    line: int
    rel_max: float | None
    within: bool


@dataclass(frozen=True)
class Location:
    """The stage behind the last within tolerance and the operation where it begins; None where the last is within."""

    stages: tuple[StageError, ...]
    stage: str | None
    operation: TapOperation | None

    def to_json(self) -> dict[str, object]:
        operation = self.operation
        return {
            "stages": [vars(stage) for stage in self.stages],
            "first_stage": self.stage,
            "first_operation": None
            if operation is None
            else {"line": operation.line, "type": operation.type, "outputs": list(operation.outputs)},
        }


@dataclass(frozen=True)
class Trail:
    """What PyTorch gives on the way, image by image: the stages of the original module, every value of the form that
    a target is made from."""

    pixels: np.ndarray
    stages: tuple[dict[str, np.ndarray], ...]
    values: tuple[list[np.ndarray], ...]
    noise: dict[str, float]  # PyTorch's own rounding error by stage, as rel_max


def trail(model: Classifier, pixels: np.ndarray, suffix: str, *, color_order: str = "RGB") -> Trail:
    """Run PyTorch once, for any number of files of one suffix. Shapes: pixels uint8 RGB (count, height, width, 3)."""
    form = fuse(model)
    form = channels_last(form) if suffix == ".tflite" else form
    tensors = list(image_tensors(pixels, color_order).split(1))
    stages = tuple(stage_values(model, tensor) for tensor in tensors)
    values = tuple(every_value(form, tensor) for tensor in tensors)
    return Trail(pixels, stages, values, _noise(model, tensors, stages))


def _noise(model: Classifier, tensors: list[Tensor], stages: tuple[dict[str, np.ndarray], ...]) -> dict[str, float]:
    exact_model = copy.deepcopy(model).double()
    exact = [stage_values(exact_model, tensor.double()) for tensor in tensors]
    return {
        stage: max(_rel_max(better[stage], rounded[stage]) for better, rounded in zip(exact, stages, strict=True))
        for stage in stages[0]
    }


def locate(path: Path, reference: Trail, *, tolerance: float, is_wrong: bool = False) -> Location:
    """Walk the stages of a classifier (input, stem, layer_1 … layer_5, head) and a file side by side.

    Args: tolerance of rel_max, TOLERANCES has that of each precision; is_wrong: the file's outputs are known to be
    wrong, so that a fault behind the logits (softmax, labels) is named "output".
    Raises: as taps.tap.
    """
    tapped = [taps.tap(path, image) for image in reference.pixels]
    stages = _stage_errors(tapped, reference, tolerance)
    right = _agreeing(stages)
    first = stages[len(right)].stage if len(right) < len(stages) else OUTPUT if is_wrong else None
    operation = None if first is None else _first_operation(right, tapped, reference, tolerance)
    return Location(tuple(stages), first, operation)


def locate_in(path: Path, source: Reference, inputs: ImageSet, precision: str, *, is_wrong: bool) -> Location | None:
    """Where a file leaves PyTorch, on a photo and on noise; None for a module that is no classifier of ours.

    Raises: DamagedFileError; CannotRunHere; MissingLibraryError.
    """
    model = adopt(source.module)
    if not isinstance(model, Classifier):
        return None
    chosen = inputs.pixels[[inputs.kinds.index("photo"), inputs.kinds.index("noise")]]
    reference_trail = trail(model, chosen, path.suffix, color_order=source.color_order)
    return locate(path, reference_trail, tolerance=TOLERANCES[precision], is_wrong=is_wrong)


def stage_values(model: Classifier, image: Tensor) -> dict[str, np.ndarray]:
    """What each stage of the original module gives, the scaled image first. Shapes: image (1, 3, H, W)."""
    kept: dict[str, np.ndarray] = {INPUT: image.numpy()}
    parts = [*list(model.backbone.stages.items())[:-1], (HEAD, model)]
    hooks = [part.register_forward_hook(_keeper(kept, name)) for name, part in parts]
    try:
        with torch.inference_mode():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return kept


def _keeper(kept: dict[str, np.ndarray], name: str):
    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept[name] = output.numpy().copy()

    return keep


class _Record(TorchDispatchMode):
    """Keeps a copy of every float tensor that an operator gives."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[np.ndarray] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                self.values.append(tensor.detach().numpy().copy())
        return result


def every_value(module: nn.Module, image: Tensor) -> list[np.ndarray]:
    """Every intermediate of a module, and the image."""
    with torch.no_grad(), _Record() as record:
        module(image)
    return [image.numpy(), *record.values]


def _stage_errors(tapped: list[Tapped], reference: Trail, tolerance: float) -> list[StageError]:
    first = tapped[0]
    lines = dict.fromkeys(first.inputs, 0) | {name: op.line for op in first.operations for name in op.outputs}
    errors = []
    for stage, expected in reference.stages[0].items():
        alike = [name for name in lines if name in first.values and _same_shape(expected, first.values[name])]
        near = {name: _distance(expected, first.values[name]) for name in alike}
        # Pixels may still be scaled and shifted: what enters the network is the last tensor that is like the image.
        rank = lines if stage == INPUT else near
        best = (max if stage == INPUT else min)(alike, key=lambda name: rank[name], default=None)
        if best is None or not np.isfinite(near[best]):
            errors.append(StageError(stage, "", 0, None, False))
            continue
        pairs = zip(reference.stages, tapped, strict=True)
        worst = max(_distance(expected[stage], other.values[best]) for expected, other in pairs)
        rel_max = float(worst) if np.isfinite(worst) else None
        limit = max(tolerance, NOISE_FACTOR * reference.noise[stage])
        errors.append(StageError(stage, best, lines[best], rel_max, bool(worst <= limit)))
    return errors


def _first_operation(
    agreeing: list[StageError], tapped: list[Tapped], reference: Trail, tolerance: float
) -> TapOperation | None:
    """The first operation, behind the last stage that agrees, that leads to no right value."""
    right = _right_operations(tapped, reference, tolerance)
    reached = agreeing[-1].line if agreeing else 0
    behind = [operation for operation in tapped[0].operations if operation.line > reached]
    return next((operation for operation in behind if operation.line not in right), next(iter(behind), None))


def _agreeing(stages: list[StageError]) -> list[StageError]:
    """The stages up to the last one that agrees. One before it that does not has rounding alone to answer for."""
    last = max((place for place, stage in enumerate(stages) if stage.within), default=-1)
    return stages[: last + 1]


def _right_operations(tapped: list[Tapped], reference: Trail, tolerance: float) -> set[int]:
    """Lines of the operations whose results are values of the module, or lead to such."""
    pairs = zip(tapped, reference.values, strict=True)
    tolerance = max(tolerance, NOISE_FACTOR * max(reference.noise.values()))
    right_values = set.intersection(*(_matched(one.values, values, tolerance) for one, values in pairs))
    right_values -= _telling_nothing(tapped)
    right = set()
    for operation in reversed(tapped[0].operations):
        if any(name in right_values for name in operation.outputs):
            right.add(operation.line)
            right_values |= set(operation.inputs)
    return right


def _telling_nothing(tapped: list[Tapped]) -> set[str]:
    """Values that do not depend on the image, such as a softmax over one token: they are right whatever came before."""
    first, *others = tapped
    return {
        name
        for name, value in first.values.items()
        if value.min() == value.max() or any(np.array_equal(value, other.values[name]) for other in others)
    }


def _matched(values: dict[str, np.ndarray], references: list[np.ndarray], tolerance: float) -> set[str]:
    by_shape: dict[tuple[int, ...], list[np.ndarray]] = {}
    for reference in references:
        for form in _layouts(reference):
            by_shape.setdefault(form.shape, []).append(form)
    return {
        name
        for name, value in values.items()
        if any(
            _rel_max(reference, np.squeeze(value)) <= tolerance
            for reference in by_shape.get(np.squeeze(value).shape, ())
        )
    }


def _layouts(reference: np.ndarray) -> list[np.ndarray]:
    """A map with channels first and last, anything else as it is; sides of 1 are left out."""
    forms = [np.squeeze(reference)]
    if reference.ndim == 4:
        forms.append(np.squeeze(reference.transpose(0, 2, 3, 1)))
    return forms


def _same_shape(reference: np.ndarray, value: np.ndarray) -> bool:
    return any(form.shape == np.squeeze(value).shape for form in _layouts(reference))


def _distance(reference: np.ndarray, value: np.ndarray) -> float:
    """rel_max of a value from a reference in the layout that suits it; infinite where the shapes differ."""
    flat = np.squeeze(value)
    return min((_rel_max(form, flat) for form in _layouts(reference) if form.shape == flat.shape), default=np.inf)


def _rel_max(reference: np.ndarray, value: np.ndarray) -> float:
    if not reference.size:
        return np.inf
    scale = float(np.abs(reference).max())
    probe = reference.ravel()[:64], value.ravel()[:64]  # most candidates are far off at once
    if not np.abs(probe[0] - probe[1]).max() <= scale:
        return np.inf
    worst = float(np.abs(reference - value).max())
    if scale > 0 and np.isfinite(worst):
        return worst / scale
    return 0.0 if worst == 0 else np.inf  # a black image is all 0

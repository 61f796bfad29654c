"""The reference: the original eager fp32 module, whoever made it, and what is known of it."""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from mvit_deploy.adopt import is_kornia
from mvit_deploy.checkpoints import load_checkpoint
from mvit_deploy.checkpoints.networks import BACKBONE
from mvit_deploy.errors import CheckpointError, UsageError
from mvit_deploy.images import ImageSet
from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.build import count_macs, count_parameters, seeded
from mvit_deploy.nn.config import CONFIGS
from mvit_deploy.nn.endings import ENDINGS, ended
from mvit_deploy.nn.heads import segmentation
from mvit_deploy.nn.heads.classification import Classifier
from mvit_deploy.nn.heads.detection import Detector
from mvit_deploy.nn.heads.segmentation import Segmenter
from mvit_deploy.nn.normalize import normalized
from mvit_deploy.spec import OWN, TASKS, Normalization, Preprocessing

CUSTOM = "custom"
RANDOM_NOTICE = "weights are random (seed {seed}): the file's predictions mean nothing"


@dataclass(frozen=True)
class Reference:
    """module: image (B, 3, H, W), float32, [0, 1], in color_order -> one tensor, or a tuple of them.

    weights: where they come from. outputs: names of what the module gives; none for one tensor, whose rank then says
    its name: a row is logits, anything else features. ending: how the graph of a network of ours ends (nn.endings).
    preprocessing: of photos, as the checkpoint itself says it, else this project's own. normalization: done by module.
    """

    module: nn.Module
    mode: str
    variant: str
    color_order: str
    weights: dict[str, object]
    notes: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    task: str = "classification"
    ending: str = ""
    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing = OWN
    normalization: Normalization | None = None

    @property
    def num_classes(self) -> int | None:
        """Of a network of ours, with the background where its task has one; None where that is not known."""
        return getattr(self.module, "num_classes", None)


class FirstTensor(nn.Module):
    """A module whose output is one tensor, around one that returns a tuple or Hugging Face's ModelOutput."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> Tensor:
        return first_tensor(self.module(image))


def first_tensor(output: object) -> Tensor:
    """The logits of an output, else its first tensor. Raises: UsageError when there is none."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        values = [output["logits"]] if output.get("logits") is not None else list(output.values())
    else:
        values = list(output) if isinstance(output, tuple | list) else []
    if not values or not isinstance(values[0], Tensor):
        raise UsageError(f"the module returns {type(output).__name__}, not a tensor")
    return values[0]


def from_weights(
    mode: str | None,
    weights: str,
    *,
    num_classes: int | None,
    seed: int,
    task: str | None = None,
    variant: str = "paper",
) -> Reference:
    """A network of ours with random weights or those of a checkpoint, ending in what its head gives.

    weights: "random", a file, a folder as transformers saves it, or hf:OWNER/NAME. task: None is what the weights are
    for, classification of random ones.
    Raises: UsageError for an unknown mode, or a mode, task, variant or number of classes that is missing or contradicts
    the weights; CheckpointError; MissingLibraryError for hf: without huggingface_hub.
    """
    if weights == "random":
        if mode is None:
            raise UsageError(f"--mode is needed with random weights; known: {', '.join(CONFIGS)}")
        model = seeded(mode, task or TASKS[0], variant, num_classes, seed=seed)
        facts = {"source": "random", "sha256": state_sha256(model), "seed": seed}
        return Reference(model, mode, variant, "RGB", facts, (RANDOM_NOTICE.format(seed=seed),), task=task or TASKS[0])
    loaded = load_checkpoint(weights, mode=mode, num_classes=num_classes)
    found = TASKS[0] if loaded.task == BACKBONE else loaded.task
    if task is not None and task != found:
        raise UsageError(f"--task {task} contradicts the weights, which are for {loaded.task}")
    facts = {"source": weights, "sha256": loaded.sha256, "layout": loaded.source}
    notes, preprocessing = loaded.notes, OWN
    if loaded.says_preprocessing:
        preprocessing = loaded.preprocessing
        notes += (f"your photos are prepared as the checkpoint says: {preprocessing}",)
    return Reference(
        loaded.model,
        loaded.mode,
        loaded.variant,
        "RGB",
        facts,
        notes,
        task=found,
        labels=loaded.labels,
        preprocessing=preprocessing,
    )


def with_output_stride(source: Reference, output_stride: int | None) -> Reference:
    """The reference at another output stride of its segmenter; None is its own. Raises: UsageError for none of them."""
    if output_stride is None:
        return source
    if not isinstance(source.module, Segmenter):
        raise UsageError("an output stride is for a segmenter of ours")
    return replace(source, module=segmentation.with_output_stride(source.module, output_stride))


def with_normalization(source: Reference, normalization: Normalization | None) -> Reference:
    """The reference of a network trained on normalized images, for files that take [0, 1]; None: as it is."""
    if normalization is None:
        return source
    return replace(source, module=normalized(source.module, normalization).eval(), normalization=normalization)


def with_ending(source: Reference, ending: str, image_size: tuple[int, int]) -> Reference:
    """The reference for files whose graph ends in one of its task's ways; one without a head of ours as it is."""
    if not isinstance(source.module, Classifier | Detector | Segmenter):
        return source
    module = ended(source.module, ending, image_size).eval()
    return replace(source, module=module, outputs=ENDINGS[source.task][ending], ending=ending)


def from_module(module: nn.Module, *, color_order: str | None) -> Reference:
    """A copy of a user's module in eval mode and fp32; the original is left alone.

    color_order None means BGR for Hugging Face's MobileViT, whose published weights take it (its processor has
    do_flip_channel_order), and RGB for all others.
    Raises: CheckpointError for a NaN or an infinity in its parameters or buffers.
    """
    copied = copy.deepcopy(module).eval().float().requires_grad_(False)
    for name, tensor in copied.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"NaN or infinity in {name}")
    origins = {type(part).__module__.split(".")[0] for part in copied.modules()}
    if color_order is None:
        color_order = "BGR" if "transformers" in origins else "RGB"
    facts = {"source": f"module {type(module).__module__}.{type(module).__qualname__}", "sha256": state_sha256(copied)}
    variant = "kornia" if is_kornia(copied) else "paper"
    if isinstance(copied, Detector | Segmenter):
        task = "detection" if isinstance(copied, Detector) else "segmentation"
        return Reference(copied, copied.mode, variant, color_order, facts, task=task)
    return Reference(FirstTensor(copied), mode_of(copied), variant, color_order, facts)


def mode_of(module: nn.Module) -> str:
    """xxs, xs or s by the last 1x1 expansion convolution of MobileViT in a module, "custom" where there is none."""
    for part in module.modules():
        if isinstance(part, MobileViT):
            return part.config.mode
    widths = {(config.stages[-1].channels, config.out_channels): mode for mode, config in CONFIGS.items()}
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    found = [widths.get((c.in_channels, c.out_channels)) for c in convolutions if c.kernel_size == (1, 1)]
    return next((mode for mode in reversed(found) if mode), CUSTOM)


def state_sha256(module: nn.Module) -> str:
    """Digest over the names, shapes and bytes of a module's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def image_tensors(pixels: np.ndarray, color_order: str) -> Tensor:
    """Images as a module takes them. Shapes: uint8 RGB (count, H, W, 3) -> float32 (count, 3, H, W) in [0, 1]."""
    ordered = pixels[..., ::-1] if color_order == "BGR" else pixels
    return torch.from_numpy(np.ascontiguousarray(ordered.transpose(0, 3, 1, 2))).float() / 255


def model_facts(reference: Reference, size: tuple[int, int]) -> dict[str, object]:
    """What a report says of the model. size: (height, width) of its images."""
    return {
        "mode": reference.mode,
        "task": reference.task,
        "ending": reference.ending,
        "output_stride": output_stride_of(reference),
        "variant": reference.variant,
        "image_size": list(size),
        "parameters": count_parameters(reference.module),
        "macs": count_macs(reference.module, size),
        "normalization": None if reference.normalization is None else asdict(reference.normalization),
        "weights": reference.weights,
    }


def output_stride_of(reference: Reference) -> int | None:
    """Of a segmenter of ours; None of everything else, which has one only."""
    return reference.module.backbone.output_stride if isinstance(reference.module, Segmenter) else None


def run(reference: Reference, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The reference's outputs by name, image by image.

    Shapes: uint8 RGB (count, height, width, 3) -> float32 (count, ...), or int32 of classes.
    """
    images = image_tensors(pixels, reference.color_order)
    with torch.inference_mode():
        given = [_tensors(reference.module(image[None])) for image in images]
    names = reference.outputs or ("logits" if given[0][0].ndim == 2 else "features",)
    columns = zip(*given, strict=True)
    return {name: torch.cat(parts).numpy() for name, parts in zip(names, columns, strict=True)}


def run_once(reference: Reference, inputs: ImageSet, known: dict[tuple[str, str], object]) -> dict[str, np.ndarray]:
    """What run() gives for a set of images, computed for the first file of a network and kept in known for others."""
    form = f"{reference.normalization} {reference.ending} {output_stride_of(reference)}"  # what weights do not say
    key = (f"{reference.weights['sha256']} {form}", inputs.sha256)
    if key not in known:
        known[key] = run(reference, inputs.pixels)
    return known[key]


def _tensors(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (output,) if isinstance(output, Tensor) else tuple(output)

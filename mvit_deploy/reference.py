"""The reference: the original eager fp32 module, whoever made it, and what is known of it."""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mvit_deploy.adopt import is_kornia
from mvit_deploy.checkpoints import load_checkpoint
from mvit_deploy.errors import CheckpointError, UsageError
from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.build import count_macs, count_parameters, seeded_classifier
from mvit_deploy.nn.config import CONFIGS, PAPER_CLASSES

CUSTOM = "custom"
RANDOM_NOTICE = "weights are random (seed {seed}): the file's predictions mean nothing"


@dataclass(frozen=True)
class Reference:
    """module: image (B, 3, H, W), float32, [0, 1], in color_order -> one tensor. weights: where they come from."""

    module: nn.Module
    mode: str
    variant: str
    color_order: str
    weights: dict[str, object]
    notes: tuple[str, ...] = ()


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


def from_weights(mode: str | None, weights: str, *, num_classes: int | None, seed: int) -> Reference:
    """The paper's classifier with random weights, or the network of a checkpoint with its weights.

    weights: "random", a file, a folder as transformers saves it, or hf:OWNER/NAME.
    Raises: UsageError for an unknown mode, or one that is missing or contradicts the weights; CheckpointError;
    MissingLibraryError for hf: without huggingface_hub.
    """
    if weights == "random":
        if mode is None:
            raise UsageError(f"--mode is needed with random weights; known: {', '.join(CONFIGS)}")
        model = seeded_classifier(mode, PAPER_CLASSES if num_classes is None else num_classes, seed=seed)
        facts = {"source": "random", "sha256": state_sha256(model), "seed": seed}
        return Reference(model, mode, "paper", "RGB", facts, (RANDOM_NOTICE.format(seed=seed),))
    loaded = load_checkpoint(weights, mode=mode, num_classes=num_classes)
    if loaded.task not in ("classification", "backbone"):
        raise UsageError(f"the weights are for {loaded.task}, which this version does not export")
    facts = {"source": weights, "sha256": loaded.sha256, "layout": loaded.source}
    return Reference(loaded.model, loaded.mode, loaded.variant, "RGB", facts, loaded.notes)


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
        "variant": reference.variant,
        "image_size": list(size),
        "parameters": count_parameters(reference.module),
        "macs": count_macs(reference.module, size),
        "weights": reference.weights,
    }


def run(reference: Reference, pixels: np.ndarray) -> np.ndarray:
    """The reference's outputs, image by image.

    Shapes: uint8 RGB (count, height, width, 3) -> float32 (count, ...).
    """
    images = image_tensors(pixels, reference.color_order)
    with torch.inference_mode():
        return torch.cat([reference.module(image[None]) for image in images]).float().numpy()

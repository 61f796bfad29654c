"""Files made by others: what coremltools writes of networks that are not ours evaluates to what PyTorch gives.

Every package is saved and opened again from disk. Weights are drawn so that a swapped operand, a lost scale or a wrong
axis shows: plain initialisation makes attention nearly uniform and BatchNorm the identity.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import MobileViTConfig, MobileViTForImageClassification, MobileViTForSemanticSegmentation

import exporters.coreml  # noqa: F401  # first: it keeps coremltools from importing TensorFlow
from mvit_deploy.nn.build import QK_GAIN, randomize
from mvit_deploy.parity import measure
from mvit_deploy.runtimes.coreml.evaluator import Evaluator
from mvit_deploy.runtimes.coreml.package import read_specification, weights_folder
from mvit_deploy.runtimes.coreml.program import read_program

import coremltools as ct  # isort: skip

FP32_REL_MAX = 1e-5
FP16_SQNR_DB = 40.0
FP16_SAME_INDEX = 0.9  # the share of chosen indices that rounding may not change
MODE = {"fp32": "fp32", "fp16": "typed"}
FRONT_ENDS = ("trace", "export")
IOS = (15, 16, 17, 18)


class ResNet(nn.Module):
    """A stem with a pool, a plain residual block and one that halves the map, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.plain = self._branch(16, 16, 1)
        self.halving = self._branch(16, 32, 2)
        self.shortcut = nn.Sequential(nn.Conv2d(16, 32, 1, 2, bias=False), nn.BatchNorm2d(32))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))

    @staticmethod
    def _branch(channels: int, wider: int, stride: int) -> nn.Sequential:
        first = (nn.Conv2d(channels, wider, 3, stride, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU())
        return nn.Sequential(*first, nn.Conv2d(wider, wider, 3, 1, 1, bias=False), nn.BatchNorm2d(wider))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        x = F.relu(x + self.plain(x))
        return self.head(F.relu(self.shortcut(x) + self.halving(x)))


class Attention(nn.Module):
    """F.scaled_dot_product_attention: without a mask, with a mask of booleans, with one of floats."""

    def __init__(self, width: int = 32, heads: int = 4, length: int = 12) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.register_buffer("allowed", torch.ones(length, length).tril().bool())
        self.register_buffer("bias", torch.linspace(-2, 2, length * length).reshape(length, length))

    def forward(self, x: Tensor) -> Tensor:
        parts = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        q, k, v = parts  # (B, h, N, c)
        plain = F.scaled_dot_product_attention(q, k, v)
        causal = F.scaled_dot_product_attention(k, q, v, attn_mask=self.allowed)
        biased = F.scaled_dot_product_attention(q, v, k, attn_mask=self.bias)
        return self.out((plain + 2 * causal - biased).transpose(1, 2).flatten(2))


class DensePrediction(nn.Module):
    """Dilated and grouped convolutions beside a pooled branch, resized and joined; a map, boxes, classes, the best."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.branches = nn.ModuleList(
            [
                nn.Conv2d(16, 8, 1),
                nn.Conv2d(16, 8, 3, padding=2, dilation=2),
                nn.Conv2d(16, 8, 3, padding=(2, 4), dilation=(2, 4), groups=4),
                nn.Sequential(nn.Conv2d(16, 16, (3, 5), padding=(1, 2), groups=16), nn.Conv2d(16, 8, 1)),
            ]
        )
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU())
        self.classes = nn.Conv2d(40, 6, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.stem(x)
        side = y.shape[-2:]
        pooled = F.interpolate(self.pooled(y), size=side, mode="bilinear", align_corners=False)
        y = torch.cat([*(F.relu(branch(y)) for branch in self.branches), pooled], dim=1)
        scores = F.interpolate(self.classes(y), scale_factor=2.0, mode="bilinear", align_corners=True)
        centre = scores[:, :2, ::2, 1:-1].sigmoid()
        extent = scores[:, 2:4, ::2, 1:-1].clamp(-2.0, 2.5).exp()
        boxes = torch.cat([centre - extent / 2, centre + extent / 2], dim=1)
        best, where = scores.flatten(1).topk(5, dim=1)
        return scores.softmax(dim=1), boxes, best, scores.argmax(dim=1), where


class Logits(nn.Module):
    """A transformers model without its dataclass of results."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixels, return_dict=True).logits


def encoder_layer(activation: str, *, norm_first: bool) -> nn.Module:
    return nn.TransformerEncoderLayer(
        32, 4, dim_feedforward=48, activation=activation, batch_first=True, norm_first=norm_first
    )


def hf_mobilevit(kind: type[nn.Module], size: int) -> nn.Module:
    config = MobileViTConfig(
        image_size=size,
        hidden_sizes=[32, 40, 48],
        neck_hidden_sizes=[8, 16, 24, 32, 40, 48, 64],
        num_attention_heads=4,
        num_labels=7,
        expand_ratio=2.0,
        aspp_out_channels=24,
        atrous_rates=[2, 4, 6],
    )
    return Logits(kind(config))


@dataclass(frozen=True)
class Case:
    """A network and the shape of its input."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]


CASES = {
    "resnet": Case(ResNet, (1, 3, 48, 64)),
    "encoder relu": Case(lambda: encoder_layer("relu", norm_first=False), (2, 12, 32)),
    "encoder relu norm first": Case(lambda: encoder_layer("relu", norm_first=True), (2, 12, 32)),
    "encoder gelu": Case(lambda: encoder_layer("gelu", norm_first=False), (2, 12, 32)),
    "encoder gelu norm first": Case(lambda: encoder_layer("gelu", norm_first=True), (2, 12, 32)),
    "attention": Case(Attention, (2, 12, 32)),
    "dense prediction": Case(DensePrediction, (1, 3, 32, 48)),
    "transformers classifier": Case(lambda: hf_mobilevit(MobileViTForImageClassification, 64), (1, 3, 64, 64)),
    "transformers segmentation": Case(lambda: hf_mobilevit(MobileViTForSemanticSegmentation, 64), (1, 3, 64, 64)),
}
EVERY = list(product(CASES, FRONT_ENDS, IOS, ("fp32", "fp16")))
# Each network meets both front ends, both precisions and two deployment targets.
THINNED = [
    (name, FRONT_ENDS[(index + turn) % 2], IOS[(index + 3 * turn) % 4], ("fp32", "fp16")[turn % 2])
    for index, name in enumerate(CASES)
    for turn in range(2)
]


@cache
def network(name: str) -> nn.Module:
    """The case's network with sensitive weights. Shared: not to be modified."""
    torch.manual_seed(0)
    module = randomize(CASES[name].build(), seed=1).eval()
    with torch.no_grad():
        for place, weight in module.named_parameters():
            if place.endswith(("query.weight", "key.weight")):
                weight.mul_(QK_GAIN)
            elif place.endswith("in_proj_weight"):  # q, k and v of torch's own attention
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
                weight[: 2 * weight.shape[1]] *= QK_GAIN
    return module


@cache
def given(name: str) -> np.ndarray:
    return np.random.default_rng(2).standard_normal(CASES[name].shape).astype(np.float32)


@cache
def expected(name: str) -> tuple[np.ndarray, ...]:
    """What PyTorch gives, one array for each output."""
    with torch.no_grad():
        found = network(name)(torch.from_numpy(given(name)))
    return tuple(value.numpy() for value in (found if isinstance(found, tuple) else (found,)))


@cache
def captured(name: str, front_end: str) -> object:
    """The network as a front end of coremltools takes it."""
    example = torch.from_numpy(given(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if front_end == "trace":
            return torch.jit.trace(network(name), example, check_trace=False)
        return torch.export.export(network(name), (example,)).run_decompositions({})


def convert(name: str, front_end: str, ios: int, precision: str, path: Path) -> Path:
    """A plain conversion, as anyone would do it, saved as a package."""
    outputs = [ct.TensorType(name=f"out{place}") for place in range(len(expected(name)))]
    model = ct.convert(
        captured(name, front_end),
        inputs=[ct.TensorType(name="given", shape=CASES[name].shape)],
        outputs=outputs,
        minimum_deployment_target=getattr(ct.target, f"iOS{ios}"),
        compute_precision={"fp32": ct.precision.FLOAT32, "fp16": ct.precision.FLOAT16}[precision],
        skip_model_load=True,
    )
    model.save(str(path))
    return path


def evaluate(path: Path, precision: str, inputs: dict[str, np.ndarray]) -> dict[str, object]:
    program = read_program(read_specification(path), weights_folder(path))
    return Evaluator(program, MODE[precision]).run(inputs)


def faults(name: str, precision: str, found: dict[str, object]) -> Iterator[str]:
    """Which outputs are further from PyTorch's than the precision allows."""
    for place, reference in enumerate(expected(name)):
        value = found[f"out{place}"]
        if value.shape != reference.shape:
            yield f"out{place} has shape {value.shape}, PyTorch gives {reference.shape}"
        elif reference.dtype.kind in "iu":
            same = float((value == reference).mean())
            if same < (1.0 if precision == "fp32" else FP16_SAME_INDEX):
                yield f"out{place}: {same:.3f} of the indices agree"
        else:
            errors = measure(reference=reference, candidate=value)
            if precision == "fp32" and not (errors.rel_max is not None and errors.rel_max <= FP32_REL_MAX):
                yield f"out{place}: rel_max {errors.rel_max}"
            if precision == "fp16" and not (errors.sqnr_db is not None and errors.sqnr_db >= FP16_SQNR_DB):
                yield f"out{place}: {errors.sqnr_db} dB"


def check(name: str, front_end: str, ios: int, precision: str, folder: Path) -> None:
    path = convert(name, front_end, ios, precision, folder / "foreign.mlpackage")

    found = evaluate(path, precision, {"given": given(name)})

    assert not list(faults(name, precision, found))


@pytest.mark.parametrize(("name", "front_end", "ios", "precision"), THINNED)
def test_a_conversion_by_coremltools_evaluates_to_what_pytorch_gives(
    name: str, front_end: str, ios: int, precision: str, tmp_path: Path
) -> None:
    check(name, front_end, ios, precision, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "front_end", "ios", "precision"), [case for case in EVERY if case not in THINNED])
def test_every_front_end_deployment_target_and_precision_evaluates_to_what_pytorch_gives(
    name: str, front_end: str, ios: int, precision: str, tmp_path: Path
) -> None:
    check(name, front_end, ios, precision, tmp_path)

"""Networks to count, and the stock tools that quantize their files."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

import exporters.onnx
from mvit_deploy.nn.build import count_macs
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.spec import Contract, Output, Settings
from tests.conftest import SIZE, sensitive

CLASSES = 5
TINY_SIZE = (8, 8)


class Tiny(nn.Module):
    """One operation of each kind, on an image of 8x8, counted by hand below."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.linear = nn.Linear(16, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.depthwise(self.conv(image))  # (B, 4, 4, 4)
        rows = maps.reshape(-1, 4, 16)
        return self.linear((rows @ rows.transpose(1, 2)).reshape(-1, 16))


CONV, DEPTHWISE, PRODUCT, LINEAR = (4 * 4 * 4) * (3 * 3 * 3), (4 * 4 * 4) * (3 * 3), (4 * 4) * 16, CLASSES * 16
TINY_MACS = CONV + DEPTHWISE + PRODUCT + LINEAR
TINY_KERNELS = {"conv": 4 * 3 * 3 * 3, "depthwise": 4 * 3 * 3, "linear": CLASSES * 16}  # elements
TINY_BIASES = 4 + 4 + CLASSES


@cache
def tiny() -> nn.Module:
    return Tiny().eval()


@cache
def xxs() -> nn.Module:
    """The deployment form of a small classifier."""
    return fuse(sensitive("xxs", CLASSES))


@cache
def xxs_macs() -> int:
    """Of the original module, counted by PyTorch, for one image of SIZE."""
    return count_macs(sensitive("xxs", CLASSES), SIZE)


def contract(size: tuple[int, int], **changes: object) -> Contract:
    return replace(Contract("xxs", "classification", "paper", size, (Output("logits", (CLASSES,)),)), **changes)


def photos(shape: tuple[int, ...], count: int = 3) -> Iterator[np.ndarray]:
    for seed in range(count):
        yield np.random.default_rng(seed).random(shape, dtype=np.float32)


def write_onnx(
    module: nn.Module, size: tuple[int, int], path: Path, precision: str = "fp32", **changes: object
) -> Path:
    lowered = exporters.onnx.lower(module, contract(size, **changes), Settings("onnx"))
    exporters.onnx.write(lowered, precision, path)
    return path


class _Reader(CalibrationDataReader):
    def __init__(self, shape: tuple[int, ...]) -> None:
        self._images = photos(shape)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image}


def quantize_onnx(source: Path, path: Path, **options: object) -> Path:
    """By onnxruntime's tool, per channel, all operators unless told otherwise.

    Resize stays in float: onnxruntime 1.23 refuses to open the file otherwise.
    """
    graph = onnx.load(str(source)).graph
    shape = tuple(side.dim_value for side in graph.input[0].type.tensor_type.shape.dim)
    defaults = {
        "quant_format": QuantFormat.QDQ,
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "nodes_to_exclude": [node.name for node in graph.node if node.op_type == "Resize"],
    }
    quantize_static(str(source), str(path), _Reader(shape), per_channel=True, **(defaults | options))
    return path

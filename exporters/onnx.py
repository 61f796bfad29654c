"""ONNX: one self-contained file, opset 17, IR 8, so that the ONNX Runtimes of older apps load it too."""

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from mvit_deploy.errors import ConversionError
from mvit_deploy.spec import METADATA_PREFIX, Contract, Settings

OPSET = 17  # the first with LayerNormalization


@dataclass(frozen=True)
class Lowered:
    """The deployment form, ready to be traced."""

    module: nn.Module
    contract: Contract


class HalfInside(nn.Module):
    """A module that computes in float16 behind float32 inputs and outputs. The given module is converted in place."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner = module.half()

    def forward(self, image: Tensor) -> Tensor:
        return self.inner(image.half()).float()


def lower(module: nn.Module, contract: Contract, settings: Settings) -> Lowered:
    """Nothing to convert yet: PyTorch writes ONNX itself."""
    return Lowered(module, contract)


def write(lowered: Lowered, precision: str, path: Path) -> None:
    """Write an .onnx file and check it.

    Raises: ConversionError when PyTorch or the ONNX checker refuses it; OSError.
    """
    trace(lowered.module, lowered.contract, precision, path)
    model = onnx.load(path)
    model.ir_version = min(model.ir_version, 10)
    entries = lowered.contract.to_metadata() | {METADATA_PREFIX + "opset": f"opset {OPSET}"}
    onnx.helper.set_model_props(model, entries)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"the ONNX checker refuses the file: {error}") from error
    path.write_bytes(model.SerializeToString(deterministic=True))


def trace(module: nn.Module, contract: Contract, precision: str, path: Path) -> None:
    """Write the bare graph with PyTorch's TorchScript exporter.

    The newer exporter replaces the -1 of a free batch by arithmetic on shapes, takes 4 s instead of 0.3 s, and gives
    the same nodes otherwise.
    """
    if precision == "fp16":
        module = HalfInside(copy.deepcopy(module))
    names = (contract.input_name, contract.output_name)
    free = {name: {0: "batch"} for name in names} if contract.dynamic_batch else None
    with warnings.catch_warnings():
        # Tracing reads static sizes as Python ints on purpose; the exporter announces its retirement.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(1, 3, *contract.image_size),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes=free,
        )

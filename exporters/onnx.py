"""ONNX: one self-contained file, opset 18, IR 8, so that the ONNX Runtimes of older apps load it too."""

import copy
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from exporters import _onnx_nms, _onnx_quantized
from mvit_deploy.errors import ConversionError
from mvit_deploy.metadata import PREFIX, entries
from mvit_deploy.nn.quantized import QuantizedForm, check_form
from mvit_deploy.spec import PROBABILITIES, Contract, Settings

OPSET = 18  # LayerNormalization came with 17, a Resize of some axes only with 18
MAX_IR = 10  # the newest that ONNX Runtimes in shipped apps read


@dataclass(frozen=True)
class Lowered:
    """The deployment form, ready to be traced, or a quantized form."""

    module: nn.Module
    contract: Contract


class HalfInside(nn.Module):
    """A module that computes in float16 behind float32 inputs and outputs. The given module is converted in place."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner = module.half()

    def forward(self, image: Tensor) -> Tensor:
        outputs = self.inner(image.half())
        return _float(outputs) if isinstance(outputs, Tensor) else tuple(_float(values) for values in outputs)


def _float(values: Tensor) -> Tensor:
    """Whole numbers, as of classes, stay."""
    return values.float() if values.is_floating_point() else values


def lower(module: nn.Module, contract: Contract, settings: Settings) -> Lowered:
    """Nothing to convert yet: PyTorch writes ONNX itself."""
    return Lowered(module, contract)


def write(lowered: Lowered, precision: str, path: Path) -> None:
    """Write an .onnx file and check it.

    Raises: ConversionError when PyTorch or the ONNX checker refuses it, or a quantized precision lacks its form;
    OSError.
    """
    form = lowered.module
    check_form(form, precision)
    model = trace(form.module if isinstance(form, QuantizedForm) else form, lowered.contract, precision)
    for node in (node for node in model.graph.node if node.op_type == "Resize"):
        _resize_height_and_width(model.graph, node)
    drop_dead_nodes(model.graph)
    if isinstance(form, QuantizedForm):
        _onnx_quantized.quantize(model, form, precision)
    if lowered.contract.suppression is not None:
        _onnx_nms.append(model, lowered.contract.suppression)
    if lowered.contract.probabilities:
        _append_softmax(model.graph)
    opset = f"opset {model.opset_import[0].version}"
    onnx.helper.set_model_props(model, entries(lowered.contract, precision) | {PREFIX + "opset": opset})
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"the ONNX checker refuses the file: {error}") from error
    if isinstance(form, QuantizedForm):
        del model.graph.value_info[:]  # a twentieth of a small file, and every runtime infers it
    path.write_bytes(model.SerializeToString(deterministic=True))


def trace(module: nn.Module, contract: Contract, precision: str, *, opset: int = OPSET) -> onnx.ModelProto:
    """The bare graph, by PyTorch's TorchScript exporter.

    The newer exporter replaces the -1 of a free batch by arithmetic on shapes, takes 4 s instead of 0.3 s, and gives
    the same nodes otherwise.
    """
    if precision == "fp16":
        module = HalfInside(copy.deepcopy(module))
    names = [contract.input_name, *(output.name for output in contract.outputs)]
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Tracing reads static sizes as Python ints on purpose; the exporter announces its retirement.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(1, 3, *contract.image_size),),
            buffer,
            dynamo=False,
            opset_version=opset,
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes={name: {0: "batch"} for name in names} if contract.dynamic_batch else None,
        )
    model = onnx.load_model_from_string(buffer.getvalue())
    model.ir_version = min(model.ir_version, MAX_IR)
    return model


def _append_softmax(graph: onnx.GraphProto) -> None:
    """Let a classifier give probabilities, computed in float32 in every precision."""
    logits = graph.output[0].name
    graph.node.append(onnx.helper.make_node("Softmax", [logits], [PROBABILITIES], f"/{PROBABILITIES}", axis=-1))
    graph.output[0].name = PROBABILITIES


def size_of_resize(graph: onnx.GraphProto, node: onnx.NodeProto) -> np.ndarray | None:
    """The target height and width of a Resize; None where it is given otherwise than PyTorch gives it.

    PyTorch's graph joins the two to a batch and channels that it reads off the input when it runs.
    Raises: ConversionError when height and width are not constant.
    """
    by_output = {output: n for n in graph.node for output in n.output}
    joined = by_output.get(node.input[3]) if len(node.input) == 4 else None
    if joined is None or joined.op_type != "Concat":
        return None
    sides = _constant(graph, by_output, joined.input[-1])
    if sides is None or len(sides) != 2:
        raise ConversionError(f"{node.name}: the size of a resize is not static")
    return sides


def _resize_height_and_width(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Resize two axes to a constant size, so that neither the batch nor any shape is asked for."""
    sides = size_of_resize(graph, node)
    if sides is None:
        return
    give_size(graph, node, sides)
    node.attribute.append(onnx.helper.make_attribute("axes", [2, 3]))


def give_size(graph: onnx.GraphProto, node: onnx.NodeProto, sizes: np.ndarray) -> None:
    """Replace the computed size of a Resize by a constant."""
    name = f"{node.output[0]}_size"
    graph.initializer.append(onnx.numpy_helper.from_array(sizes, name))
    node.input[3] = name


def _constant(graph: onnx.GraphProto, by_output: dict[str, onnx.NodeProto], name: str) -> np.ndarray | None:
    """The value of an initializer or of a Constant node, None for anything computed."""
    for initializer in graph.initializer:
        if initializer.name == name:
            return onnx.numpy_helper.to_array(initializer)
    node = by_output.get(name)
    return onnx.numpy_helper.to_array(node.attribute[0].t) if node and node.op_type == "Constant" else None


def drop_dead_nodes(graph: onnx.GraphProto) -> None:
    """Remove the nodes that nothing reads any more, such as the shape arithmetic in front of a Resize."""
    used = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        if used.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            used.update(node.input)

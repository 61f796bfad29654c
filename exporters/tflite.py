"""TFLite: onnx2tf rebuilds PyTorch's graph channels-last as a Keras model, TensorFlow's converter writes the file.

onnx2tf.convert() would itself save several SavedModels and convert twice, which is most of its time. Here it only
builds the Keras model; one traced function of it, saved once, goes to TensorFlow's converter.
"""

import contextlib
import io
import json
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
from torch import nn

from exporters import _tflite_metadata, _tflite_nms, _tflite_probabilities
from exporters._tflite_io import check_offered
from exporters._tflite_quantized import quantize
from exporters.onnx import drop_dead_nodes, give_size, size_of_resize, trace
from mvit_deploy.errors import ConversionError
from mvit_deploy.metadata import entries
from mvit_deploy.nn.channels_last import channels_last
from mvit_deploy.nn.heads.detection import Encoded
from mvit_deploy.nn.quantized import QuantizedForm, check_form
from mvit_deploy.runtimes.tflite_file import METADATA_NAME, add_metadata, pack, parse
from mvit_deploy.spec import QUANTIZED, Contract, Settings

SIGNATURE = "serving_default"
_OPSET = 17  # in the next one an even split has no form that onnx2tf lowers well
_RECURSION = 100_000  # tf_keras walks a model by recursion, some frames an operator
_CONVERSION_METADATA = b"CONVERSION_METADATA"  # holds a random hash


@contextlib.contextmanager
def _process_state() -> Iterator[None]:
    """Raise the recursion limit for a while, and put back what onnx2tf changes for the whole process: environment,
    warnings, recursion limit, seeds."""
    environment, limit = dict(os.environ), sys.getrecursionlimit()
    python_state, numpy_state = random.getstate(), np.random.get_state()
    sys.setrecursionlimit(max(_RECURSION, limit))
    with warnings.catch_warnings():
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(environment)
            sys.setrecursionlimit(limit)
            random.setstate(python_state)
            np.random.set_state(numpy_state)


with _process_state():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read once, when TensorFlow's library is loaded
    import tensorflow as tf
    import tf_keras
    from onnx2tf import onnx2tf  # the module, for the patches below: the package has only convert and main
    from onnx2tf.ops import Reshape, Transpose


@dataclass(frozen=True)
class Lowered:
    """A Keras model, NHWC, and the contract. form: how the network is quantized, None for float ones."""

    model: tf_keras.Model
    contract: Contract
    form: QuantizedForm | None = None


def lower(module: nn.Module, contract: Contract, settings: Settings) -> Lowered:
    """PyTorch to ONNX to Keras. A QuantizedForm goes the float way; its integers are put into the finished file.

    Raises: ConversionError when onnx2tf gives up.
    """
    form = module if isinstance(module, QuantizedForm) else None
    network = form.module if form else module
    if contract.suppression is not None:
        network = Encoded(network)
    graph = _prepare(trace(channels_last(network), contract, "fp32", opset=_OPSET))
    with tempfile.TemporaryDirectory() as folder, _process_state():
        return Lowered(_keras_model(graph, folder), contract, form)


def write(lowered: Lowered, precision: str, path: Path) -> None:
    """Write a .tflite file, the same bytes each time. fp16 stores weights in half precision and computes in float32;
    w8, w8a8 and w8a16 need what lower() made of a QuantizedForm; only w8a8 takes and gives integers (contract.io).

    Raises: ConversionError; OSError.
    """
    contract = lowered.contract
    check_form(lowered.form, precision)
    check_offered(contract, precision)
    with tempfile.TemporaryDirectory() as folder, _process_state():
        content = _convert(_saved_model(lowered, Path(folder)), precision)
    if precision in QUANTIZED:
        content = quantize(content, lowered.form, precision, contract)
    if contract.suppression is not None:
        content = _tflite_nms.append(content, contract)
    if contract.probabilities:
        content = _tflite_probabilities.append(content)
    said = json.dumps(entries(contract, precision), sort_keys=True, ensure_ascii=False).encode()
    content = add_metadata(_tidy(content), METADATA_NAME, said)
    path.write_bytes(_tflite_metadata.add(content, contract, precision))


# The ONNX graph


def _prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the static shapes and the attributes that onnx2tf needs, made here instead of by onnxsim."""
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = _static_shapes(model)
    for node in model.graph.node:
        if node.op_type == "Split":
            _split_evenly(node, shapes)
        elif node.op_type == "Resize":
            _resize_to_constant(model.graph, node, shapes)
    drop_dead_nodes(model.graph)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    _flatten_channel_factors(model.graph)
    return model


def _static_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    shapes = {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in values}
    return {name: shape for name, shape in shapes.items() if all(shape)}


def _split_evenly(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> None:
    """Leave out the sizes of an even split: onnx2tf makes SPLIT_V of 64-bit sizes, which TFLite does not take."""
    if len({shapes.get(name) for name in node.output}) == 1:
        del node.input[1:]


def _resize_to_constant(graph: onnx.GraphProto, node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> None:
    """Give all four target sizes as a constant; onnx2tf knows no resize of some axes."""
    sides = size_of_resize(graph, node)
    if sides is None or node.input[0] not in shapes:
        return
    give_size(graph, node, np.array([*shapes[node.input[0]][:2], *sides], np.int64))


def _flatten_channel_factors(graph: onnx.GraphProto) -> None:
    """Give factors of channels (1, C, 1, 1) as C numbers: onnx2tf puts those last, where channels are, and takes the
    others for factors of columns where a map has as many columns as channels. Not for ONNX any more: columns are last
    there."""
    for tensor in graph.initializer:
        readers = {node.op_type for node in graph.node if tensor.name in node.input}
        if readers == {"Mul"} and _is_of_channels(list(tensor.dims)):
            tensor.dims[:] = [tensor.dims[1]]


def _is_of_channels(shape: list[int]) -> bool:
    return len(shape) == 4 and shape[1] > 1 and shape == [1, shape[1], 1, 1]


# onnx2tf


def _keras_model(graph: onnx.ModelProto, folder: str) -> tf_keras.Model:
    """The Keras model that onnx2tf builds, without its simplifier, checks and files.

    Given a graph and not a path, onnx2tf has no file to rewrite, so nothing happens outside folder.
    """
    tf_keras.backend.clear_session()  # restarts the numbers in layer names: a second call gives the same file
    options: dict[str, object] = {
        "not_use_onnxsim": True,
        "not_use_opname_auto_generate": True,
        "disable_strict_mode": True,
        "disable_model_save": True,
    }
    if not hasattr(onnx2tf, _DOWNLOAD):
        options["tflite_backend"] = "tf_converter"  # 2.x writes TFLite itself unless told otherwise; 1.x never does
    with (
        _patched(onnx2tf, "dummy_onnx_inference", _no_inference),
        _patched(onnx2tf, _DOWNLOAD, _no_download, optional=True),
        _patched(Reshape, "make_node", _told_apart(Reshape.make_node)),
        _patched(Transpose, "make_node", _told_apart(Transpose.make_node)),
    ):
        return _quietly(onnx2tf.convert, onnx_graph=graph, output_folder_path=folder, verbosity="error", **options)


def _told_apart(make_node: Callable[..., object]) -> Callable[..., object]:
    """onnx2tf's Transpose or Reshape, corrected for maps with as many channels as rows and columns.

    It takes every tensor whose axes are alike for channels-last; what Transpose gives, and Reshape of what was not
    channels-last, is as ONNX has it. Seen at 512x512, where xxs has 64 channels of 64x64.
    """

    def made(*, graph_node: object, tf_layers_dict: dict, **options: object) -> object:
        result = make_node(graph_node=graph_node, tf_layers_dict=tf_layers_dict, **options)
        given, output = tf_layers_dict.get(graph_node.inputs[0].name, {}), graph_node.outputs[0]
        layer, shape = tf_layers_dict[output.name], list(output.shape)
        is_ambiguous = len(shape) == 4 and shape[1] == shape[2] == shape[3]
        if is_ambiguous and (graph_node.op == "Transpose" or given.get(_CHANNELS_LAST) is False):
            is_for_conv = any(reader.op == "Conv" for reader in output.outputs)  # which takes such a map as it is
            if is_for_conv:
                layer["tf_node"] = tf.transpose(layer["tf_node"], [0, 2, 3, 1])
            layer[_CHANNELS_LAST] = is_for_conv
        return result

    return made


_CHANNELS_LAST = "before_op_output_shape_trans"  # onnx2tf's mark of a tensor that lies so in TensorFlow
_DOWNLOAD = "download_test_image_data"  # of 1.x only


def _no_inference(**_: object) -> None:
    """Stands for the run of the ONNX model with whose results onnx2tf compares each MatMul.

    It takes three quarters of the time and tries other orders of axes where a result differs. With static shapes there
    is nothing to try, and the finished file is judged afterwards. onnx2tf goes on without when this raises.
    """
    raise ConversionError("left out: the finished file is judged instead")


def _no_download() -> np.ndarray:
    """Stands for the photos that onnx2tf 1.x downloads for that run."""
    return np.zeros((1, 1, 1, 3), np.float32)


@contextlib.contextmanager
def _patched(
    module: ModuleType, name: str, substitute: Callable[..., object], *, optional: bool = False
) -> Iterator[None]:
    """Replace a function of one of onnx2tf's modules for a while.

    Raises: ConversionError when this onnx2tf has no such function and it is not optional.
    """
    original = getattr(module, name, None)
    if original is None and not optional:
        raise ConversionError(f"this onnx2tf ({onnx2tf.__version__}) has no function {name}; 1.29 and 2.6 have")
    if original is not None:
        setattr(module, name, substitute)
    try:
        yield
    finally:
        if original is not None:
            setattr(module, name, original)


def _quietly(function: Callable[..., object], **arguments: object) -> tf_keras.Model:
    """Call a function that prints its errors and exits the process; raise them instead."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            return function(**arguments)
    except SystemExit as stop:
        raise ConversionError(printed.getvalue().strip() or f"onnx2tf stopped with status {stop.code}") from stop


# TensorFlow


def _saved_model(lowered: Lowered, folder: Path) -> Path:
    """Save the model's one function. A plain tf.Module takes 1 s where Keras's own format takes 24 s."""
    model, contract = lowered.model, lowered.contract
    module = tf.Module()
    module.variables_ = model.variables
    image = tf.TensorSpec(model.inputs[0].shape, tf.float32, name=contract.input_name)
    names = [output.name for output in contract.outputs]

    def outputs(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(names, tf.nest.flatten(model(x, training=False)), strict=True))

    module.function = tf.function(outputs, input_signature=[image])
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: module.function})
    return folder


def _convert(saved: Path, precision: str) -> bytes:
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=[SIGNATURE])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # no Flex: apps would need its library
    if precision == "fp16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def _tidy(content: bytes) -> bytes:
    """Name the input and output tensors, and drop what differs from run to run."""
    model = parse(content)
    model.metadata = [entry for entry in model.metadata if entry.name != _CONVERSION_METADATA]
    signature = model.signatureDefs[0]
    for entry in (*signature.inputs, *signature.outputs):
        model.subgraphs[0].tensors[entry.tensorIndex].name = entry.name
    return pack(model)

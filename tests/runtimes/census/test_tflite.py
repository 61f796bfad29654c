"""What of a TFLite file is int8: by the types of each operator's tensors."""

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import exporters.tflite as exporter
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import CannotRunHere
from mvit_deploy.runtimes.census import Census, census
from mvit_deploy.runtimes.tflite_file import pack, parse
from mvit_deploy.spec import Settings
from tests.conftest import SIZE
from tests.runtimes.census import networks
from tests.runtimes.census.networks import CONV, DEPTHWISE, LINEAR, PRODUCT, TINY_SIZE

tf = exporter.tf
KINDS = ("fp32", "fp16", "dynamic", "int8", "int16")
OPERATORS = {
    "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
    "int16": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
}


def save(model: Callable, shape: tuple[int, ...], folder: Path) -> Path:
    module = tf.Module()
    module.variables_ = getattr(model, "variables", ())
    module.function = tf.function(model, input_signature=[tf.TensorSpec(shape, tf.float32)])
    tf.saved_model.save(module, str(folder), signatures=module.function)
    return folder


def convert(saved: Path, shape: tuple[int, ...], kind: str) -> bytes:
    """By TensorFlow's own converter."""
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
    if kind != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if kind in OPERATORS:
        converter.target_spec.supported_ops = [OPERATORS[kind]]
        converter.representative_dataset = lambda: ([image] for image in networks.photos(shape))
    return converter.convert()


def files_of(module: object, size: tuple[int, int], folder: Path) -> dict[str, Path]:
    shape = (1, *size, 3)
    model = exporter.lower(module, networks.contract(size), Settings("tflite")).model
    saved = save(model, shape, folder / "saved")
    for kind in KINDS:
        (folder / f"{kind}.tflite").write_bytes(convert(saved, shape, kind))
    return {kind: folder / f"{kind}.tflite" for kind in KINDS}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return files_of(networks.tiny(), TINY_SIZE, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Census]:
    files = files_of(networks.xxs(), SIZE, tmp_path_factory.mktemp("xxs"))
    return {kind: census(path) for kind, path in files.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_macs_are_those_of_the_network_however_it_is_quantized(counted: dict[str, Census], kind: str) -> None:
    assert counted[kind].macs == networks.xxs_macs()


@pytest.mark.parametrize("kind", KINDS)
def test_macs_counted_by_hand(small: dict[str, Path], kind: str) -> None:
    found = census(small[kind])

    assert [operation.macs for operation in found.operations] == [CONV, DEPTHWISE, PRODUCT, LINEAR]
    assert {"CONV_2D", "DEPTHWISE_CONV_2D"} <= {operation.type for operation in found.operations}


def test_a_float_file_has_no_integers(counted: dict[str, Census]) -> None:
    """fp16 stores weights behind DEQUANTIZE, which is done once, when the file is opened."""
    for kind, bits in (("fp32", 32), ("fp16", 16)):
        found = counted[kind]
        assert {operation.kind for operation in found.operations} == {"float"}
        assert {operation.weight_bits for operation in found.operations} == {bits, 0}
        assert (found.int8_macs, found.weight_fraction, found.conversions) == (0, 0.0, 0)
        assert not found.int8_operators


@pytest.mark.parametrize("kind", ["int8", "int16"])
def test_a_fully_quantized_file_is_integer_throughout(counted: dict[str, Census], kind: str) -> None:
    found = counted[kind]

    assert {o.kind for o in found.operations} == {kind}
    assert {o.weight_bits for o in found.operations} == {8, 0}
    assert found.macs_of(kind) == found.macs
    assert not found.kept_float
    assert found.weight_fraction > 0.99
    assert not found.float_operators


def test_only_8_bit_activations_make_the_headline(counted: dict[str, Census]) -> None:
    assert counted["int8"].int8_macs_fraction == 1.0
    assert counted["int8"].conversions == 2  # image and logits are float
    assert counted["int16"].int8_macs_fraction == 0.0
    assert counted["int16"].int16_operators["LOGISTIC"] == counted["int8"].int8_operators["LOGISTIC"] == 34


def test_dynamic_range_is_integer_but_not_int8(counted: dict[str, Census]) -> None:
    """The converter leaves weights of fewer than 1024 elements in float."""
    found = counted["dynamic"]

    for operation in found.operations:
        elements = 8 * operation.weight_bytes // (operation.weight_bits or 1)
        assert operation.kind == ("dynamic" if elements >= 1024 else "float")
    assert Counter(o.kind for o in found.operations)["dynamic"] == 61
    assert found.int8_macs == 0
    assert found.macs_of("dynamic") + sum(o.macs for o in found.kept_float) == found.macs


def test_the_number_of_weights_does_not_depend_on_the_precision(counted: dict[str, Census]) -> None:
    assert len({sum(weight.elements for weight in found.weights) for found in counted.values()}) == 1


def test_fractions_counted_by_hand(small: dict[str, Path]) -> None:
    found = census(small["int8"])

    kernels = sum(networks.TINY_KERNELS.values())
    assert found.int8_weight_bytes == kernels
    assert found.weight_bytes == kernels + 4 * networks.TINY_BIASES  # biases are 32-bit integers
    assert found.weight_fraction == kernels / (kernels + networks.TINY_BIASES)


# One operator each


def single(function: Callable, shape: tuple[int, ...], folder: Path, kind: str = "dynamic") -> Path:
    path = folder / "single.tflite"
    path.write_bytes(convert(save(function, shape, folder / "saved"), shape, kind))
    return path


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return single(lambda x: tf.matmul(x, draw(64, 64)), (4, 64), tmp_path_factory.mktemp("hybrid"))


def test_a_hybrid_operator_really_quantizes_its_activations(hybrid: Path) -> None:
    """Float arithmetic on the same weights would differ by rounding alone."""
    interpreter = Interpreter(model_path=str(hybrid))
    interpreter.allocate_tensors()
    x = draw(4, 64)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    (stored,) = [d for d in interpreter.get_tensor_details() if d["dtype"] == np.int8]
    scales = stored["quantization_parameters"]["scales"]

    weight = interpreter.get_tensor(stored["index"]) * scales.reshape(-1, 1)
    error = np.abs(y - x @ weight.T).max() / np.abs(y).max()
    assert [operation.kind for operation in census(hybrid).operations] == ["dynamic"]
    assert 1e-4 < error < 2e-2


def test_integers_behind_dequantize_are_stored_so_only(hybrid: Path, tmp_path: Path) -> None:
    """And the DEQUANTIZE of a constant is no conversion: LiteRT keeps its result."""
    model = parse(hybrid.read_bytes())
    graph = model.subgraphs[0]
    (product,) = graph.operators
    weight = copy.copy(graph.tensors[product.inputs[1]])
    weight.type, weight.buffer, weight.quantization = schema.TensorType.FLOAT32, 0, None
    code, dequantize = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    dequantize.opcodeIndex = len(model.operatorCodes)
    dequantize.inputs, dequantize.outputs = [product.inputs[1]], [len(graph.tensors)]
    product.inputs = [product.inputs[0], len(graph.tensors), *product.inputs[2:]]
    model.operatorCodes.append(code)
    graph.tensors.append(weight)
    graph.operators.insert(0, dequantize)
    path = tmp_path / "weights.tflite"
    path.write_bytes(pack(model))
    Interpreter(model_path=str(path)).allocate_tensors()

    found = census(path)

    assert [(o.kind, o.weight_bits, o.weight_bytes) for o in found.operations] == [("weight-only", 8, 64 * 64)]
    assert (found.macs, found.weight_fraction, found.conversions) == (4 * 64 * 64, 1.0, 0)


def test_a_transposed_convolution(tmp_path: Path) -> None:
    """Every weight of an output channel's kernel meets every sample of the input."""
    weight = draw(3, 3, 16, 8)
    path = single(lambda x: tf.nn.conv2d_transpose(x, weight, (1, 8, 8, 16), 2), (1, 4, 4, 8), tmp_path)

    (operation,) = census(path).operations

    assert (operation.type, operation.macs) == ("TRANSPOSE_CONV", (4 * 4 * 8) * (3 * 3 * 16))


@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_computed_matrices(tmp_path: Path, transposed: bool) -> None:
    shape = (2, 7, 3) if transposed else (2, 3, 7)
    path = single(lambda x: tf.linalg.matmul(x, x, transposed, not transposed), shape, tmp_path, "fp32")

    (operation,) = census(path).operations

    assert (operation.type, operation.macs, operation.weight_bytes) == ("BATCH_MATMUL", 2 * (3 * 3) * 7, 0)


def test_operators_that_hold_products_of_their_own_are_not_counted_as_none(hybrid: Path, tmp_path: Path) -> None:
    model = parse(hybrid.read_bytes())
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.SVDF
    path = tmp_path / "svdf.tflite"
    path.write_bytes(pack(model))

    with pytest.raises(CannotRunHere, match="SVDF"):
        census(path)


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(64)])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.tflite"
    path.write_bytes(content)

    with pytest.raises(DamagedFileError):
        census(path)

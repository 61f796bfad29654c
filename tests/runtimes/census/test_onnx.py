"""What of an ONNX file is int8 in ONNX Runtime."""

import platform
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import CannotRunHere
from mvit_deploy.runtimes.census import Census, census
from tests.conftest import SIZE
from tests.runtimes.census import networks
from tests.runtimes.census.networks import CONV, DEPTHWISE, LINEAR, PRODUCT, TINY_MACS, TINY_SIZE

FLOAT_OUTPUTS = {"OpTypesToExcludeOutputQuantization": ["Conv", "MatMul", "Gemm"]}
WAYS = {  # arguments of quantize_static
    "all": {},
    "all, operators instead of QDQ": {"quant_format": QuantFormat.QOperator},
    "conv": {"op_types_to_quantize": ["Conv"]},
    "conv, outputs float": {"op_types_to_quantize": ["Conv"], "extra_options": FLOAT_OUTPUTS},
    "conv and products, outputs float": {
        "op_types_to_quantize": ["Conv", "MatMul", "Gemm"],
        "extra_options": FLOAT_OUTPUTS,
    },
    "16-bit activations": {"activation_type": QuantType.QUInt16, "extra_options": {"UseQDQContribOps": True}},
}
FILES = ["fp32", "fp16", "dynamic", *WAYS]


def files_of(module: object, size: tuple[int, int], folder: Path) -> dict[str, Path]:
    found = {p: networks.write_onnx(module, size, folder / f"{p}.onnx", p) for p in ("fp32", "fp16")}
    for number, (name, options) in enumerate(WAYS.items()):
        found[name] = networks.quantize_onnx(found["fp32"], folder / f"{number}.onnx", **options)
    found["dynamic"] = folder / "dynamic.onnx"  # its ConvInteger takes unsigned weights only
    quantize_dynamic(str(found["fp32"]), str(found["dynamic"]), weight_type=QuantType.QUInt8)
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return files_of(networks.tiny(), TINY_SIZE, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def xxs_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return files_of(networks.xxs(), SIZE, tmp_path_factory.mktemp("xxs"))


@pytest.fixture(scope="module")
def counted(xxs_files: dict[str, Path]) -> dict[str, Census]:
    return {name: census(path) for name, path in xxs_files.items()}


@pytest.mark.parametrize("name", FILES)
def test_macs_are_those_of_the_network_however_it_is_quantized(counted: dict[str, Census], name: str) -> None:
    assert counted[name].macs == networks.xxs_macs()


@pytest.mark.parametrize("name", FILES)
def test_macs_counted_by_hand(small: dict[str, Path], name: str) -> None:
    found = census(small[name])

    assert [operation.macs for operation in found.operations] == [CONV, DEPTHWISE, PRODUCT, LINEAR]


def test_layers_have_the_names_of_the_float_file_in_every_other_file(counted: dict[str, Census]) -> None:
    """A plan of what to keep in float is made of the float file's names."""
    names = [operation.name for operation in counted["fp32"].operations]

    assert len(set(names)) == 90
    for name in set(FILES) - {"fp16"}:  # whose module is wrapped
        assert [operation.name for operation in counted[name].operations] == names, name


def test_a_float_file_has_no_integers(counted: dict[str, Census]) -> None:
    for precision, bits in (("fp32", 32), ("fp16", 16)):
        found = counted[precision]
        assert {operation.kind for operation in found.operations} == {"float"}
        assert {operation.weight_bits for operation in found.operations} == {bits, 0}
        assert (found.int8_macs, found.weight_fraction, found.conversions) == (0, 0.0, 0)
        assert not found.int8_operators


@pytest.mark.parametrize("name", ["all", "all, operators instead of QDQ"])
def test_a_fully_quantized_file_is_int8_throughout(counted: dict[str, Census], name: str) -> None:
    found = counted[name]

    assert {o.type for o in found.operations} == {"QLinearConv", "QLinearMatMul", "QGemm"}
    assert {o.kind for o in found.operations} == {"int8"}
    assert found.int8_macs_fraction == 1.0
    assert not found.kept_float
    assert found.int8_operators["QLinearSigmoid"] == 34


def test_decoration_does_not_count(counted: dict[str, Census], xxs_files: dict[str, Path]) -> None:
    """Every Conv stands behind DequantizeLinear, but only those are int8 that lead straight into the next one's
    QuantizeLinear. The weights are int8 all the same."""
    found = counted["conv, outputs float"]
    nodes = onnx.load(str(xxs_files["conv, outputs float"])).graph.node
    readers = {name: {n.op_type for n in nodes if name in n.input} for node in nodes for name in node.output}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    enclosed = {node.name for node in convolutions if readers[node.output[0]] == {"QuantizeLinear"}}

    assert len(convolutions) == 35
    assert {o.name for o in found.operations if o.integer} == enclosed
    assert len(enclosed) == 4
    assert Counter(o.kind for o in found.kept_float) == {"weight-only": 31, "float": 55}
    assert found.int8_macs_fraction < 0.03
    assert 0.4 < found.weight_fraction < 0.5


def test_weights_are_dequantized_anew_in_every_run(counted: dict[str, Census]) -> None:
    """onnxruntime does not fold DequantizeLinear of a constant when it opens a file."""
    found = counted["conv, outputs float"]

    assert found.conversions > 35 * 3  # a QuantizeLinear of the input, DequantizeLinear of input, weights and bias


def test_linear_layers_with_a_float_bias_run_in_float_unless_their_output_is_quantized(
    counted: dict[str, Census],
) -> None:
    """MatMul and Add become a Gemm before quantized patterns are looked for; only products of two computed
    matrices are left to be integer products with a float result."""
    found = counted["conv and products, outputs float"]

    types = Counter((o.type, o.kind) for o in found.operations)
    assert types["Gemm", "weight-only"] == 36
    assert types["MatMulIntegerToFloat", "int8"] + types["QLinearMatMul", "int8"] == 18
    assert found.int8_macs_fraction < 0.05


def test_16_bit_activations_run_in_float(counted: dict[str, Census]) -> None:
    """They are for NPUs; onnxruntime's CPU has no kernels for them."""
    found = counted["16-bit activations"]

    assert {o.kind for o in found.operations} == {"weight-only", "float"}
    assert {o.weight_bits for o in found.operations if o.kind == "float"} == {0}
    assert found.weight_fraction > 0.98


def test_dynamically_quantized_layers_are_integer_but_not_int8(counted: dict[str, Census]) -> None:
    found = counted["dynamic"]

    assert {o.type: o.kind for o in found.operations if o.kind != "float"} == {
        "ConvInteger": "dynamic",
        "DynamicQuantizeMatMul": "dynamic",
    }
    assert found.int8_macs == 0
    products = sum(o.macs for o in found.operations if o.weight_bits == 0)
    assert found.macs_of("dynamic") == found.macs - products


def test_the_number_of_weights_does_not_depend_on_the_precision(counted: dict[str, Census]) -> None:
    """Scales, zero points, shapes and sizes are no weights."""
    assert len({sum(weight.elements for weight in found.weights) for found in counted.values()}) == 1


def test_fractions_counted_by_hand(small: dict[str, Path]) -> None:
    """The product is int8 although nobody asked: its factors are the quantized output of the depthwise convolution."""
    found = census(small["conv"])

    kernels = networks.TINY_KERNELS
    elements = sum(kernels.values()) + networks.TINY_BIASES
    assert found.int8_macs_fraction == (CONV + DEPTHWISE + PRODUCT) / TINY_MACS
    assert found.int8_weight_bytes == kernels["conv"] + kernels["depthwise"]
    assert found.weight_fraction == (kernels["conv"] + kernels["depthwise"]) / elements
    assert found.weight_bytes == found.int8_weight_bytes + 4 * (kernels["linear"] + networks.TINY_BIASES)
    assert [o.macs for o in found.kept_float] == [LINEAR]


def test_the_blocked_layout_that_is_left_out_changes_no_integer_operator(
    xxs_files: dict[str, Path], tmp_path: Path
) -> None:
    for name, path in xxs_files.items():
        as_apps_run_it = Counter(
            node.op_type for node in optimized(path, tmp_path / "o.onnx").node if is_integer(node.op_type)
        )
        found = census(path)
        operators = Counter(o.type for o in found.operations) + Counter(found.int8_operators)

        assert as_apps_run_it == Counter({t: n for t, n in operators.items() if is_integer(t)}), name


def optimized(path: Path, where: Path) -> onnx.GraphProto:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(where)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx.load(str(where)).graph


def is_integer(type_: str) -> bool:
    return type_.startswith(("QLinear", "QGemm", "DynamicQuantizeMatMul")) or "Integer" in type_


def test_macs_are_for_one_image_whatever_the_batch(tmp_path: Path) -> None:
    free = networks.write_onnx(networks.tiny(), TINY_SIZE, tmp_path / "free.onnx", dynamic_batch=True)
    model = onnx.load(str(free))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "three.onnx")

    assert census(free).macs == census(tmp_path / "three.onnx").macs == TINY_MACS


def test_nothing_is_printed(small: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    """onnxruntime warns that an optimized graph fits this processor only."""
    census(small["all"])

    assert capfd.readouterr() == ("", "")


# Files made by hand


def made(tmp_path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], *shape: int) -> Path:
    """A graph from x to y."""
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "made.onnx")
    return tmp_path / "made.onnx"


def test_grouped_and_transposed_convolutions(tmp_path: Path) -> None:
    """Of nodes without names: they take that of their output."""
    nodes = [
        helper.make_node("Conv", ["x", "grouped"], ["a"], group=2, pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["a", "transposed"], ["y"], strides=[2, 2]),
    ]
    weights = {"grouped": np.ones((6, 2, 3, 3), np.float32), "transposed": np.ones((6, 5, 2, 2), np.float32)}

    found = census(made(tmp_path, nodes, weights, 1, 4, 8, 8))

    assert [o.macs for o in found.operations] == [(6 * 64) * (2 * 9), (6 * 64) * (5 * 4)]
    assert [o.name.partition("#")[0] for o in found.operations] == ["a", "y"]


@pytest.mark.parametrize(("transposed", "shape"), [(0, (7, 3)), (1, (3, 7))])
def test_a_transposed_first_factor(tmp_path: Path, transposed: int, shape: tuple[int, int]) -> None:
    nodes = [helper.make_node("Gemm", ["x", "b"], ["y"], transA=transposed)]

    found = census(made(tmp_path, nodes, {"b": np.ones((3, 5), np.float32)}, *shape))

    assert found.macs == 7 * 3 * 5


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="ARM has kernels for signed activations")
@pytest.mark.parametrize(("signed", "kind"), [(False, "int8"), (True, "weight-only")])
def test_on_x86_signed_activations_that_are_read_twice_keep_a_convolution_in_float(
    tmp_path: Path, signed: bool, kind: str
) -> None:
    """onnxruntime turns a signed activation into an unsigned one only where it has a single reader; SiLU has two."""
    zero = np.int8(0) if signed else np.uint8(128)
    constants = {"s": np.float32(0.02), "z": np.array(zero), "t": np.float32(0.01), "w": np.ones((4, 4, 1, 1), np.int8)}
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        make("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        make("DequantizeLinear", ["w", "t"], ["wd"]),
        make("Conv", ["xd", "wd"], ["c"], name="conv"),
        make("QuantizeLinear", ["c", "s", "z"], ["cq"]),
        make("DequantizeLinear", ["cq", "s", "z"], ["cd"]),
        make("Sigmoid", ["cd"], ["g"]),
        make("Mul", ["cd", "g"], ["y"]),
    ]

    (found,) = census(made(tmp_path, nodes, constants, 1, 4, 8, 8)).operations

    assert (found.name, found.kind) == ("conv", kind)


def test_operators_that_hold_products_of_their_own_are_not_counted_as_none(tmp_path: Path) -> None:
    nodes = [helper.make_node("Einsum", ["x", "b"], ["y"], equation="ij,jk->ik")]

    with pytest.raises(CannotRunHere, match="Einsum"):
        census(made(tmp_path, nodes, {"b": np.ones((3, 5), np.float32)}, 7, 3))


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08"])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)

    with pytest.raises(DamagedFileError):
        census(path)

"""What of a Core ML file is int8: weights by how they are stored, arithmetic by the pattern that Core ML documents."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exporters import coreml as exporter  # before coremltools: it keeps TensorFlow out of that import
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.census import Census, census
from mvit_deploy.spec import Settings
from tests.conftest import SIZE
from tests.runtimes.census import networks
from tests.runtimes.census.networks import CONV, DEPTHWISE, LINEAR, PRODUCT, TINY_SIZE

import coremltools.optimize as cto  # isort: skip
from coremltools.converters.mil import Builder as mb  # isort: skip
from coremltools.models.neural_network import quantization_utils  # isort: skip

ct = exporter.ct
FILES = ("fp32", "fp16", "w8 iOS 18", "palette iOS 18", "network fp32", "network w8")
OLDER = ("w8 iOS 16", "palette iOS 16")  # stored by other operations
WEIGHT_BITS = {"fp32": 32, "fp16": 16, "w8": 8, "palette": 4}


def write(lowered: exporter.Lowered, precision: str, path: Path) -> Path:
    exporter.write(lowered, precision, path)
    return path


def compress(source: Path, path: Path, function: Callable, config: object) -> Path:
    """By coremltools, however small a weight is."""
    model = ct.models.MLModel(str(source), skip_model_load=True)
    function(model, cto.coreml.OptimizationConfig(global_config=config)).save(str(path))
    return path


def files_of(module: object, size: tuple[int, int], folder: Path, *, versions: tuple[int, ...]) -> dict[str, Path]:
    found = {}
    for ios in versions:
        lowered = exporter.lower(module, networks.contract(size), Settings("mlpackage", ios))
        plain = found["fp32"] = write(lowered, "fp32", folder / f"fp32_{ios}.mlpackage")
        for name, function, config in (
            ("w8", cto.coreml.linear_quantize_weights, cto.coreml.OpLinearQuantizerConfig(weight_threshold=0)),
            (
                "palette",
                cto.coreml.palettize_weights,
                cto.coreml.OpPalettizerConfig(nbits=4, mode="uniform", weight_threshold=0),
            ),
        ):
            found[f"{name} iOS {ios}"] = compress(plain, folder / f"{name}_{ios}.mlpackage", function, config)
    found["fp16"] = write(lowered, "fp16", folder / "fp16.mlpackage")
    lowered = exporter.lower(module, networks.contract(size), Settings("mlmodel"))
    found["network fp32"] = write(lowered, "fp32", folder / "fp32.mlmodel")
    plain = ct.models.MLModel(str(found["network fp32"]), skip_model_load=True)
    smaller = quantization_utils.quantize_weights(plain, nbits=8)  # a specification, on a Mac a model
    found["network w8"] = folder / "w8.mlmodel"
    found["network w8"].write_bytes(getattr(smaller, "get_spec", lambda: smaller)().SerializeToString())
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return files_of(networks.tiny(), TINY_SIZE, tmp_path_factory.mktemp("tiny"), versions=(16, 18))


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Census]:
    files = files_of(networks.xxs(), SIZE, tmp_path_factory.mktemp("xxs"), versions=(18,))
    return {name: census(path) for name, path in files.items()}


@pytest.mark.parametrize("name", FILES)
def test_macs_are_those_of_the_network_however_it_is_stored(counted: dict[str, Census], name: str) -> None:
    assert counted[name].macs == networks.xxs_macs()


@pytest.mark.parametrize("name", FILES + OLDER)
def test_macs_counted_by_hand(small: dict[str, Path], name: str) -> None:
    found = census(small[name])

    assert [operation.macs for operation in found.operations] == [CONV, DEPTHWISE, PRODUCT, LINEAR]


@pytest.mark.parametrize("name", FILES + OLDER)
def test_compressed_weights_leave_the_arithmetic_in_float(small: dict[str, Path], name: str) -> None:
    found = census(small[name])

    bits = WEIGHT_BITS[name.removeprefix("network ").split()[0]]
    kind = "weight-only" if bits <= 8 else "float"
    kernels = networks.TINY_KERNELS
    assert [(o.kind, o.weight_bits) for o in found.operations] == [
        (kind, bits),
        (kind, bits),
        ("float", 0),
        (kind, bits),
    ]
    sizes = [kernels["conv"], kernels["depthwise"], 0, kernels["linear"]]
    assert [o.weight_bytes for o in found.operations] == [size * bits // 8 for size in sizes]
    assert (found.int8_macs, len(found.kept_float), found.conversions) == (0, 4, 0)


@pytest.mark.parametrize("name", FILES)
def test_int8_weights_are_those_with_a_scale(counted: dict[str, Census], name: str) -> None:
    """The indices of a palette are no 8-bit integers, whatever they are stored in."""
    found = counted[name]

    assert found.weight_fraction > 0.99 if "w8" in name else found.weight_fraction == 0


def test_weights_are_as_many_in_every_precision(counted: dict[str, Census]) -> None:
    elements = {name: sum(weight.elements for weight in found.weights) for name, found in counted.items()}

    assert len({count for name, count in elements.items() if "network" not in name}) == 1
    assert elements["network fp32"] == elements["network w8"]


def test_fractions_counted_by_hand(small: dict[str, Path]) -> None:
    """A program's biases stay float; the classic format stores those in 8 bits too."""
    kernels = sum(networks.TINY_KERNELS.values())
    for name in ("w8 iOS 16", "w8 iOS 18"):
        found = census(small[name])
        assert found.int8_weight_bytes == kernels
        assert found.weight_bytes == kernels + 4 * networks.TINY_BIASES
        assert found.weight_fraction == kernels / (kernels + networks.TINY_BIASES)
    assert census(small["network w8"]).int8_weight_bytes == kernels + networks.TINY_BIASES


# Programs made by hand

SHAPE = (1, 4, 6, 6)
KERNEL = np.random.default_rng(0).standard_normal((8, 4, 3, 3)).astype(np.float32)
MACS = (8 * 4 * 4) * (4 * 3 * 3)  # of KERNEL on SHAPE, without padding
Step = Callable[[object], object]


def made(folder: Path, *steps: Step, target: object = ct.target.iOS17) -> Path:
    """A program of these steps, one behind the other."""

    @mb.program(input_specs=[mb.TensorSpec(SHAPE)], opset_version=target)
    def program(x: object) -> object:
        for step in steps:
            x = step(x)
        return x

    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        compute_precision=ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    model.save(str(folder / "made.mlpackage"))
    return folder / "made.mlpackage"


def quantize(x: object) -> object:
    return mb.quantize(input=x, scale=np.float32(0.1), zero_point=np.int8(3), output_dtype="int8")


def dequantize(x: object) -> object:
    return mb.dequantize(input=x, scale=np.float32(0.1), zero_point=np.int8(3))


def int8_conv(x: object) -> object:
    codes = np.clip(KERNEL * 50, -128, 127).astype(np.int8)
    scales, zeros = np.full(8, 0.02, np.float32), np.zeros(8, np.int8)
    weight = mb.constexpr_affine_dequantize(quantized_data=codes, zero_point=zeros, scale=scales, axis=np.int32(0))
    return mb.conv(x=x, weight=weight, pad_type="valid")


def dequantized_conv(x: object) -> object:
    """The same by an operation that would also take what is computed."""
    codes = np.clip(KERNEL * 50, -128, 127).astype(np.int8)
    weight = mb.dequantize(input=codes, scale=np.full(8, 0.02, np.float32), axis=np.int32(0))
    return mb.conv(x=x, weight=weight, pad_type="valid")


def float_conv(x: object) -> object:
    return mb.conv(x=x, weight=KERNEL, pad_type="valid")


def silu(x: object) -> object:
    return mb.mul(x=x, y=mb.sigmoid(x=x))


def square(x: object) -> object:
    return mb.matmul(x=x, y=x, transpose_y=True)


QDQ, END = (quantize, dequantize), (quantize, dequantize)


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ((*QDQ, int8_conv, *END), "int8"),
        ((*QDQ, dequantized_conv, *END), "int8"),
        ((*QDQ, int8_conv, lambda x: mb.relu(x=x), *END), "int8"),
        ((*QDQ, float_conv, *END), "float"),
        ((int8_conv, *END), "weight-only"),
        ((*QDQ, int8_conv), "weight-only"),
        ((*QDQ, int8_conv, silu, *END), "weight-only"),
        ((*QDQ, int8_conv, lambda x: mb.relu(x=x), lambda x: mb.tanh(x=x), *END), "weight-only"),
        ((*QDQ, lambda x: mb.relu(x=x), int8_conv, *END), "weight-only"),
        ((*QDQ, square, *END), "int8"),
        ((*QDQ, square), "float"),
        ((square, *END), "float"),
    ],
)
def test_int8_is_what_is_enclosed_by_dequantize_and_quantize(tmp_path: Path, steps: list[Step], kind: str) -> None:
    found = census(made(tmp_path, *steps))

    (operation,) = found.operations
    assert operation.kind == kind
    assert operation.integer == (kind == "int8")
    assert found.macs == (4 * 6 * 6 * 6 if operation.type == "matmul" else MACS)
    assert found.int8_macs == (found.macs if kind == "int8" else 0)
    assert found.conversions == sum(step in QDQ for step in steps)


def test_weights_of_a_dequantize_are_counted_once(tmp_path: Path) -> None:
    found = census(made(tmp_path, *QDQ, dequantized_conv, *END))

    assert [(w.elements, w.bits, w.is_int8) for w in found.weights] == [(KERNEL.size, 8, True)]


def test_products_of_every_sort(tmp_path: Path) -> None:
    steps = (
        lambda x: mb.conv_transpose(x=x, weight=np.ones((4, 5, 2, 2), np.float32), strides=[2, 2]),  # (1, 5, 12, 12)
        lambda x: mb.linear(x=x, weight=np.ones((7, 12), np.float32), bias=np.ones(7, np.float32)),  # (1, 5, 12, 7)
        lambda x: mb.matmul(x=x, y=x, transpose_x=True),  # (1, 5, 7, 7)
        lambda x: mb.einsum(values=(x, mb.transpose(x=x, perm=[0, 3, 2, 1])), equation="nchw,nwhu->nchu"),
        lambda x: mb.scaled_dot_product_attention(query=x, key=x, value=x),  # of (1, 5, 7, 5), two products
    )

    found = census(made(tmp_path, *steps, target=ct.target.iOS18))

    assert [o.macs for o in found.operations] == [
        (4 * 6 * 6) * (5 * 2 * 2),
        (5 * 12 * 7) * 12,
        (5 * 7 * 7) * 12,
        5 * 7 * 7 * 5,
        2 * (5 * 7 * 7) * 5,
    ]
    assert [o.weight_bytes for o in found.operations] == [4 * 4 * 5 * 2 * 2, 4 * 7 * 12, 0, 0, 0]


def test_a_damaged_package(tmp_path: Path) -> None:
    (tmp_path / "damaged.mlpackage").mkdir()

    with pytest.raises(DamagedFileError):
        census(tmp_path / "damaged.mlpackage")

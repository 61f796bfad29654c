"""Compressed and quantized ML Programs against coremltools' own decompression and torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import exporters.coreml  # noqa: F401  # first: it keeps coremltools from importing TensorFlow
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml import program as mil
from mvit_deploy.runtimes.coreml import proto
from mvit_deploy.runtimes.coreml.blob import Blob
from mvit_deploy.runtimes.coreml.evaluator import Evaluator
from mvit_deploy.runtimes.coreml.package import read_specification, weights_folder

import coremltools as ct  # isort: skip
import coremltools.optimize.coreml as cto  # isort: skip
from coremltools.converters.mil import Builder as mb  # isort: skip
from coremltools.converters.mil.backend.mil.load import MILProtoExporter  # isort: skip
from coremltools.converters.mil.frontend.milproto.load import load as load_program  # isort: skip
from coremltools.converters.mil.mil import Function, Operation, Program, Var, types  # isort: skip
from coremltools.libmilstoragepython import _BlobStorageWriter  # isort: skip
from coremltools.proto import Model_pb2  # isort: skip

COVERED = {  # the operations that this module checks
    "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale", "constexpr_cast", "constexpr_lut_to_dense",
    "constexpr_lut_to_sparse", "constexpr_sparse_blockwise_shift_scale", "constexpr_sparse_to_dense",
    "quantize", "dequantize",
}  # fmt: skip
SUB_BYTE = {
    1: types.np_uint1_dtype, 2: types.np_uint2_dtype, 3: types.np_uint3_dtype, 4: types.np_uint4_dtype,
    6: types.np_uint6_dtype, 8: np.dtype(np.uint8),
}  # fmt: skip
BIG, SMALL = (8, 6, 3, 2), (2, 2)  # in weight.bin, in the protobuf


def read_back(program: Program, opset: ct.target, folder: Path) -> mil.Program:
    """A program from the bytes that coremltools writes for it."""
    (folder / "weights").mkdir(exist_ok=True)
    exporter = MILProtoExporter(program, str(folder / "weights"), opset.value)
    model = Model_pb2.Model(specificationVersion=opset.value, mlProgram=exporter.export())
    del exporter  # closes weight.bin
    return mil.read_program(proto.model_pb2().Model.FromString(model.SerializeToString()), folder)


def package(program: Program, opset: ct.target, folder: Path) -> Evaluator:
    """A program saved by coremltools and opened from the disk."""
    form = {"minimum_deployment_target": opset, "compute_precision": ct.precision.FLOAT32}
    model = ct.convert(program, **form, pass_pipeline=ct.PassPipeline.EMPTY, skip_model_load=True)
    return opened(saved(model, folder))


def saved(model: ct.models.MLModel, folder: Path) -> Path:
    path = folder / "model.mlpackage"
    model.save(str(path))
    return path


def opened(path: Path, mode: str = "typed") -> Evaluator:
    return Evaluator(mil.read_program(read_specification(path), weights_folder(path)), mode)


def decompressed_alike(opset: ct.target, build: Callable[[], Var], folder: Path) -> None:
    """What coremltools makes of a compressed constant, and what the evaluator makes of it in a file, bit for bit."""
    with Function({}, opset_version=opset) as function:
        result = build()
        function.set_outputs([result])
    expected = result.op.materialized_val_inference()
    program = Program()
    program.add_function("main", function)

    evaluator = Evaluator(read_back(program, opset, folder), "typed")
    found = evaluator.run({})[evaluator.program.outputs[0]]

    identical(found, expected)


def identical(found: np.ndarray, expected: np.ndarray) -> None:
    expected = expected.astype(np.float32) if expected.dtype.kind == "f" else expected
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)
    if expected.dtype == np.float32:
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


def half(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.uniform(0.01, 2, shape).astype(np.float16)


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Elements of a few bits one behind the other, the lowest bit first."""
    stream = (values.reshape(-1, 1) >> np.arange(bits)) & 1
    return np.packbits(stream.astype(np.uint8), bitorder="little")


@pytest.mark.parametrize("shape", [BIG, SMALL], ids=["big", "small"])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("floats", [np.float16, np.float32])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_affine_dequantization_of_ios16_is_coremltools(
    shape: tuple[int, ...], kind: type, floats: type, axis: int, tmp_path: Path
) -> None:
    rng, limits = np.random.default_rng(axis + 9), np.iinfo(kind)
    data = rng.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    zeros = rng.integers(limits.min, limits.max, shape[axis], dtype=kind, endpoint=True)
    scales = half(rng, shape[axis]).astype(floats)

    for zero_point, scale in ((zeros, scales), (zeros[0], scales[0]), (zeros, scales[0]), (zeros[0], scales)):
        parts = {"quantized_data": data, "zero_point": zero_point, "scale": scale, "axis": np.int32(axis)}
        decompressed_alike(ct.target.iOS16, lambda parts=parts: mb.constexpr_affine_dequantize(**parts), tmp_path)


@pytest.mark.parametrize("shape", [BIG, (5,), (3, 3)], ids=str)
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int8, np.uint8])
def test_palettes_of_ios16_are_coremltools(shape: tuple[int, ...], bits: int, kind: type, tmp_path: Path) -> None:
    rng = np.random.default_rng(bits)
    palette = (
        half(rng, 1 << bits).astype(kind)
        if kind in (np.float16, np.float32)
        else rng.integers(0, 99, 1 << bits).astype(kind)
    )
    indices = packed(rng.integers(0, 1 << bits, shape), bits)

    parts = {"lut": palette, "indices": indices, "shape": np.array(shape, np.uint32)}
    decompressed_alike(ct.target.iOS16, lambda: mb.constexpr_lut_to_dense(**parts), tmp_path)


@pytest.mark.parametrize("shape", [(8, 6, 4, 2), (4, 2)], ids=["big", "small"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int8])
def test_sparse_constants_of_ios16_are_coremltools(shape: tuple[int, ...], kind: type, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = rng.integers(2, size=shape)
    values = (50 * half(rng, np.count_nonzero(mask))).astype(kind)

    parts = {"nonzero_data": values, "mask": packed(mask, 1), "shape": np.array(shape, np.uint32)}
    decompressed_alike(ct.target.iOS16, lambda: mb.constexpr_sparse_to_dense(**parts), tmp_path)


@pytest.mark.parametrize("opset", [ct.target.iOS16, ct.target.iOS18], ids=["iOS16", "iOS18"])
@pytest.mark.parametrize("shape", [BIG, SMALL], ids=["big", "small"])
def test_constants_are_cast_to_float32(opset: ct.target, shape: tuple[int, ...], tmp_path: Path) -> None:
    source = half(np.random.default_rng(0), *shape)

    decompressed_alike(opset, lambda: mb.constexpr_cast(source_val=source, output_dtype="fp32"), tmp_path)


INTEGERS = {
    "int4": (types.np_int4_dtype, -8, 7), "uint4": (types.np_uint4_dtype, 0, 15),
    "int8": (np.dtype(np.int8), -128, 127), "uint8": (np.dtype(np.uint8), 0, 255),
}  # fmt: skip
BLOCKS = [(1, 1, 1, 1), (8, 1, 1, 1), (1, 3, 1, 1), (4, 2, 1, 2), BIG]


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("floats", [np.float16, np.float32])
@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
def test_blockwise_dequantization_of_ios18_is_coremltools(
    kind: str, floats: type, blocks: tuple[int, ...], tmp_path: Path
) -> None:
    rng, (dtype, low, high) = np.random.default_rng(1), INTEGERS[kind]
    data = rng.integers(low, high, BIG, endpoint=True).astype(dtype)
    scale, offset = half(rng, *blocks).astype(floats), rng.integers(low, high, blocks, endpoint=True).astype(dtype)

    for parts in ({}, {"offset": offset}):
        given = {"data": data, "scale": scale, **parts}
        decompressed_alike(ct.target.iOS18, lambda given=given: mb.constexpr_blockwise_shift_scale(**given), tmp_path)


@pytest.mark.parametrize("bits", SUB_BYTE)
@pytest.mark.parametrize(("groups", "vector", "axis"), [
    ((1, 1, 1, 1), 1, None), ((4, 1, 1, 1), 1, None), ((2, 3, 1, 1), 1, 0), ((1, 1, 1, 1), 2, 0), ((1, 1, 1, 1), 3, -1),
    ((2, 1, 1, 1), 4, 1), ((1, 2, 1, 2), 2, 1),
])  # fmt: skip
def test_palettes_of_ios18_are_coremltools(
    bits: int, groups: tuple[int, ...], vector: int, axis: int | None, tmp_path: Path
) -> None:
    """One or several palettes, of values or of vectors along any axis."""
    rng = np.random.default_rng(bits)
    indices = rng.integers(0, 1 << bits, BIG).astype(SUB_BYTE[bits])
    parts = {"indices": indices, **({} if axis is None else {"vector_axis": np.int32(axis)})}
    lut = half(rng, *groups, 1 << bits, vector)
    small = rng.integers(-99, 99, lut.shape).astype(np.int8)

    for palette in (lut, lut.astype(np.float32), small):
        decompressed_alike(
            ct.target.iOS18, lambda palette=palette: mb.constexpr_lut_to_dense(lut=palette, **parts), tmp_path
        )


def sparse(
    rng: np.random.Generator, shape: tuple[int, ...], low: int, high: int, kind: np.dtype
) -> dict[str, np.ndarray]:
    mask = rng.integers(2, size=shape)
    mask.flat[0] = 1
    values = rng.integers(low, high, np.count_nonzero(mask), endpoint=True).astype(kind)
    return {"mask": mask.astype(types.np_uint1_dtype), "nonzero": values}


@pytest.mark.parametrize("shape", [BIG, SMALL], ids=["big", "small"])
@pytest.mark.parametrize("kind", ["fp16", *INTEGERS])
def test_sparse_constants_of_ios18_are_coremltools(shape: tuple[int, ...], kind: str, tmp_path: Path) -> None:
    dtype, low, high = INTEGERS.get(kind, (np.dtype(np.float16), -9, 9))
    parts = sparse(np.random.default_rng(2), shape, low, high, dtype)

    decompressed_alike(
        ct.target.iOS18,
        lambda: mb.constexpr_sparse_to_dense(nonzero_data=parts["nonzero"], mask=parts["mask"]),
        tmp_path,
    )


@pytest.mark.parametrize("bits", SUB_BYTE)
@pytest.mark.parametrize(
    ("groups", "vector", "axis"), [((1, 1, 1, 1), 1, None), ((4, 1, 1, 1), 1, 0), ((2, 1, 1, 1), 2, 0)]
)
def test_sparse_palettes_of_ios18_are_coremltools(
    bits: int, groups: tuple[int, ...], vector: int, axis: int | None, tmp_path: Path
) -> None:
    rng = np.random.default_rng(bits)
    parts = sparse(rng, BIG, 0, (1 << bits) - 1, SUB_BYTE[bits])
    lut = half(rng, *groups, 1 << bits, vector)
    along = {} if axis is None else {"vector_axis": np.int32(axis)}

    def build() -> Var:
        mask, values = mb.constexpr_lut_to_sparse(
            indices_mask=parts["mask"], indices_nonzero_data=parts["nonzero"], lut=lut, **along
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)

    decompressed_alike(ct.target.iOS18, build, tmp_path)


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
def test_sparse_blockwise_dequantization_of_ios18_is_coremltools(
    kind: str, blocks: tuple[int, ...], tmp_path: Path
) -> None:
    rng, (dtype, low, high) = np.random.default_rng(3), INTEGERS[kind]
    parts, scale = sparse(rng, BIG, low, high, dtype), half(rng, *blocks)
    offset = rng.integers(low, high, blocks, endpoint=True).astype(dtype)

    def build() -> Var:
        mask, values = mb.constexpr_sparse_blockwise_shift_scale(
            data_mask=parts["mask"], nonzero_data=parts["nonzero"], scale=scale, offset=offset
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)

    decompressed_alike(ct.target.iOS18, build, tmp_path)


def test_a_quantized_palette_is_dequantized_before_it_is_looked_up(tmp_path: Path) -> None:
    """Hand arithmetic: palette (1, 2, -3, 4) * 0.5, indices 3 2 1 0."""
    with Function({}, opset_version=ct.target.iOS18) as function:
        levels = np.array([1, 2, -3, 4], np.int8).reshape(1, 4, 1)
        palette = mb.constexpr_blockwise_shift_scale(data=levels, scale=np.full((1, 1, 1), 0.5, np.float16))
        indices = np.array([3, 2, 1, 0]).astype(types.np_uint2_dtype)
        function.set_outputs([mb.constexpr_lut_to_dense(indices=indices, lut=palette)])
    program = Program()
    program.add_function("main", function)

    evaluator = Evaluator(read_back(program, ct.target.iOS18, tmp_path))

    assert evaluator.run({})[evaluator.program.outputs[0]].tolist() == [2.0, -1.5, 1.0, 0.5]


class Net(nn.Module):
    """Dense, depthwise and pointwise convolutions and a linear layer; sides that blocks divide."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 16, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 24, 1)
        self.head = nn.Linear(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.depthwise(torch.relu(self.stem(x))))
        return self.head(F.silu(self.pointwise(x)).mean(dim=(2, 3)))


def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


IMAGE = np.random.default_rng(0).uniform(-1, 1, (1, 4, 12, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def converted() -> dict[str, ct.models.MLModel]:
    """The net for iOS 16 and 18, in fp16."""
    inputs = [ct.TensorType(name="x", shape=IMAGE.shape)]
    traced = torch.jit.trace(net(), torch.from_numpy(IMAGE), check_trace=False)
    form = {"inputs": inputs, "outputs": [ct.TensorType(name="y")], "convert_to": "mlprogram", "skip_model_load": True}
    return {name: ct.convert(traced, minimum_deployment_target=ct.target[name], **form) for name in ("iOS16", "iOS18")}


def linear(
    dtype: str, granularity: str = "per_channel", mode: str = "linear_symmetric", block: int = 4
) -> cto.OptimizationConfig:
    size = {"block_size": block} if granularity == "per_block" else {}
    form = {"dtype": dtype, "granularity": granularity, "mode": mode, "weight_threshold": 0, **size}
    return cto.OptimizationConfig(cto.OpLinearQuantizerConfig(**form))


def palette(bits: int, **form: object) -> cto.OptimizationConfig:
    return cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=bits, mode="uniform", weight_threshold=0, **form))


def pruned(model: ct.models.MLModel) -> ct.models.MLModel:
    form = {"target_sparsity": 0.6, "weight_threshold": 0}
    return cto.prune_weights(model, cto.OptimizationConfig(cto.OpMagnitudePrunerConfig(**form)))


Compress = Callable[[ct.models.MLModel], ct.models.MLModel]
COMPRESSIONS: dict[str, tuple[str, str, Compress]] = {
    "int8 per channel": ("iOS16", "constexpr_affine_dequantize",
                         lambda m: cto.linear_quantize_weights(m, linear("int8"))),
    "uint8 asymmetric": ("iOS16", "constexpr_affine_dequantize",
                         lambda m: cto.linear_quantize_weights(m, linear("uint8", "per_tensor", "linear"))),
    "palette of 4 bits": ("iOS16", "constexpr_lut_to_dense", lambda m: cto.palettize_weights(m, palette(4))),
    "palette of 6 bits": ("iOS16", "constexpr_lut_to_dense", lambda m: cto.palettize_weights(m, palette(6))),
    "pruned": ("iOS16", "constexpr_sparse_to_dense", pruned),
    "int8 asymmetric": ("iOS18", "constexpr_blockwise_shift_scale",
                        lambda m: cto.linear_quantize_weights(m, linear("int8", mode="linear"))),
    "int4 per block": ("iOS18", "constexpr_blockwise_shift_scale",
                       lambda m: cto.linear_quantize_weights(m, linear("int4", "per_block"))),
    "uint4 per block": ("iOS18", "constexpr_blockwise_shift_scale",
                        lambda m: cto.linear_quantize_weights(m, linear("uint4", "per_block", "linear"))),
    "palette of 3 bits": ("iOS18", "constexpr_lut_to_dense", lambda m: cto.palettize_weights(m, palette(3))),
    "palettes per group": ("iOS18", "constexpr_lut_to_dense", lambda m: cto.palettize_weights(
        m, palette(2, granularity="per_grouped_channel", group_size=4))),
    "pruned for iOS 18": ("iOS18", "constexpr_sparse_to_dense", pruned),
    "pruned and quantized": ("iOS18", "constexpr_sparse_blockwise_shift_scale",
                             lambda m: cto.linear_quantize_weights(pruned(m), linear("int8"), joint_compression=True)),
    "pruned and palettized": ("iOS18", "constexpr_lut_to_sparse",
                              lambda m: cto.palettize_weights(pruned(m), palette(4), joint_compression=True)),
    "palettes quantized": ("iOS18", "constexpr_lut_to_dense", lambda m: cto.linear_quantize_weights(
        cto.palettize_weights(m, palette(4)), linear("int8", "per_tensor"), joint_compression=True)),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_compressed_package_computes_with_the_weights_that_coremltools_restores(
    name: str, converted: dict[str, ct.models.MLModel], tmp_path: Path
) -> None:
    """Each weight bit for bit; the result as torch's with those weights."""
    target, operation, compress = COMPRESSIONS[name]
    path = saved(compress(converted[target]), tmp_path)
    restored = restored_weights(path)

    evaluator = opened(path)
    used = {each.type for each in evaluator.program.operations}
    found = evaluator.run({"x": IMAGE}, taps=restored)

    assert operation in used
    assert len(restored) >= 3
    for weight, expected in restored.items():
        identical(found[weight], expected)
    np.testing.assert_allclose(found["y"], torch_result(path), rtol=5e-3, atol=3e-3)


def restored_weights(path: Path) -> dict[str, np.ndarray]:
    """What coremltools' reader makes of the compressed weights, by name."""
    return {
        output.name: materialised(operation)
        for operation in coremltools_operations(path)
        if operation.op_type in DENSE
        for output in operation.outputs
    }


DENSE = COVERED - {"constexpr_lut_to_sparse", "constexpr_sparse_blockwise_shift_scale"}


def materialised(operation: Operation) -> np.ndarray:
    """coremltools' decompression, which does not itself see to a palette that is compressed too."""
    if operation.op_type == "constexpr_lut_to_dense" and operation.lut.val is None:
        return operation.decompress(operation.indices.val, operation.lut.op.materialized_val_inference(), None)
    return operation.materialized_val_inference()


def coremltools_operations(path: Path) -> list[Operation]:
    model = ct.models.MLModel(str(path), skip_model_load=True)
    spec = model.get_spec()
    return list(load_program(spec, spec.specificationVersion, model.weights_dir).functions["main"].operations)


def torch_result(path: Path) -> np.ndarray:
    """The net in torch with the weights of a package, in the order in which they are used."""
    weights = [
        operation.weight for operation in coremltools_operations(path) if operation.op_type in ("conv", "linear")
    ]
    values = [weight.val if weight.val is not None else materialised(weight.op) for weight in weights]
    model = net()
    layers = [model.stem, model.depthwise, model.pointwise, model.head]
    with torch.no_grad():
        for layer, value in zip(layers, values, strict=True):
            layer.weight.copy_(torch.from_numpy(value.astype(np.float32)).reshape(layer.weight.shape))
        return model(torch.from_numpy(IMAGE)).numpy()


def test_compressed_package_gives_what_its_decompressed_twin_gives(
    converted: dict[str, ct.models.MLModel], tmp_path: Path
) -> None:
    compressed = cto.palettize_weights(converted["iOS18"], palette(4))
    twin = cto.decompress_weights(compressed)
    (tmp_path / "twin").mkdir()

    found = opened(saved(compressed, tmp_path)).run({"x": IMAGE})["y"]
    expected = opened(saved(twin, tmp_path / "twin")).run({"x": IMAGE})["y"]

    np.testing.assert_array_equal(found, expected)


def fake(x: Tensor, scale: np.ndarray, zero: np.ndarray, kind: str, axis: int | None = None) -> Tensor:
    """torch's quantization and back; with scales that are powers of two both divide without an error."""
    low, high = (-128, 127) if kind == "int8" else (0, 255)
    if axis is None:
        return torch.fake_quantize_per_tensor_affine(x, float(scale), int(zero), low, high)
    return torch.fake_quantize_per_channel_affine(
        x, torch.from_numpy(scale), torch.from_numpy(zero.astype(np.int32)), axis, low, high
    )


@pytest.mark.parametrize("opset", [ct.target.iOS17, ct.target.iOS18], ids=["iOS17", "iOS18"])
@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 1], ids=["per tensor", "per channel"])
def test_quantized_activations_and_weights_are_torchs_fake_quantization(
    opset: ct.target, kind: str, axis: int | None, tmp_path: Path
) -> None:
    """x -> int8 -> x, through a convolution with dequantized weights, and the same again: W8A8."""
    rng = np.random.default_rng(4)
    shape = () if axis is None else (4,)
    scale = np.exp2(rng.integers(-7, -4, shape)).astype(np.float32)
    zero = rng.integers(*((-9, 9) if kind == "int8" else (100, 150)), shape).astype(kind)
    levels, weight_scale = (
        rng.integers(-128, 127, (3, 4, 3, 3), dtype=np.int8),
        np.exp2(rng.integers(-9, -6, 3)).astype("f"),
    )
    after = np.float32(2.0**-3)
    along = {} if axis is None else {"axis": np.int32(axis)}

    @mb.program(input_specs=[mb.TensorSpec(shape=IMAGE.shape, dtype=types.fp32)], opset_version=opset)
    def program(x: Var) -> Var:
        form = {"scale": scale, "zero_point": zero, **along}
        x = mb.dequantize(input=mb.quantize(input=x, output_dtype=kind, **form), **form)
        if opset == ct.target.iOS18:
            weight = mb.constexpr_blockwise_shift_scale(data=levels, scale=weight_scale.reshape(3, 1, 1, 1))
        else:
            parts = {"scale": weight_scale, "zero_point": np.int8(0), "axis": np.int32(0)}
            weight = mb.constexpr_affine_dequantize(quantized_data=levels, **parts)
        x = mb.conv(x=x, weight=weight, pad_type="custom", pad=[1, 1, 1, 1])
        return mb.dequantize(input=mb.quantize(input=x, output_dtype="int8", scale=after), scale=after, name="y")

    found = package(program, opset, tmp_path).run({"x": IMAGE})["y"]
    weight = torch.from_numpy(levels * weight_scale.reshape(3, 1, 1, 1))
    x = F.conv2d(fake(torch.from_numpy(IMAGE), scale, zero, kind, axis), weight, padding=1)
    expected = fake(x, after, np.int8(0), "int8").numpy()

    assert np.count_nonzero(found != expected) <= 1  # a sum that stands on the edge of two levels
    np.testing.assert_allclose(found, expected, atol=float(after))


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_quantization_rounds_halves_to_even_and_saturates(kind: str, tmp_path: Path) -> None:
    """Hand arithmetic: scale 0.5, zero point 3."""
    values = np.array([0.25, 0.75, 1.25, -0.25, -0.75, 1e4, -1e4], np.float32)

    @mb.program(input_specs=[mb.TensorSpec(shape=(7,), dtype=types.fp32)], opset_version=ct.target.iOS17)
    def program(x: Var) -> Var:
        level = mb.quantize(input=x, scale=np.float32(0.5), zero_point=np.dtype(kind).type(3), output_dtype=kind)
        return mb.cast(x=level, dtype="int32", name="y")

    found = package(program, ct.target.iOS17, tmp_path).run({"x": values})["y"]

    ends = [127, -128] if kind == "int8" else [255, 0]
    assert found.tolist() == [3 + 0, 3 + 2, 3 + 2, 3 + 0, 3 - 2, *ends]


WRITERS: dict[str, tuple[str, np.dtype, int, int]] = {
    "fp16": ("fp16", np.dtype(np.float16), -9, 9), "fp32": ("float", np.dtype(np.float32), -9, 9),
    "int8": ("int8", np.dtype(np.int8), -128, 127), "uint8": ("uint8", np.dtype(np.uint8), 0, 255),
    "int16": ("int16", np.dtype(np.int16), -999, 999), "uint16": ("uint16", np.dtype(np.uint16), 0, 65535),
    "int32": ("int32", np.dtype(np.int32), -999999, 999999), "uint32": ("uint32", np.dtype(np.uint32), 0, 4 * 10**9),
    "int4": ("int4", np.dtype(np.int8), -8, 7),
    **{f"uint{bits}": (f"uint{bits}", np.dtype(np.uint8), 0, (1 << bits) - 1) for bits in (1, 2, 3, 4, 6)},
}  # fmt: skip


def test_weight_file_is_read_as_coremltools_wrote_it(tmp_path: Path) -> None:
    """Every type, lengths that fill the last byte and that do not, one entry behind the other."""
    rng, path = np.random.default_rng(5), tmp_path / "weight.bin"
    writer, entries = _BlobStorageWriter(str(path)), []
    for dtype, (method, kind, low, high) in WRITERS.items():
        for size in (1, 7, 8, 64, 1001):
            values = rng.integers(low, high, size, endpoint=True).astype(kind)
            raw = values.view(np.uint16) if dtype == "fp16" else values
            entries.append((getattr(writer, f"write_{method}_data")(raw), dtype, values))
    del writer

    blob = Blob(path)

    for offset, dtype, values in entries:
        found = blob.read(offset, dtype, values.shape)
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)


def test_weight_of_another_type_or_count_than_the_program_says_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "weight.bin"
    writer = _BlobStorageWriter(str(path))
    offset = writer.write_uint3_data(np.zeros(9, np.uint8))
    del writer
    blob = Blob(path)

    for dtype, shape in (("uint4", (9,)), ("uint3", (8,)), ("uint3", (10,))):
        with pytest.raises(DamagedFileError):
            blob.read(offset, dtype, shape)
    with pytest.raises(DamagedFileError):
        blob.read(offset + 64, "uint3", (9,))
    assert blob.read(offset, "uint3", (3, 3)).shape == (3, 3)

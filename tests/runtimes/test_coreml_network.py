"""The evaluator of Core ML's classic format: weights, conversions, our own files, damage.

The oracles are PyTorch, coremltools' own decoding of weights, and hand arithmetic.
"""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from exporters import coreml as exporter
from mvit_deploy.errors import DamagedFileError, MvitError, ShapeError, UsageError
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.runtimes.coreml import kernels
from mvit_deploy.runtimes.coreml.errors import UnknownOperationError
from mvit_deploy.runtimes.coreml.network import Network
from mvit_deploy.runtimes.coreml.network_weights import decode
from mvit_deploy.spec import Contract, Output, Settings
from tests.conftest import sensitive
from tests.runtimes.networks import NeuralNetworkBuilder, built, close, deconvolution, draw, pb, rel_max

import coremltools as ct  # isort: skip
from coremltools.models.neural_network import quantization_utils  # isort: skip

MLMODEL = Settings(format="mlmodel")
SIZE = (64, 96)

# Weights


CODES = [(bits, mode) for mode in ("linear", "linear_lut") for bits in range(1, 9)] + [(8, "linear_symmetric")]


@pytest.mark.parametrize(("bits", "mode"), CODES)
def test_quantized_weights_are_decoded_as_coremltools_does(bits: int, mode: str) -> None:
    weight, bias = draw(5, 2, 3, 3), draw(5, seed=1)
    spec = built(
        lambda b: b.add_convolution(
            "c", 2, 5, 3, 3, 1, 1, "valid", 1, weight.transpose(2, 3, 1, 0), bias, True, input_name="x", output_name="y"
        ),
        ["y"],
        x=(1, 2, 6, 7),
    )
    coded = quantized(spec, bits, mode)
    plain = dequantized(coded)
    layer, decoded = coded.neuralNetwork.layers[0].convolution, plain.neuralNetwork.layers[0].convolution
    x = draw(1, 2, 6, 7)

    assert len(layer.weights.rawValue) == math.ceil(90 * bits / 8)
    assert not layer.weights.floatValue
    shape = (5, 2, 3, 3)
    expected = np.array(decoded.weights.floatValue, dtype=np.float32).reshape(shape)
    close(decode(layer.weights, shape), expected, 1e-6)
    found = Network(coded).run({"x": x})["y"]
    close(found, F.conv2d(torch.tensor(x), torch.tensor(expected), torch.tensor(np.float32(decoded.bias.floatValue))))


def quantized(spec: "pb.Model", bits: int, mode: str = "linear") -> "pb.Model":
    model = ct.models.MLModel(ct.proto.Model_pb2.Model.FromString(spec.SerializeToString()), skip_model_load=True)
    found = quantization_utils.quantize_weights(model, nbits=bits, quantization_mode=mode)
    found = found.get_spec() if isinstance(found, ct.models.MLModel) else found  # a model on a Mac
    return pb.Model.FromString(found.SerializeToString())


def dequantized(spec: "pb.Model") -> "pb.Model":
    return quantized(spec, 8, "dequantization")


def test_quantized_batched_matmul_and_deconvolution_scale_their_output_channels() -> None:
    """batchedMatmul stores its matrix transposed; a deconvolution has its output channels on the second axis."""

    def add(b: NeuralNetworkBuilder) -> None:
        b.add_batched_mat_mul("m", ["x"], "h", False, False, 5, 4, draw(5, 4) * np.float32([1, 10, 100, 1000]))
        deconvolution(draw(3, 2, 2, 2) * np.float32([1, 100])[:, None, None], 1, 2)(b)
        b.nn_spec.layers[1].input[0] = "h"

    coded = quantized(built(add, ["y"], x=(1, 3, 4, 5)), 8)
    x = {"x": draw(1, 3, 4, 5)}

    assert len(coded.neuralNetwork.layers[0].batchedMatmul.weights.quantization.linearQuantization.scale) == 4
    assert len(coded.neuralNetwork.layers[1].convolution.weights.quantization.linearQuantization.scale) == 2
    close(Network(coded).run(x)["y"], Network(dequantized(coded)).run(x)["y"])


def test_forms_of_weights_that_are_not_understood() -> None:
    spec = built(lambda b: b.add_inner_product("l", draw(3, 4), None, 4, 3, False, "x", "y"), ["y"], x=(4,))
    cases: list[tuple[Callable[[object], object], type[Exception], str]] = [
        (lambda p: setattr(p, "int8DynamicQuantize", True), UnknownOperationError, "int8DynamicQuantize"),
        (lambda p: p.weights.ClearField("floatValue"), DamagedFileError, "missing"),
        (lambda p: p.weights.floatValue.pop(), DamagedFileError, r"layer 1, 'l' \(innerProduct\): 11 weights"),
        (lambda p: setattr(p.weights, "rawValue", b"1"), DamagedFileError, "floatValue and rawValue"),
        (lambda p: raw(p, b"1" * 12), UnknownOperationError, "without a quantization"),
        (lambda p: raw(p, b"1" * 12, bits=16, scale=[1]), UnknownOperationError, "16 bits"),
        (lambda p: raw(p, b"1" * 11, bits=8, scale=[1]), DamagedFileError, "11 bytes"),
        (lambda p: raw(p, b"1" * 12, bits=8, scale=[1, 2]), DamagedFileError, "2 quantization scales"),
        (lambda p: raw(p, b"1" * 6, bits=4, table=[1.0] * 15), DamagedFileError, "15 values for 4 bits"),
    ]
    for damage, error, text in cases:
        changed = pb.Model()
        changed.CopyFrom(spec)
        damage(changed.neuralNetwork.layers[0].innerProduct)
        with pytest.raises(error, match=text):
            Network(changed).run({"x": draw(4)})


def raw(p: object, stored: bytes, bits: int = 0, scale: list[float] = (), table: list[float] = ()) -> None:
    p.weights.ClearField("floatValue")
    p.weights.rawValue = stored
    p.weights.quantization.numberOfBits = bits
    if scale:
        p.weights.quantization.linearQuantization.scale.extend(scale)
        p.weights.quantization.linearQuantization.bias.extend(scale)
    if table:
        p.weights.quantization.lookupTableQuantization.floatValue.extend(table)


# Conversions by coremltools


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.skip = (
            nn.Conv2d(6, 8, 3, 2, 1),
            nn.Conv2d(8, 8, 3, 1, 2, 2, groups=4),
            nn.Conv2d(6, 8, 1, 2),
        )
        self.norm = nn.BatchNorm2d(8).eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(x, 3, 2, 1)
        return F.relu(self.norm(self.b(F.hardswish(self.a(x)))) + self.skip(x)).mean((2, 3))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = (self.qkv(self.norm(tokens)) * 3).reshape(1, -1, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = (q @ k.transpose(-2, -1) / 2).softmax(-1) @ v
        return F.gelu(tokens + self.out(mixed.transpose(1, 2).reshape(tokens.shape)))


class Separable(nn.Module):
    """The linear attention of MobileViTv2, which brings GroupNorm and expand."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.proj = nn.GroupNorm(1, 6), nn.Conv2d(6, 13, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.proj(self.norm(x)).split([1, 6, 6], 1)
        context = (key * query.softmax(-1)).sum(-1, keepdim=True)
        return F.relu(value) * context.expand_as(value)


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv, bn, silu": (lambda: nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.SiLU()), (1, 3, 16, 24)),
    "residual": (Residual, (1, 6, 24, 32)),
    "attention": (Attending, (1, 8, 4, 6)),
    "separable attention": (Separable, (1, 6, 4, 10)),
    "upsample": (lambda: nn.Sequential(nn.Upsample((20, 36), mode="bilinear"), nn.Conv2d(3, 2, 1)), (1, 3, 10, 24)),
    "upsample corners": (lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), (1, 3, 5, 6)),
    "nearest": (lambda: nn.Upsample(scale_factor=3), (1, 3, 5, 6)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2), (1, 4, 5, 6)),
    "average pools": (
        lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(2, count_include_pad=False)),
        (1, 3, 16, 20),
    ),
}


@pytest.mark.parametrize("front_end", ["trace", "export"])
@pytest.mark.parametrize("name", NETS)
def test_what_coremltools_converts_computes_what_torch_does(name: str, front_end: str) -> None:
    make, shape = NETS[name]
    torch.manual_seed(0)
    module, x = make().eval(), draw(*shape)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # norms and biases that would be 1 and 0
        expected = module(torch.tensor(x)).numpy()

    spec = converted(module, shape, front_end)
    (output,) = Network(spec).run({"x": x}).values()

    assert output.shape == expected.shape
    # coremltools turns GroupNorm's affine into a batchnorm of variance 1 whose epsilon of 1e-5 it does not make up for
    assert rel_max(output, expected) <= (3e-5 if name == "separable attention" else 2e-6)


def converted(module: nn.Module, shape: tuple[int, ...], front_end: str) -> "pb.Model":
    example = (torch.zeros(shape),)
    if front_end == "trace":
        source, options = torch.jit.trace(module, example), {"inputs": [ct.TensorType(name="x", shape=shape)]}
    else:
        source, options = torch.export.export(module, example).run_decompositions({}), {}
    model = ct.convert(source, convert_to="neuralnetwork", skip_model_load=True, **options)
    spec = pb.Model.FromString(model.get_spec().SerializeToString())
    if front_end == "export":
        ct.utils.rename_feature(spec, spec.description.input[0].name, "x")
    return spec


# Our own files


def exported(path: Path, precision: str = "fp32", module: nn.Module | None = None, **changes: object) -> "pb.Model":
    contract = Contract("xxs", "classification", "paper", SIZE, (Output("logits", (1000,)),))
    contract = replace(contract, probabilities="labels" in changes, **changes)
    lowered = exporter.lower(module or sensitive("xxs"), contract, MLMODEL)
    exporter.write(lowered, precision, path)
    return pb.Model.FromString(path.read_bytes())


@pytest.fixture(scope="module")
def xxs(tmp_path_factory: pytest.TempPathFactory) -> "pb.Model":
    """The deployment form of xxs, fp32. Not to be modified."""
    return exported(tmp_path_factory.mktemp("xxs") / "m.mlmodel", module=fuse(sensitive("xxs")))


def small_classifier() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 4), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    ).eval()


def pixels(size: tuple[int, int] = SIZE, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (1, channels, *size)).astype(np.float32)


def logits(module: nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.tensor(image)).numpy()


def test_xxs_in_fp32(xxs: "pb.Model", tmp_path: Path) -> None:
    image = pixels()
    expected = logits(sensitive("xxs"), image / 255)
    eager = exported(tmp_path / "m.mlmodel")  # not fused: batch norms and all

    for spec in (xxs, eager):
        network = Network(spec)
        assert network.inputs == {"image": (1, 3, *SIZE)}
        assert network.outputs == ["logits"]
        assert rel_max(network.run({"image": image})["logits"], expected) <= 1e-5


def same_weights(module: nn.Module, before: "pb.Model", after: "pb.Model") -> nn.Module:
    """The module with each parameter replaced by what `after` stores where `before` stores that parameter."""
    stored: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for old, new in zip(before.neuralNetwork.layers, after.neuralNetwork.layers, strict=True):
        p, q = (getattr(layer, layer.WhichOneof("layer")) for layer in (old, new))
        for name in ("weights", "bias", "scale"):
            if hasattr(p, name) and getattr(p, name).floatValue:
                values = [np.array(floats(getattr(each, name)), dtype=np.float32) for each in (p, q)]
                stored.setdefault(values[0].size, []).append(values)
    state = {}
    for key, tensor in module.state_dict().items():
        flat = tensor.numpy().ravel()
        found, value = min(stored[flat.size], key=lambda pair: np.abs(pair[0] - flat).max())
        np.testing.assert_allclose(found, flat, atol=1e-6)
        state[key] = torch.tensor(value.reshape(tensor.shape))
    module.load_state_dict(state)
    return module


def floats(weights: object) -> list[float]:
    """The values of weights that are not quantized, decoded by hand."""
    return list(weights.floatValue) or np.frombuffer(weights.float16Value, np.float16).tolist()


@pytest.mark.parametrize(("bits", "mode"), [(16, "linear"), (8, "linear"), (8, "linear_symmetric")])
def test_xxs_with_compressed_weights(xxs: "pb.Model", bits: int, mode: str) -> None:
    """Torch runs on the weights as coremltools decodes them; without that step the difference is far larger."""
    image, module = pixels(), fuse(sensitive("xxs"))
    coded = quantized(xxs, bits, mode)
    stored = coded if bits == 16 else dequantized(coded)
    expected = logits(same_weights(module, xxs, stored), image / 255)

    found = Network(coded).run({"image": image})["logits"]

    assert rel_max(found, expected) <= 1e-5
    assert rel_max(found, logits(sensitive("xxs"), image / 255)) > 1e-4


LABELS = ("daisy", "dandelion", "rose", "sunflower", "tulip")


def test_a_classifier_gives_probabilities_and_a_label(tmp_path: Path) -> None:
    module, image = sensitive("xxs", 5), pixels()
    spec = exported(tmp_path / "m.mlmodel", module=module, labels=LABELS, outputs=(Output("logits", (5,)),))
    expected = logits(module, image / 255)
    network = Network(spec)
    found = network.run({"image": image})

    assert set(network.outputs) == set(found) == {"classLabel", "classLabel_probs"}
    assert rel_max(found["classLabel_probs"], torch.tensor(expected).softmax(-1).numpy()) <= 1e-4
    assert found["classLabel"].tolist() == [LABELS[expected.argmax()]]


def test_integer_labels_and_the_last_layer_by_default(tmp_path: Path) -> None:
    spec = exported(tmp_path / "m.mlmodel", module=small_classifier(), labels=LABELS, outputs=(Output("logits", (5,)),))
    classifier = spec.neuralNetworkClassifier
    before = Network(spec).run({"image": pixels()})
    classifier.int64ClassLabels.vector.extend([10, 20, 30, 40, 50])
    classifier.ClearField("labelProbabilityLayerName")
    found = Network(spec).run({"image": pixels()})

    assert found["classLabel"].tolist() == [10 + 10 * LABELS.index(before["classLabel"].item())]
    assert np.array_equal(found["classLabel_probs"], before["classLabel_probs"])
    classifier.int64ClassLabels.vector.append(60)
    with pytest.raises(DamagedFileError, match="5 probabilities for 6 labels"):
        Network(spec).run({"image": pixels()})


def image_network(color_space: str, **scaler: float) -> "pb.Model":
    """One that gives back its image as the layers see it."""
    channels = 1 if color_space == "GRAYSCALE" else 3
    spec = built(lambda b: b.add_copy("c", "image", "y"), ["y"], image=(1, channels, 4, 6))
    image = spec.description.input[0].type.imageType
    image.width, image.height = 6, 4
    image.colorSpace = type(image).ColorSpace.Value(color_space)
    step = spec.neuralNetwork.preprocessing.add(featureName="image")
    for name, value in scaler.items():
        setattr(step.scaler, name, value)
    return spec


BIASES = {"channelScale": 0.5, "redBias": 1.0, "greenBias": 2.0, "blueBias": 3.0, "grayBias": 4.0}


@pytest.mark.parametrize(("space", "biases"), [("RGB", [1, 2, 3]), ("BGR", [3, 2, 1]), ("GRAYSCALE", [4])])
def test_images_are_scaled_in_the_order_of_their_channels(space: str, biases: list[float]) -> None:
    image = pixels((4, 6), len(biases))
    spec = image_network(space, **BIASES)

    found = Network(spec).run({"image": image}, taps=["image"])

    close(found["y"], image / 2 + np.reshape(biases, (-1, 1, 1)))
    assert np.array_equal(found["image"], found["y"])


def test_a_mean_image_is_taken_away() -> None:
    spec, mean = image_network("RGB"), draw(3, 4, 6)
    spec.neuralNetwork.preprocessing[0].meanImage.meanImage.extend(mean.ravel())
    close(Network(spec).run({"image": pixels((4, 6))})["y"], pixels((4, 6)) - mean)

    spec.neuralNetwork.preprocessing[0].meanImage.meanImage.append(1)
    with pytest.raises(DamagedFileError, match="mean image of 73 values"):
        Network(spec)


@pytest.mark.parametrize(("order", "low", "high"), [("RGB", 0.0, 1.0), ("BGR", 0.0, 1.0), ("RGB", -1.0, 1.0)])
def test_range_and_colour_order_of_our_files(tmp_path: Path, order: str, low: float, high: float) -> None:
    module, image = small_classifier(), pixels()
    spec = exported(
        tmp_path / "m.mlmodel",
        module=module,
        color_order=order,
        value_range=(low, high),
        outputs=(Output("logits", (5,)),),
    )

    found = Network(spec).run({"image": image})["logits"]

    assert rel_max(found, logits(module, image / 255 * (high - low) + low)) <= 1e-5


def test_an_image_of_256x256_takes_little_time(xxs: "pb.Model", tmp_path: Path) -> None:
    image = pixels((256, 256))
    network = Network(exported(tmp_path / "m.mlmodel", image_size=(256, 256)))
    network.run({"image": image})  # decodes the weights
    durations = []
    for _ in range(3):
        start = time.perf_counter()
        network.run({"image": image})
        durations.append(time.perf_counter() - start)

    assert min(durations) < 0.5


# Damage, and what is not known


def two_layers() -> "pb.Model":
    def add(b: NeuralNetworkBuilder) -> None:
        b.add_activation("first", "RELU", "x", "h")
        b.add_softmax_nd("second", "h", "y", -1)

    return built(add, ["y"], x=(2, 3))


def test_operations_and_the_callers_mistakes() -> None:
    network = Network(two_layers())

    described = [(o.line, o.name, o.type, o.inputs, o.outputs) for o in network.operations]
    assert described == [(1, "first", "activation", ("x",), ("h",)), (2, "second", "softmaxND", ("h",), ("y",))]
    with pytest.raises(ShapeError, match=r"takes the shape \(2, 3\), not \(3, 2\)"):
        network.run({"x": draw(3, 2)})
    with pytest.raises(UsageError, match="no value for the input 'x'"):
        network.run({})
    with pytest.raises(UsageError, match="no blob 'z'"):
        network.run({"x": draw(2, 3)}, taps=["z"])


def test_names_that_do_not_fit_are_damage() -> None:
    cases: list[tuple[Callable[[object], object], str]] = [
        (lambda n: n.layers[1].input.__setitem__(0, "g"), r"layer 2, 'second' \(softmaxND\): reads 'g'"),
        (lambda n: n.layers[1].input.append("x"), "does not have 2 inputs"),
        (lambda n: n.layers[1].output.__setitem__(0, "h"), "makes 'h' a second time"),
        (lambda n: n.layers[1].output.__setitem__(0, "z"), "output 'y' comes from no layer"),
        (lambda n: n.layers[1].output.append("z"), "1 outputs, but 2 names"),
        (lambda n: setattr(n.layers[1].softmaxND, "axis", 7), "out of bounds"),
        (lambda n: n.preprocessing.add(featureName="z"), "'z', which is no input"),
    ]
    for damage, text in cases:
        spec = two_layers()
        damage(spec.neuralNetwork)
        with pytest.raises(DamagedFileError, match=text):
            Network(spec).run({"x": draw(2, 3)})


def test_unknown_layers_and_forms_are_not_guessed() -> None:
    cases: list[tuple[Callable[[object], object], str]] = [
        (
            lambda s: s.neuralNetwork.layers[0].custom.SetInParent(),
            r"line 1: 'first' \(custom\): .* does not know custom",
        ),
        (lambda s: s.neuralNetwork.layers[0].ClearField("activation"), "a layer without a type"),
        (lambda s: s.neuralNetwork.layers[0].activation.ClearField("ReLU"), "activation with nonlinearity None"),
        (lambda s: setattr(s.neuralNetwork, "arrayInputShapeMapping", 0), "RANK5_ARRAY_MAPPING"),
        (lambda s: s.neuralNetworkRegressor.SetInParent(), "neuralNetworkRegressor"),
        (lambda s: s.neuralNetwork.layers[0].pooling.SetInParent(), "pooling with padding type None"),
        (lambda s: setattr(s.neuralNetwork.layers[0].pooling, "type", 2), "pooling with type L2"),
        (lambda s: setattr(s.neuralNetwork.layers[0].concatND, "interleave", True), "concatND with interleave"),
        (lambda s: s.neuralNetwork.layers[0].convolution.SetInParent(), "convolution with padding type None"),
    ]
    for change, text in cases:
        spec = two_layers()
        spec.description.input[0].type.multiArrayType.shape[:] = [1, 1, 4, 6]
        spec.neuralNetwork.layers[0].convolution.CopyFrom(spec.neuralNetwork.layers[0].convolution)
        change(spec)
        with pytest.raises(UnknownOperationError, match=text):
            Network(spec).run({"x": draw(1, 1, 4, 6)})
    for space, scale in (("RGB", 0.0), ("GRAYSCALE", 0.0)):
        with pytest.raises(UnknownOperationError, match="channelScale of 0"):
            Network(image_network(space, channelScale=scale))


def test_growth_without_bounds_is_damage_not_memory() -> None:
    def tiled(b: NeuralNetworkBuilder) -> None:
        b.add_tile("t", "x", "y", [2**20, 2**20])

    def squared(b: NeuralNetworkBuilder) -> None:
        b.add_tile("t", "x", "h", [2**15, 1])
        b.add_transpose("u", [1, 0], "h", "g")
        b.add_add_broadcastable("v", ["h", "g"], "y")

    def piled(b: NeuralNetworkBuilder) -> None:
        names = [f"h{i}" for i in range(9)]
        for name in names:
            b.add_tile(name, "x", name, [2**10, 100])
        b.add_concat_nd("c", names, "y", 0)

    for add, text in ((tiled, "implausibly large"), (squared, "layer 3, 'v'"), (piled, "values at once")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mvit_deploy.runtimes.coreml.network.MAX_ELEMENTS", 2**19)
            with pytest.raises(DamagedFileError, match=text):
                Network(built(add, ["y"], x=(1, 1))).run({"x": draw(1, 1)})


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_no_damage_ends_in_another_error(data: st.DataObject) -> None:
    """Bytes of a file with every kind of layer that our files have are changed."""
    stored = bytearray(damageable())
    for _ in range(data.draw(st.integers(1, 4))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    try:
        spec = pb.Model.FromString(bytes(stored))
    except Exception:  # noqa: BLE001  protobuf's business
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "MAX_ELEMENTS", 2**20)
        with contextlib.suppress(MvitError, UnknownOperationError):
            network = Network(spec)
            network.run({name: np.ones(shape, np.float32) for name, shape in network.inputs.items()})


@cache
def damageable() -> bytes:
    """A file of convolution, pooling and attention, with float16 weights."""
    module = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.AvgPool2d(2), Attending())
    return quantized(converted(module, (1, 3, 16, 24), "trace"), 16).SerializeToString()

"""Small networks in Core ML's classic format, for the tests of its evaluator."""

from collections.abc import Callable

import numpy as np
import torch

from exporters import coreml as exporter  # noqa: F401  before coremltools: it keeps TensorFlow out of that import
from mvit_deploy.runtimes.coreml import proto
from mvit_deploy.runtimes.coreml.network import Network

from coremltools.models import datatypes  # isort: skip
from coremltools.models.neural_network import NeuralNetworkBuilder  # isort: skip

pb = proto.model_pb2()
Add = Callable[[NeuralNetworkBuilder], object]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def built(add: Add, outputs: list[str], **shapes: tuple[int, ...]) -> "pb.Model":
    """The specification of a network of whatever add() puts into the builder."""
    inputs = [(name, datatypes.Array(*shape)) for name, shape in shapes.items()]
    builder = NeuralNetworkBuilder(inputs, [(name, None) for name in outputs], disable_rank5_shape_mapping=True)
    add(builder)
    return pb.Model.FromString(builder.spec.SerializeToString())


def computed(add: Add, **inputs: np.ndarray) -> np.ndarray:
    """The blob "y" of such a network."""
    network = Network(built(add, ["y"], **{name: x.shape for name, x in inputs.items()}))
    return network.run(inputs)["y"]


def close(found: np.ndarray, expected: torch.Tensor | np.ndarray, tolerance: float = 1e-5) -> None:
    expected = np.asarray(expected)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * max(1.0, np.abs(expected).max()))


def rel_max(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def deconvolution(weight: np.ndarray, groups: int, stride: int, **options: object) -> Add:
    channels, per_group, *kernel = weight.shape
    options = {"border_mode": "valid"} | options
    return lambda b: b.add_convolution(
        "c", channels, per_group * groups, *kernel, stride, stride, groups=groups, W=weight.transpose(2, 3, 0, 1),
        b=None, has_bias=False, is_deconv=True, input_name="x", output_name="y", **options,
    )  # fmt: skip

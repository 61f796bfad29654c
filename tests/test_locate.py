"""Locating: a fault put into one stage of a file is found there, for every target; a sound file is not accused."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from mvit_deploy import images, runtimes
from mvit_deploy.locate import TOLERANCES, Trail, locate, stage_values, trail
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.report import Report
from mvit_deploy.runtimes import taps
from mvit_deploy.runtimes.coreml.package import read_specification
from tests.conftest import SIZE, sensitive

SUFFIXES = ("onnx", "mlpackage", "mlmodel", "tflite")
STAGES = ("stem", "layer_1", "layer_2", "layer_3", "layer_4", "layer_5", "head")


@pytest.fixture(scope="module")
def trails() -> dict[str, Trail]:
    chosen = images.verification_set(SIZE, seed=0)
    pixels = chosen.pixels[[chosen.kinds.index("photo"), chosen.kinds.index("noise")]]
    return {suffix: trail(sensitive("xxs", 5), pixels, f".{suffix}") for suffix in SUFFIXES}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_sound_file_is_not_accused(
    labelled: dict[str, Report], trails: dict[str, Trail], suffix: str, precision: str
) -> None:
    found = locate(labelled[f"{suffix} {precision}"].path, trails[suffix], tolerance=TOLERANCES[precision])

    assert (found.stage, found.operation) == (None, None)
    assert [stage.stage for stage in found.stages] == ["input", *STAGES]
    assert [stage.line for stage in found.stages] == sorted(stage.line for stage in found.stages)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("suffix", ["onnx", "mlmodel", "tflite"])
def test_a_negated_weight_is_found_in_its_stage(
    labelled: dict[str, Report], trails: dict[str, Trail], tmp_path: Path, suffix: str, stage: str
) -> None:
    """ML Programs have a mutation suite of their own."""
    path = Path(shutil.copy(labelled[f"{suffix} fp32"].path, tmp_path))
    negate_in(path, weight_of(stage))

    found = locate(path, trails[suffix], tolerance=TOLERANCES["fp32"], is_wrong=True)

    assert found.stage == stage
    assert found.operation is not None
    assert found.operation.type.lower().replace("_", "") in {
        "conv", "conv2d", "depthwiseconv2d", "convolution", "gemm", "matmul", "fullyconnected", "innerproduct",
        "batchedmatmul", "pad",  # TFLite pads in an operation of its own, which has no counterpart in PyTorch
    }  # fmt: skip


def test_a_fault_behind_the_logits_is_in_the_output(labelled: dict[str, Report], trails: dict[str, Trail]) -> None:
    found = locate(labelled["mlpackage fp32"].path, trails["mlpackage"], tolerance=1e-5, is_wrong=True)

    assert found.stage == "output"
    assert found.operation is not None
    assert found.operation.type == "softmax"


def test_stages_are_what_the_modules_own_parts_give() -> None:
    import torch

    model = sensitive("xxs", 5)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    found = stage_values(model, image)

    with torch.no_grad():
        stem = model.backbone.stem(image)
        layer_1 = model.backbone.layer_1(stem)
        logits = model(image)
    np.testing.assert_array_equal(found["input"], image.numpy())
    np.testing.assert_array_equal(found["stem"], stem.numpy())
    np.testing.assert_array_equal(found["layer_1"], layer_1.numpy())
    np.testing.assert_array_equal(found["head"], logits.numpy())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_taps_end_in_what_the_file_gives(labelled: dict[str, Report], suffix: str) -> None:
    path = labelled[f"{suffix} fp32"].path
    pixels = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    outputs = runtimes.open_file(path).run(pixels)
    numeric = next(v for v in outputs.values() if v.dtype.kind == "f")[0]

    tapped = taps.tap(path, pixels[0])

    nearest = min(
        np.abs(value.ravel() - numeric).max() for value in tapped.values.values() if value.size == numeric.size
    )
    assert nearest < 1e-5 * np.abs(numeric).max() + 1e-6
    given = set(tapped.inputs)
    for operation in tapped.operations:
        assert set(operation.inputs) <= given, operation
        given |= set(operation.outputs)


def weight_of(stage: str) -> np.ndarray:
    """A weight of the deployment form that every format stores in the same order of bytes."""
    model = fuse(sensitive("xxs", 5))
    parts = {**model.backbone.stages, "head": model.head}
    tensors = [p for name, p in parts[stage].named_parameters() if name.endswith("bias")]
    return max(tensors, key=lambda tensor: tensor.numel()).numpy()


def negate_in(path: Path, weight: np.ndarray) -> None:
    if path.suffix == ".onnx":
        model = onnx.load(path)
        same = [t for t in model.graph.initializer if np.array_equal(onnx.numpy_helper.to_array(t), weight)]
        same[0].CopyFrom(onnx.numpy_helper.from_array(-weight, same[0].name))
        onnx.save(model, path)
        return
    if path.suffix == ".mlmodel":
        spec = read_specification(path)
        path.write_bytes(negated(spec.SerializeToString(), weight))
        return
    path.write_bytes(negated(path.read_bytes(), weight))


def negated(content: bytes, weight: np.ndarray) -> bytes:
    assert content.count(weight.tobytes()) == 1
    return content.replace(weight.tobytes(), (-weight).tobytes())

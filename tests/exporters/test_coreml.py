"""Core ML files: few operations, ImageType, ClassifierConfig, fixed identifiers; read without coremltools."""

import json
from collections import Counter
from pathlib import Path

import pytest

import mvit_deploy
from mvit_deploy.report import Report
from mvit_deploy.runtimes.coreml import read_specification
from tests.conftest import LABELS, sensitive

UINT8_TO_UNIT = 1 / 255
SPECIFICATION_OF_IOS = {15: 6, 16: 7, 17: 8, 18: 9}


def operations(path: Path) -> list:
    (function,) = read_specification(path).mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    return list(block.operations)


def constants(path: Path) -> dict[str, float]:
    return {
        o.outputs[0].name: o.attributes["val"].immediateValue.tensor.floats.values[0]
        for o in operations(path)
        if o.type == "const" and o.attributes["val"].immediateValue.tensor.floats.values
    }


def test_xs_has_at_most_255_operations_of_rank_4_at_most(xs: dict[str, Path]) -> None:
    found = [o for o in operations(xs["mlpackage"]) if o.type != "const"]

    assert len(found) == 248  # the bar is 255; fewer is better, so a change either way is looked at
    assert max(output.type.tensorType.rank for o in found for output in o.outputs) <= 4
    assert not {"shape", "gather", "slice_by_index", "cond", "while_loop"} & {o.type for o in found}


def test_pixels_are_scaled_by_1_255_inside_the_program(xs: dict[str, Path]) -> None:
    first = next(o for o in operations(xs["mlpackage"]) if o.type == "mul")

    names = {a.name for argument in first.inputs.values() for a in argument.arguments}
    scale = [value for name, value in constants(xs["mlpackage"]).items() if name in names]
    assert "image" in names
    assert scale == [pytest.approx(UINT8_TO_UNIT, rel=1e-6)]


def test_a_classifier_ends_in_a_softmax_and_its_labels(labelled: dict[str, Report]) -> None:
    """Vision wants probabilities; Core ML's classify operation would take logits without a word."""
    path = labelled["mlpackage fp32"].path
    kinds = [o.type for o in operations(path) if o.type != "const"]
    description = read_specification(path).description

    assert kinds[-2:] == ["softmax", "classify"]
    assert description.predictedFeatureName == "classLabel"
    assert description.predictedProbabilitiesName == "classLabel_probs"


def test_the_classic_format_ends_alike(labelled: dict[str, Report]) -> None:
    spec = read_specification(labelled["mlmodel fp16"].path)

    assert spec.WhichOneof("Type") == "neuralNetworkClassifier"
    assert tuple(spec.neuralNetworkClassifier.stringClassLabels.vector) == LABELS
    assert spec.neuralNetworkClassifier.preprocessing[0].scaler.channelScale == pytest.approx(UINT8_TO_UNIT)
    assert spec.neuralNetworkClassifier.layers[-1].WhichOneof("layer") in ("softmax", "softmaxND")
    weights = [
        layer.convolution.weights for layer in spec.neuralNetworkClassifier.layers if layer.HasField("convolution")
    ]
    assert all(w.float16Value and not w.floatValue for w in weights)


@pytest.mark.parametrize(
    "ios", [pytest.param(i, marks=[pytest.mark.slow] * (i in (16, 17))) for i in SPECIFICATION_OF_IOS]
)
def test_the_minimum_ios_fixes_the_specification_version(tmp_path: Path, ios: int) -> None:
    (found,) = mvit_deploy.export(sensitive("xxs", 5), target="coreml", min_ios=ios, image_size=64, output=tmp_path)

    assert read_specification(found.path).specificationVersion == SPECIFICATION_OF_IOS[ios]
    assert found.content["artifact"]["min_ios"] == ios


@pytest.mark.parametrize(("size", "ios"), [((64, 64), 13), ((64, 96), 14)])
def test_the_classic_format_says_itself_what_it_needs(tmp_path: Path, size: tuple[int, int], ios: int) -> None:
    """iOS 14 where a block resizes its map: its specification is 5, of iOS 13 it is 4."""
    (found,) = mvit_deploy.export(
        sensitive("xxs", 5), target="coreml", format="mlmodel", image_size=size, output=tmp_path
    )

    assert read_specification(found.path).specificationVersion == ios - 9
    assert found.content["artifact"]["min_ios"] == ios


def test_without_labels_the_output_is_a_float_array_of_logits(tmp_path: Path) -> None:
    for form in ("mlpackage", "mlmodel"):
        (found,) = mvit_deploy.export(sensitive("xxs", 5), target="coreml", format=form, image_size=64, output=tmp_path)
        (output,) = found.content["artifact"]["outputs"]
        assert (output["name"], output["shape"], output["dtype"]) == ("logits", (1, 5), "float32")


def test_identifiers_in_the_manifest_are_fixed(labelled: dict[str, Report]) -> None:
    manifests = [json.loads((labelled[f"mlpackage {p}"].path / "Manifest.json").read_text()) for p in ("fp32", "fp16")]

    assert manifests[0] == manifests[1]
    assert manifests[0]["rootModelIdentifier"] in manifests[0]["itemInfoEntries"]


def test_fp16_computes_in_half_precision(labelled: dict[str, Report]) -> None:
    dtypes = Counter(
        output.type.tensorType.dataType
        for o in operations(labelled["mlpackage fp16"].path)
        if o.type in ("conv", "linear", "matmul", "layer_norm", "softmax")
        for output in o.outputs
    )

    float16 = 10  # MIL.proto DataType
    assert set(dtypes) == {float16}

"""The lists and the counts against the platforms' own libraries, on files of our own."""

import re
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter

import mvit_deploy
from mvit_deploy.lint import ERROR, lint, supported
from mvit_deploy.lint.rules import NNAPI, NNAPI_EP, TFLITE_GPU, WARNING, XNNPACK
from mvit_deploy.report import Report
from mvit_deploy.runtimes.coreml.package import network_of, read_specification
from tests.conftest import SIZE, sensitive
from tests.lint.crafted import Step, tflite

DOCUMENTS = Path(onnxruntime.__file__).parent / "tools" / "mobile_helpers"
RELEASE_OF_THE_LISTS = (1, 23)


def documented(name: str) -> set[str]:
    """The operators of one of the lists that onnxruntime brings along for its usability checker."""
    rows = re.findall(r"^\|([\w.]+)[:.](\w+)\|", (DOCUMENTS / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    names = {operator if domain == "ai.onnx" else f"{domain}:{operator}" for domain, operator in rows}
    return {"ArgMax" if name == "Argmax" else name for name in names}


@pytest.mark.parametrize(
    ("document", "taken"),
    [
        ("nnapi_supported_ops.md", supported.NNAPI_EP),
        ("coreml_supported_mlprogram_ops.md", supported.COREML_EP),
    ],
)
def test_the_lists_of_execution_providers_are_onnx_runtimes(document: str, taken: frozenset[str]) -> None:
    """Of that release; a later one may take more and should have the list brought up to it."""
    named = documented(document)

    assert len(named) > 30
    assert taken <= named
    installed = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    assert taken == named or installed > RELEASE_OF_THE_LISTS


def test_what_the_guides_list_is_what_the_code_takes() -> None:
    """Guides and READMEs are older than the code, and name operators that it takes all the same."""
    assert supported.GPU_DOCUMENTED < supported.GPU
    assert supported.XNNPACK_DOCUMENTED < supported.XNNPACK


@pytest.mark.parametrize("type_", ["ARG_MAX", "EXPAND_DIMS", "GATHER_ND", "L2_NORMALIZATION", "SHAPE", "SQUEEZE"])
def test_what_people_found_off_the_gpu_is_refused(type_: str, tmp_path: Path) -> None:
    """Each has no case in gpu_compatibility.cc. The Python analyzer is no judge, its wheels lack the check."""
    assert lint(tflite(tmp_path, Step(type_))).consumers[TFLITE_GPU].taken == 0


def test_sixteen_bit_activations_are_what_the_gpu_does_not_take_of_our_files(labelled: dict[str, Report]) -> None:
    for name, report in labelled.items():
        if name.startswith("tflite"):
            consumer = lint(report.path).consumers[TFLITE_GPU]

            assert consumer.blocked_by == (("gpu-type",) if name == "tflite w8a16" else ()), name
            assert (consumer.taken < consumer.of) == (name == "tflite w8a16")


def delegated(path: Path) -> tuple[int, list[dict]]:
    """How many parts XNNPACK takes of a file in LiteRT, and the operators whose results a part reads from outside."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    details = interpreter._get_ops_details()
    parts = [operator for operator in details if operator["op_name"] == "DELEGATE"]
    own = {int(index) for part in parts for index in part["outputs"]}
    read = {int(index) for part in parts for index in part["inputs"]} - own
    outside = [o for o in details if o["op_name"] != "DELEGATE" and read & {int(index) for index in o["outputs"]}]
    return len(parts), outside


@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8", "w8a16", "w8a8"])
def test_litert_hands_xnnpack_what_is_said_here(precision: str, labelled: dict[str, Report]) -> None:
    path = labelled[f"tflite {precision}"].path
    consumer = lint(path).consumers[XNNPACK]

    parts, outside = delegated(path)

    if precision == "w8a16":  # sixteen-bit products stand between many parts, and each is left by a DEQUANTIZE
        assert consumer.taken < consumer.of
        assert parts > 10
        assert {operator["op_name"] for operator in outside} == {"DEQUANTIZE"}
    else:
        assert consumer.taken == consumer.of
        assert (parts, outside) == (1, [])


# Our own files


def test_our_own_files_have_no_error(labelled: dict[str, Report]) -> None:
    found = {name: lint(report.path).of(ERROR) for name, report in labelled.items()}

    assert len(found) > 12
    assert not any(found.values()), found


def test_float_files_run_on_the_gpu_and_on_nnapi_as_a_whole(labelled: dict[str, Report]) -> None:
    for precision in ("fp32", "fp16"):
        result = lint(labelled[f"tflite {precision}"].path)

        assert result.of(WARNING) == ()
        assert result.consumers[TFLITE_GPU].taken == result.consumers[NNAPI].taken == result.consumers[NNAPI].of


def test_half_precision_is_what_brings_core_ml_to_the_neural_engine(labelled: dict[str, Report]) -> None:
    shares = {
        p: lint(labelled[f"mlpackage {p}"].path).consumers["Core ML on the Neural Engine"] for p in ("fp32", "fp16")
    }

    assert shares["fp32"].taken <= 1  # an operation that gives names, of a classifier with labels
    assert shares["fp16"].of - shares["fp16"].taken == 1  # the scale of the image, before the cast
    assert shares["fp32"].blocked_by == shares["fp16"].blocked_by == ("ane-float32",)


def test_nnapi_takes_nothing_of_a_half_precision_onnx_file(labelled: dict[str, Report]) -> None:
    result = lint(labelled["onnx fp16"].path)

    assert result.consumers[NNAPI_EP].taken == 0
    assert "nnapi-ep-type" in result.consumers[NNAPI_EP].blocked_by


def test_detectors_have_no_error(tmp_path: Path) -> None:
    """Detections have no fixed number, which is expected of them."""
    options = {"image_size": SIZE, "task": "detection", "nms": True, "output": tmp_path, "seed": 0}
    (report,) = mvit_deploy.export("xxs", target="onnx", **options)

    result = lint(report.path)

    assert result.of(ERROR) == ()
    assert "detections-size" in {finding.rule.id for finding in result.findings}


def test_a_free_batch_is_a_warning(tmp_path: Path) -> None:
    (report,) = mvit_deploy.export(
        sensitive("xxs", 5), target="onnx", image_size=SIZE, dynamic_batch=True, output=tmp_path
    )

    result = lint(report.path)

    assert result.of(ERROR) == ()
    assert "onnx-free-batch" in {finding.rule.id for finding in result.of(WARNING)}


def counted(path: Path) -> Counter[str]:
    """The operators of a file by type, as its own library lists them."""
    if path.suffix == ".onnx":
        return Counter(node.op_type for node in onnx.load(path).graph.node)
    if path.suffix == ".tflite":
        interpreter = Interpreter(str(path))
        return Counter(operator["op_name"] for operator in interpreter._get_ops_details())
    function = network_of(read_specification(path)).mlProgram.functions["main"]
    return Counter(operation.type for operation in function.block_specializations[function.opset].operations)


@pytest.mark.parametrize(
    ("suffix", "transpose", "reshape", "constants"),
    [
        ("onnx", "Transpose", "Reshape", {"Constant"}),
        ("tflite", "TRANSPOSE", "RESHAPE", {"DELEGATE"}),
        ("mlpackage", "transpose", "reshape", {"const"}),
    ],
)
def test_transposes_and_reshapes_are_those_of_the_file(
    suffix: str, transpose: str, reshape: str, constants: set[str], xs: dict[str, Path]
) -> None:
    result, by_hand = lint(xs[suffix]), counted(xs[suffix])

    assert (result.transposes, result.reshapes) == (by_hand[transpose], by_hand[reshape])
    assert result.transposes >= 9 * 3  # nine transformer layers, whose heads are turned to the front and back
    assert result.operators == {type_: count for type_, count in by_hand.items() if type_ not in constants}
    total = sum(result.operators.values())
    assert result.data_movement_fraction == (result.transposes + result.reshapes) / total

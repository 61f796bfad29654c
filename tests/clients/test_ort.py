"""ONNX Runtime's own tools for phones take our files: .ort conversion, and the checker of mobile usability."""

import logging
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnxruntime.tools.mobile_helpers import usability_checker

import mvit_deploy
from mvit_deploy.images import builtin_photos
from tests.clients import onnx_edits
from tests.clients.conftest import SIDE

# To the largest number that is given. A conversion changes the order of sums, not the numbers; of fp16 it leaves other
# values in float32 than a session on the .onnx file does.
TOLERANCES = {"fp32": 1e-5, "fp16": 1e-3, "w8": 1e-5, "w8a16": 1e-5, "w8a8": 1e-5}
every_precision = pytest.mark.parametrize(
    "precision", ["fp32", "w8a8", *(pytest.param(word, marks=pytest.mark.slow) for word in ("fp16", "w8", "w8a16"))]
)


def tool(name: str, *arguments: object) -> str:
    """What a tool of onnxruntime says; a library that it lacks is an error here, and its name is in the message."""
    command = [sys.executable, "-m", f"onnxruntime.tools.{name}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def converted(path: Path, folder: Path, style: str = "Fixed") -> Path:
    tool("convert_onnx_models_to_ort", path, "--output_dir", folder, "--optimization_style", style)
    (found,) = folder.glob("*.ort")
    return found


def session(path: Path, model_format: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.load_model_format", model_format)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def tensors(side: int = SIDE) -> list[np.ndarray]:
    """The built-in photos as our files take them: (1, 3, side, side), RGB, [0, 1]."""
    return [each.transpose(2, 0, 1)[None].astype(np.float32) / 255 for each in builtin_photos((side, side)).pixels]


def outputs(path: Path, model_format: str, side: int = SIDE) -> list[list[np.ndarray]]:
    """Of each photo."""
    opened = session(path, model_format)
    return [opened.run(None, {"image": tensor}) for tensor in tensors(side)]


def are_equal(ort_file: Path, onnx_file: Path, tolerance: float) -> bool:
    """The same outputs on every photo."""
    return all(
        np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
        for both in zip(outputs(ort_file, "ORT"), outputs(onnx_file, "ONNX"), strict=True)
        for found, expected in zip(*both, strict=True)
    )


@pytest.fixture(scope="session")
def fp32_ort(fp32_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(fp32_file, tmp_path_factory.mktemp("ort"))


@every_precision
def test_an_ort_file_gives_the_numbers_of_the_onnx_file(
    onnx_file: Path, tmp_path: Path, request: pytest.FixtureRequest, precision: str
) -> None:
    ort_file = request.getfixturevalue("fp32_ort") if precision == "fp32" else converted(onnx_file, tmp_path)

    assert are_equal(ort_file, onnx_file, TOLERANCES[precision])


def test_an_ort_file_says_of_itself_what_the_onnx_file_says(fp32_ort: Path, fp32_file: Path) -> None:
    found, expected = (
        session(path, model_format).get_modelmeta().custom_metadata_map
        for path, model_format in ((fp32_ort, "ORT"), (fp32_file, "ONNX"))
    )

    assert found == expected
    assert {"mvit_deploy.labels", "mvit_deploy.color_order", "mvit_deploy.value_range"} <= set(found)


def test_another_model_is_not_taken_for_the_same(fp32_ort: Path, fp32_file: Path, tmp_path: Path) -> None:
    other = onnx_edits.edited(fp32_file, tmp_path, onnx_edits.with_another_bias)

    assert not are_equal(fp32_ort, other, TOLERANCES["fp32"])


@pytest.mark.slow
def test_an_ort_file_for_nnapi_and_core_ml_gives_the_same(fp32_file: Path, tmp_path: Path) -> None:
    """The style that leaves what these may take to be optimized when it runs."""
    assert are_equal(converted(fp32_file, tmp_path, style="Runtime"), fp32_file, TOLERANCES["fp32"])


@pytest.mark.slow
def test_an_ort_file_of_a_detector_with_suppression_gives_the_same_detections(tmp_path: Path) -> None:
    """Their order apart: of scores that are equal but for rounding either may come first."""
    labels = tuple(f"class {number}" for number in range(7))
    options = {"task": "detection", "nms": True, "image_size": 128, "num_classes": 8, "labels": labels}
    (report,) = mvit_deploy.export("xxs", target="onnx", output=tmp_path, **options)
    assert report.exit_code == 0
    (tmp_path / "ort").mkdir()
    ort_file = converted(report.path, tmp_path / "ort")

    for both in zip(outputs(ort_file, "ORT", 128), outputs(report.path, "ONNX", 128), strict=True):
        found, expected = map(rows, both)
        distances = np.abs(found[:, None] - expected[None]).max(axis=2)
        assert found.shape == expected.shape
        assert len(found)
        assert max(distances.min(axis=0).max(), distances.min(axis=1).max()) <= 1e-5


def rows(detections: list[np.ndarray]) -> np.ndarray:
    """(n, 6): box, score and class of each detection, in the order of the outputs."""
    return np.concatenate([each.reshape(len(detections[0]), -1) for each in detections], axis=1)


# The checker ends with 0 whatever it finds, so that it passes if:
# - each of the three providers is judged, and none has a node that a dynamic shape or a rank keeps from it, which would
#   be our fault;
# - no operator is beyond the providers but those here, which the tables of ONNX Runtime 1.23 lack: a network with
#   LayerNormalization is never one part for NNAPI, integers never for Core ML;
# - an fp32 file is one part with every node for Core ML's ML programs, which is what is advised then.
SOFTMAX = {"Exp", "ReduceMax", "ReduceSum"}  # of fp16, taken apart: see the last test
INTEGERS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"}
BEYOND = {
    "NNAPI": {"LayerNormalization", "DynamicQuantizeLinear", "MatMulInteger", "ReduceMax", "ReduceSum"},
    "CoreML NeuralNetwork": {"LayerNormalization", "ReduceMean"} | SOFTMAX | INTEGERS,
    "CoreML MLProgram": {"Exp"} | INTEGERS,
}
ADVISED = {"fp32": "As NNAPI or CoreML may provide benefits with this model it is recommended to compare"}
OTHERWISE = "For optimal performance the model should be used with the CPU EP"


@cache
def checked(path: Path) -> str:
    return tool("check_onnx_model_mobile_usability", path)


def judged(said: str) -> dict[str, str]:
    """What the checker says of each provider."""
    return dict(re.findall(r"Checking (NNAPI|CoreML \w+)\n(.*?)={10}", said, re.DOTALL))


def operators_beyond(text: str) -> set[str]:
    listed = re.search(r"Unsupported ops: (.*)", text)
    return {name.removeprefix("ai.onnx:") for name in listed[1].split(",")} if listed else set()


@every_precision
def test_the_checker_of_mobile_usability_passes(onnx_file: Path, precision: str) -> None:
    said = checked(onnx_file)

    assert set(judged(said)) == set(BEYOND)
    for provider, text in judged(said).items():
        assert operators_beyond(text) <= BEYOND[provider], provider
        assert "dynamic shape" not in text
        assert "Unsupported nodes due to rank" not in text
    assert ADVISED.get(precision, OTHERWISE) in said


def test_an_fp32_file_is_one_part_for_core_mls_ml_programs(fp32_file: Path) -> None:
    text = judged(checked(fp32_file))["CoreML MLProgram"]

    assert "one partition covering 100.0% of the nodes" in text
    assert "perform well with CoreML MLProgram as is: YES" in text


@pytest.mark.slow
def test_the_checker_sees_a_dynamic_shape(fp32_file: Path, tmp_path: Path) -> None:
    """What the test above takes for a fault does show."""
    path = onnx_edits.edited(fp32_file, tmp_path, onnx_edits.with_free_size)

    said = checked(path)

    assert all("dynamic shape" in text for text in judged(said).values())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16"])
def test_fp16_is_one_part_for_ml_programs_until_the_checker_optimizes_it_for_this_cpu(
    onnx_file: Path, precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    """On a CPU without a softmax in fp16 ONNX Runtime takes it apart, into an Exp that its table for Core ML lacks."""
    logger = logging.getLogger("checker")
    with caplog.at_level(logging.INFO, logger.name):
        usability_checker.analyze_model(onnx_file, skip_optimize=True, logger=logger)

    text = judged("\n".join(caplog.messages))["CoreML MLProgram"]
    assert operators_beyond(text) == {"Constant"}  # folded into what reads them before a provider is asked
    assert "perform well with CoreML MLProgram as is: YES" in text

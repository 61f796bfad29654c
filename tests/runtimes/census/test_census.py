"""What holds for a count of any target."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from exporters import TARGETS
from mvit_deploy.errors import UsageError
from mvit_deploy.runtimes import census as package
from mvit_deploy.runtimes.census import KINDS, Census, MacOperation, StoredWeight, census

OPERATIONS = tuple(MacOperation(f"layer {kind}", "Conv", kind, 2**n, 10, 8) for n, kind in enumerate(KINDS))
WEIGHTS = (
    StoredWeight("kernel", 60, 8, is_integer=True),
    StoredWeight("bias", 10, 32, is_integer=True),
    StoredWeight("affine", 20, 32, is_integer=False),
    StoredWeight("palette", 10, 4, is_integer=False),
)
COUNTED = Census("by hand", OPERATIONS, WEIGHTS, {"Softmax": 2}, {"Add": 3}, {}, 4)


def test_only_the_kind_int8_is_the_headline() -> None:
    assert [operation.name for operation in OPERATIONS if operation.integer] == ["layer int8"]
    assert (COUNTED.macs, COUNTED.int8_macs) == (31, 1)
    assert COUNTED.int8_macs_fraction == 1 / 31
    assert (COUNTED.macs_of("int16"), COUNTED.macs_of("dynamic")) == (2, 4)


def test_weight_only_operations_run_in_float() -> None:
    assert [operation.name for operation in COUNTED.kept_float] == ["layer weight-only", "layer float"]


def test_the_weight_fraction_is_of_elements() -> None:
    assert COUNTED.weight_fraction == 60 / 100
    assert COUNTED.int8_weight_bytes == 60
    assert COUNTED.weight_bytes == 60 + 40 + 80 + 5


def test_a_file_without_operations_has_no_shares() -> None:
    empty = Census("by hand", (), ())

    assert (empty.int8_macs_fraction, empty.weight_fraction, empty.kept_float) == (0.0, 0.0, ())


def test_json_says_all_of_it() -> None:
    content = json.loads(json.dumps(COUNTED.to_json(), allow_nan=False))

    assert content["kept_float"] == [
        {"name": "layer weight-only", "kind": "weight-only", "macs_fraction": 8 / 31},
        {"name": "layer float", "kind": "float", "macs_fraction": 16 / 31},
    ]
    assert (content["int8_macs"], content["int16_macs"], content["dynamic_macs"]) == (1, 2, 4)
    assert content["weight_fraction"] == 0.6
    assert content["operations"][0] == {
        "name": "layer int8", "type": "Conv", "kind": "int8", "integer": True, "macs": 1, "weight_bytes": 10,
        "weight_bits": 8,
    }  # fmt: skip
    assert (content["float_operators"], content["int8_operators"], content["conversions"]) == (
        {"Softmax": 2},
        {"Add": 3},
        4,
    )


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="int4"):
        MacOperation("layer", "Conv", "int4", 1, 1, 4)


def test_a_file_of_no_target_is_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.pt"):
        census(Path("model.pt"))


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_the_same_verb(target: str) -> None:
    tree = ast.parse((Path(package.__file__).parent / f"{target}.py").read_text(encoding="utf-8"))
    functions = {node.name: [a.arg for a in node.args.args] for node in tree.body if isinstance(node, ast.FunctionDef)}

    assert functions["census"] == ["path"]


@pytest.mark.parametrize(
    ("target", "allowed"), [("onnx", {"onnx", "onnxruntime"}), ("tflite", {"ai_edge_litert"}), ("coreml", set())]
)
def test_a_count_loads_light_libraries_only(target: str, allowed: set[str]) -> None:
    heavy = {"torch", "onnx", "onnxruntime", "coremltools", "onnx2tf", "tensorflow", "tf_keras", "ai_edge_litert"}
    code = (
        f"import sys, mvit_deploy.runtimes.census.{target};"
        f"print(sorted(m for m in {sorted(heavy - allowed)!r} if m in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.splitlines()[-1] == "[]"

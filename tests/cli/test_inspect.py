"""mvit-inspect: what files say of themselves; expected values from other readers, the paper's table and hand."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from onnx import TensorProto
from rich.console import Console

from mvit_deploy import inspection
from mvit_deploy.cli import run_inspect
from mvit_deploy.cli.inspect import main
from mvit_deploy.report import Report, report_path, sha256_of
from mvit_deploy.runtimes.coreml.package import read_specification
from tests.cli import shipped
from tests.conftest import LABELS, SIZE, sensitive, without_library
from tests.exporters.test_contract import FILES

DAMAGED, USAGE, MISSING = 1, 2, 4
# Parameters of the xxs classifier with 1000 classes, and width of its features: mobilevit's table.
XXS, FEATURES = 1_272_024, 320
ONE_OF_EACH = ["onnx fp32", "tflite fp32", "mlpackage fp16", "mlmodel fp32"]
Captured = pytest.CaptureFixture[str]


def told(capfd: Captured, *arguments: object) -> tuple[int, list[dict[str, object]], str]:
    """Exit code, the array, and what a person reads."""
    capfd.readouterr()
    code = main([*map(str, arguments), "--json"])
    captured = capfd.readouterr()
    return code, json.loads(captured.out, parse_constant=pytest.fail), captured.err


@pytest.fixture(scope="module")
def inspected(labelled: dict[str, Report]) -> dict[str, inspection.Inspection]:
    return {name: inspection.inspect(labelled[name].path) for name in FILES}


@pytest.mark.parametrize("name", FILES)
def test_every_file_says_what_it_was_made_as(inspected: dict[str, inspection.Inspection], name: str) -> None:
    found = inspected[name].to_json()

    file_format, precision = name.split()
    assert (found["format"], found["precision"], found["labels"]) == (file_format, precision, LABELS)
    assert (found["declared"]["task"], found["declared"]["variant"]) == ("classification", "paper")
    (image,) = found["inputs"]
    sides = (1, 3, *SIZE) if file_format == "onnx" else (1, *SIZE, 3)
    assert (image["shape"], image["color_order"], image["range"]) == (sides, "RGB", (0.0, 1.0))
    assert found["declared"]["preprocessing"]["resize"] == 288
    assert {output["meaning"] for output in found["outputs"]} <= {"logits", "probabilities", "label"}
    assert (found["report"]["verdict"], found["report"]["fits"]) == ("match", True)
    expected_ios = {"mlpackage": "17" if precision == "w8a8" else "16", "mlmodel": "14"}.get(file_format)
    assert found["min_ios"] == expected_ios
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("name", FILES)
def test_digest_and_size_are_those_of_the_bytes(labelled: dict[str, Report], inspected: dict, name: str) -> None:
    path = labelled[name].path

    if path.is_file():
        content = path.read_bytes()
        assert (inspected[name].sha256, inspected[name].size_bytes) == (
            hashlib.sha256(content).hexdigest(), len(content),
        )  # fmt: skip
    else:
        assert inspected[name].size_bytes == sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        assert inspected[name].sha256 == sha256_of(path)


def test_parameters_are_those_of_the_table_less_what_is_folded(inspected: dict) -> None:
    """A BatchNorm has two parameters a channel, of which a bias is left; Core ML's LayerNorms lose theirs to the
    products behind them."""
    modules = list(sensitive("xxs", 5).modules())
    norms = sum(m.num_features for m in modules if isinstance(m, torch.nn.BatchNorm2d))
    layer_norms = sum(2 * m.normalized_shape[0] for m in modules if isinstance(m, torch.nn.LayerNorm))
    of_five = XXS - (1000 - len(LABELS)) * (FEATURES + 1)

    assert inspected["onnx fp32"].parameters == inspected["onnx fp16"].parameters == of_five - norms
    for name in ("mlpackage fp32", "mlpackage fp16"):
        assert inspected[name].parameters == of_five - norms - layer_norms


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("onnx")])
def test_onnx_weights_and_operators_are_those_that_onnx_counts(
    labelled: dict[str, Report], inspected: dict, name: str
) -> None:
    graph = onnx.load(str(labelled[name].path)).graph
    sizes = Counter()
    constants = [node.attribute[0].t for node in graph.node if node.op_type == "Constant"]
    for tensor in [*graph.initializer, *constants]:
        sizes[tensor.data_type] += int(np.prod(tensor.dims))

    found = inspected[name]
    assert found.anatomy.operators == Counter(node.op_type for node in graph.node if node.op_type != "Constant")
    opset = "21" if name == "onnx w8a16" else "18"  # whose QuantizeLinear takes 16 bits
    assert dict(found.anatomy.specification) == {"opset": opset, "IR": "8"}
    if name.endswith("fp16"):
        assert abs(found.weights["fp16"].elements - sizes[TensorProto.FLOAT16]) < 64  # scalars are none
    if name.endswith(("w8", "w8a16", "w8a8")):
        most = sizes[TensorProto.INT8] + sizes[TensorProto.UINT8]
        assert 0.99 * most < found.weights["int8"].elements <= most  # zero points are none
        assert found.weights["int8"].bytes == found.weights["int8"].elements


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("tflite")])
def test_tflite_weights_and_operators_are_those_of_the_flatbuffer(
    labelled: dict[str, Report], inspected: dict, name: str
) -> None:
    path, found = labelled[name].path, inspected[name]
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), experimental_op_resolver_type=resolver)
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (graph,) = model.subgraphs
    stored = {t.buffer: t for t in graph.tensors if model.buffers[t.buffer].data is not None}
    sizes = Counter()
    for tensor in stored.values():
        sizes[tensor.type] += int(np.prod(tensor.shape)) if tensor.shape is not None else 1

    assert found.anatomy.operators == Counter(detail["op_name"] for detail in interpreter._get_ops_details())
    word, number = ("int8", schema.TensorType.INT8) if "w8" in name else ("fp32", schema.TensorType.FLOAT32)
    if name.endswith("fp16"):
        word, number = "fp16", schema.TensorType.FLOAT16
    assert 0.99 * sizes[number] < found.weights[word].elements <= sizes[number]
    versions = {code.builtinCode: code.version for code in model.operatorCodes}
    assert found.anatomy.operator_versions["RESHAPE"] == (versions[schema.BuiltinOperator.RESHAPE],)


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("ml")])
def test_core_ml_operators_are_those_of_the_protobuf(labelled: dict[str, Report], inspected: dict, name: str) -> None:
    spec = read_specification(labelled[name].path)
    if spec.WhichOneof("Type") == "mlProgram":
        block = next(iter(spec.mlProgram.functions["main"].block_specializations.values()))
        expected = Counter(o.type for o in block.operations if o.type != "const")
    else:
        expected = Counter(layer.WhichOneof("layer") for layer in spec.neuralNetworkClassifier.layers)

    assert inspected[name].anatomy.operators == expected
    assert inspected[name].anatomy.native["preview_type"] == "imageClassifier"
    assert inspected[name].anatomy.labels == LABELS


@pytest.mark.parametrize("name", FILES)
def test_only_quantized_files_are_asked_what_is_int8(inspected: dict, name: str) -> None:
    int8 = inspected[name].to_json()["int8"]

    if name.endswith(("fp32", "fp16")):
        assert int8 is None
    else:
        assert int8["weight_fraction"] > 0.5
        assert (int8["int8_macs_fraction"] > 0) == name.endswith("w8a8")


def test_a_person_reads_the_contract_on_stderr_and_stdout_stays_empty(
    labelled: dict[str, Report], capfd: Captured
) -> None:
    assert main([str(labelled["mlpackage fp16"].path)]) == 0

    out, err = capfd.readouterr()
    assert out == ""
    for words in (
        "Core ML (.mlpackage), ML Program, specification 7", "iOS 16 and newer", "classification, fp16",
        "resize the short side to 288 pixels, bilinear, cut 256x256", '"resampling": "bilinear"',
        "none inside the file", "5: daisy, dandelion", "classLabel_probs: float32 1x5, probabilities",
        "preview type: imageClassifier", "match, judged by", "its sha256 is this file's",
    ):  # fmt: skip
        assert words in err


@pytest.mark.parametrize(
    ("name", "words"),
    [("tflite w8", "% on scales found anew in each run"), ("tflite w8a16", "% with 16-bit activations")],
)
def test_integer_arithmetic_that_is_not_int8_is_named(inspected: dict, name: str, words: str) -> None:
    assert words in dict(run_inspect.rows(inspected[name]))["int8"]


@pytest.mark.parametrize("width", [80, 136])
@pytest.mark.parametrize("name", ["tflite w8a8", "mlpackage fp16"])
def test_nothing_is_cut_off_in_a_narrow_terminal(labelled: dict[str, Report], name: str, width: int) -> None:
    path = labelled[name].path
    found = inspection.inspect(path)
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115

    run_inspect._show(Path(path.name), found, console)

    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert found.sha256 in "".join(text.split())


def test_labels_go_to_stdout_one_a_line(labelled: dict[str, Report], capfd: Captured) -> None:
    assert main([str(labelled["tflite fp32"].path), "--labels"]) == 0

    assert capfd.readouterr() == ("".join(f"{label}\n" for label in LABELS), "")


# Files of other tools


def test_a_foreign_graph_of_two_inputs_is_read_as_far_as_it_goes(tmp_path: Path, capfd: Captured) -> None:
    code, (found,), err = told(capfd, shipped.two_inputs(tmp_path / "two.onnx"))

    assert code == 0
    assert [(i["name"], i["shape"], i["dtype"]) for i in found["inputs"]] == [
        ("left", [-1, 4], "float32"), ("right", [3], "int64"),
    ]  # fmt: skip
    assert found["operators"] == {"MatMul": 1, "Add": 1, "com.microsoft:Inverse": 1}
    assert found["specification"] == {"opset": "17", "opset of com.microsoft": "1", "IR": "9"}
    assert (found["parameters"], found["weights"]) == (12, {"fp32": {"elements": 12, "bytes": 48}})
    assert (found["declared"], found["labels"], found["report"]) == (None, None, None)
    assert "says nothing of how photos are prepared" in err
    assert "by hand" in err


def test_what_a_file_says_cannot_colour_the_terminal(tmp_path: Path, capfd: Captured) -> None:
    _, _, err = told(capfd, shipped.two_inputs(tmp_path / "two.onnx"))

    assert "\x1b" not in err
    assert r"adds \x1b[31mred" in err


def test_a_foreign_graph_without_inputs_is_read(tmp_path: Path, capfd: Captured) -> None:
    code, (found,), err = told(capfd, shipped.no_inputs(tmp_path / "pi.onnx"))

    assert (code, found["inputs"], found["parameters"]) == (0, [], 0)
    assert "it has no input" in err


def test_a_core_ml_model_that_is_no_network_is_read(tmp_path: Path, capfd: Captured) -> None:
    code, (found,), err = told(capfd, shipped.regressor(tmp_path / "line.mlmodel"))

    assert (code, found["min_ios"], found["native"]["kind"]) == (0, "11", "glmRegressor")
    assert [(i["name"], i["dtype"]) for i in found["inputs"]] == [("a", "double"), ("b", "double"), ("c", "double")]
    assert found["weights_not_counted"] == "those of a glmRegressor are not counted"
    assert "author: somebody" in err


@pytest.mark.parametrize("name", [*ONE_OF_EACH, "onnx w8a8", "tflite w8a8"])
def test_a_file_stripped_of_its_metadata_still_shows_its_graph(
    labelled: dict[str, Report], inspected: dict, tmp_path: Path, capfd: Captured, name: str
) -> None:
    code, (found,), err = told(capfd, shipped.without_metadata(labelled[name].path, tmp_path))

    assert code == 0
    assert found["declared"] is None
    assert found["operators"] == dict(inspected[name].anatomy.operators)
    assert found["parameters"] == inspected[name].parameters
    assert [output["name"] for output in found["outputs"]] == [o["name"] for o in inspected[name].outputs]
    assert (found["int8"] is not None) == name.endswith("w8a8")
    assert "has no metadata of mvit-deploy" in err


def test_tflite_metadata_of_others_are_shown(labelled: dict[str, Report], tmp_path: Path, capfd: Captured) -> None:
    """What MediaPipe reads is there even where this project's own metadata are not."""
    content = shipped.parse(labelled["tflite fp32"].path.read_bytes())
    content.metadata = [entry for entry in content.metadata if entry.name != shipped.METADATA_NAME.encode()]
    path = tmp_path / "task.tflite"
    archive = labelled["tflite fp32"].path.read_bytes()  # the labels' file follows the model as a zip
    path.write_bytes(shipped.pack(content) + archive[archive.rindex(b"PK\x03\x04") :])

    code, (found,), err = told(capfd, path)

    assert (code, found["declared"], found["labels"]) == (0, None, list(LABELS))
    assert found["native"]["tflite_metadata"]["inputs"][0]["std"] == [255.0]
    assert "pixels are given as (pixel - 0) / 255, RGB" in err


# Damage


def _short(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _short_tensor(path: Path) -> None:
    model = onnx.load(str(path))
    tensor = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    tensor.raw_data = tensor.raw_data[:-4]
    onnx.save(model, str(path))


def _short_weights(path: Path) -> None:
    _short(next(path.rglob("weight.bin")))


def _no_manifest(path: Path) -> None:
    (path / "Manifest.json").unlink()


def _garbage(path: Path) -> None:
    path.write_bytes(b"no model at all")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE = [
    *((name, damage) for name in ("onnx fp32", "tflite fp32", "mlmodel fp32") for damage in (_short, _garbage, _empty)),
    ("onnx fp32", _short_tensor),
    ("mlpackage fp16", _short_weights),
    ("mlpackage fp16", _no_manifest),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGE, ids=lambda each: getattr(each, "__name__", each))
@pytest.mark.parametrize("is_foreign", [False, True], ids=["ours", "foreign"])
def test_a_damaged_file_is_exit_1_and_the_others_are_told(
    labelled: dict[str, Report], tmp_path: Path, capfd: Captured, name: str, damage: object, is_foreign: bool
) -> None:
    source = labelled[name].path
    path = shipped.without_metadata(source, tmp_path) if is_foreign else tmp_path / source.name
    if not is_foreign:
        shipped._copy(source, path)
    damage(path)

    code, (broken, sound), err = told(capfd, path, labelled["onnx fp16"].path)

    assert code == DAMAGED
    assert (broken["exit_code"], sound["exit_code"], sound["precision"]) == (1, 0, "fp16")
    assert broken["error"] in err.replace("\n", "")


def test_metadata_that_contradict_themselves_are_damage(
    labelled: dict[str, Report], tmp_path: Path, capfd: Captured
) -> None:
    path = shipped.saying(labelled["onnx fp32"].path, tmp_path / "x.onnx", color_order="purple")

    code, (found,), _ = told(capfd, path)

    assert (code, "purple" in found["error"]) == (DAMAGED, True)


def test_a_file_whose_weights_stand_elsewhere_needs_them_beside_it(
    labelled: dict[str, Report], tmp_path: Path, capfd: Captured
) -> None:
    model, path = onnx.load(str(labelled["onnx fp32"].path)), tmp_path / "x.onnx"
    del model.metadata_props[:]
    onnx.save(model, str(path), save_as_external_data=True, location="x.bin")
    assert told(capfd, path)[1][0]["external_data"] == ["x.bin"]

    (tmp_path / "x.bin").unlink()

    code, (found,), _ = told(capfd, path)
    assert (code, "x.bin" in found["error"]) == (DAMAGED, True)


# The report beside it


def test_a_report_of_another_file_is_said_to_be_one(
    labelled: dict[str, Report], tmp_path: Path, capfd: Captured
) -> None:
    path = shipped.saying(labelled["onnx fp32"].path, tmp_path / "x.onnx", version="9")
    content = json.loads(report_path(labelled["onnx fp32"].path).read_text())
    report_path(path).write_text(json.dumps(content))

    code, (found,), err = told(capfd, path)

    assert (code, found["report"]["fits"], found["report"]["verdict"]) == (0, False, "match")
    assert "DESCRIBES ANOTHER FILE" in err


def test_a_report_that_is_none_is_said(labelled: dict[str, Report], tmp_path: Path, capfd: Captured) -> None:
    path = shipped.saying(labelled["onnx fp32"].path, tmp_path / "x.onnx")
    report_path(path).write_text("[1, 2")

    code, (found,), err = told(capfd, path)

    assert (code, found["report"]["verdict"]) == (0, None)
    assert "cannot be read" in err


# The command line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "one or more files"),
        (["nowhere.onnx"], "there is no file nowhere.onnx"),
        (["model.onx"], "not a file of a known target; known: .onnx"),
        (["a.onnx", "b.onnx", "--labels"], "--labels prints those of one file"),
        (["a.onnx", "--lables"], "--labels"),
    ],
)
def test_misuse_is_exit_2_and_json_stays_an_array(arguments: list[str], words: str, capfd: Captured) -> None:
    code, entries, err = told(capfd, *arguments)

    assert (code, entries) == (USAGE, [])
    assert words in err


def test_labels_of_a_file_without_any_are_a_usage_error(tmp_path: Path, capfd: Captured) -> None:
    assert main([str(shipped.two_inputs(tmp_path / "two.onnx")), "--labels"]) == USAGE

    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "has no labels" in err


def test_a_missing_library_names_its_extra(tmp_path: Path) -> None:
    result = without_library("onnx", "inspect", shipped.two_inputs(tmp_path / "two.onnx"))

    assert (result.returncode, "mvit-deploy[onnx]" in result.stderr) == (MISSING, True)


def test_neither_pytorch_nor_a_converter_is_loaded(labelled: dict[str, Report]) -> None:
    names = [*ONE_OF_EACH, "onnx w8a8", "tflite w8a8", "mlpackage w8a8"]
    heavy = ["torch", "tensorflow", "tf_keras", "onnx2tf", "coremltools", "matplotlib"]
    code = (
        "import sys; from mvit_deploy.cli.inspect import main;"
        f"code = main({[*(str(labelled[name].path) for name in names), '--json']!r});"
        f"print([m for m in {heavy} if m in sys.modules], code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.splitlines()[-1] == "[] 0"

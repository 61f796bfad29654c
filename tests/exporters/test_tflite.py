"""TFLite files: built-in operators, few transposes, one delegate partition."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from exporters import tflite
from mvit_deploy import images
from mvit_deploy.nn.patches import fold_channels_last, unfold_channels_last
from mvit_deploy.report import Report
from mvit_deploy.runtimes.tflite import open_file
from mvit_deploy.runtimes.tflite_file import METADATA_NAME, add_metadata, read_metadata
from mvit_deploy.spec import Contract, Output, Settings

NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def graph_of(path: Path) -> tuple[Counter, int]:
    """Operators by name and the highest rank of a tensor."""
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    codes = [model.OperatorCodes(graph.Operators(i).OpcodeIndex()) for i in range(graph.OperatorsLength())]
    names = Counter(NAMES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes)
    return names, max(graph.Tensors(i).ShapeLength() for i in range(graph.TensorsLength()))


def test_xs_has_370_operators_and_30_transposes(xs: dict[str, Path]) -> None:
    operators, rank = graph_of(xs["tflite"])

    assert sum(operators.values()) == 370  # the bar is 485; fewer is better, so a change either way is looked at
    assert operators["TRANSPOSE"] == 30  # the bar is 36
    assert operators["RESHAPE"] == 30
    assert not {"CUSTOM", "DELEGATE", "SHAPE", "STRIDED_SLICE", "GATHER", "WHILE", "IF"} & set(operators)
    assert rank <= 4


@pytest.mark.parametrize("name", ["xs", "labelled fp16"])
def test_xnnpack_takes_the_whole_graph_in_one_partition(
    xs: dict[str, Path], labelled: dict[str, Report], name: str
) -> None:
    path = xs["tflite"] if name == "xs" else labelled["tflite fp16"].path
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()

    executed = Counter(op["op_name"] for op in interpreter._get_ops_details())
    assert executed["DELEGATE"] == 1


def test_it_has_the_signature_serving_default_and_readable_tensor_names(xs: dict[str, Path]) -> None:
    interpreter = Interpreter(model_path=str(xs["tflite"]))

    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["logits"]}}
    assert [d["name"] for d in interpreter.get_input_details()] == ["image"]
    assert [d["name"] for d in interpreter.get_output_details()] == ["logits"]


def test_input_and_output_are_float32_in_fp16_too(labelled: dict[str, Report]) -> None:
    interpreter = Interpreter(model_path=str(labelled["tflite fp16"].path))

    details = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    assert {d["dtype"] for d in details} == {np.float32}


def test_labels_and_contract_are_in_the_metadata(labelled: dict[str, Report]) -> None:
    entries = json.loads(read_metadata(labelled["tflite fp32"].path.read_bytes(), METADATA_NAME))

    assert json.loads(entries["mvit_deploy.labels"])[0] == "daisy"
    assert entries["mvit_deploy.color_order"] == "RGB"


@given(payload=st.binary(max_size=200), name=st.text("abc", min_size=1, max_size=5))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_metadata_come_back_as_they_went_in(tiny: bytes, payload: bytes, name: str) -> None:
    changed = add_metadata(add_metadata(tiny, name, b"older"), name, payload)

    assert read_metadata(changed, name) == payload
    assert read_metadata(changed, name + "x") is None


@pytest.fixture(scope="module")
def tiny(labelled: dict[str, Report]) -> bytes:
    """A model without weights to speak of."""
    model = schema.ModelT.InitFromPackedBuf(labelled["tflite fp16"].path.read_bytes(), 0)
    model.subgraphs, model.buffers, model.signatureDefs = [], model.buffers[:1], []
    from mvit_deploy.runtimes.tflite_file import pack

    return pack(model)


def test_weights_lie_on_aligned_addresses(labelled: dict[str, Report]) -> None:
    """The schema asks for 16 bytes; the Python writer does not see to it by itself."""
    content = labelled["tflite fp32"].path.read_bytes()
    model = schema.Model.GetRootAs(content, 0)
    whole = np.frombuffer(content, np.uint8)

    starts = [
        model.Buffers(i).DataAsNumpy().ctypes.data - whole.ctypes.data
        for i in range(model.BuffersLength())
        if model.Buffers(i).DataLength()
    ]
    assert len(starts) > 100
    assert all(start % 16 == 0 for start in starts)


class Cube(nn.Module):
    """Tokens of a map with as many channels as rows and columns, as xxs at 512x512 has (64 of 64x64)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.tokens, self.last = nn.Conv2d(3, 16, 3, 2, 1), nn.Linear(16, 16), nn.Conv2d(16, 6, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.tokens(unfold_channels_last(self.first(image), (2, 2)))
        return self.last(fold_channels_last(tokens, (16, 16), (2, 2)))


def test_the_axes_of_a_cube_are_told_apart(tmp_path: Path) -> None:
    """onnx2tf takes every tensor whose axes are alike for channels-last."""
    module, size, path = Cube().eval(), (32, 32), tmp_path / "a.tflite"
    contract = Contract("xxs", "classification", "paper", size, (Output("features", (6, 16, 16)),))

    tflite.write(tflite.lower(module, contract, Settings("tflite")), "fp32", path)

    pixels = images.builtin_photos(size).pixels
    found = open_file(path).run(pixels)["features"].transpose(0, 3, 1, 2)
    with torch.no_grad():
        expected = module(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).numpy()
    assert abs(found - expected).max() <= 1e-5 * abs(expected).max()

"""ONNX files: one file, small, static, old enough for phones."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

import mvit_deploy
from tests.conftest import sensitive

DYNAMIC = {"Shape", "Gather", "Slice", "If", "Loop", "NonZero", "Range", "Size"}


def operators(path: Path) -> Counter:
    counts = Counter(node.op_type for node in onnx.load(path).graph.node)
    del counts["Constant"]
    return counts


def test_xs_has_at_most_330_nodes_and_none_that_is_dynamic(xs: dict[str, Path]) -> None:
    found = operators(xs["onnx"])

    assert sum(found.values()) == 326  # the bar is 330; fewer is better, so a change either way is looked at
    assert not set(found) & (DYNAMIC | {"Resize"})


def test_the_file_is_one_opset_18_ir_8_and_passes_the_full_check(xs: dict[str, Path]) -> None:
    model = onnx.load(xs["onnx"], load_external_data=False)

    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version in (17, 18)
    assert model.ir_version <= 10
    assert not any(t.external_data for t in model.graph.initializer)
    assert [p.name for p in xs["onnx"].parent.glob("*.onnx*")].count(xs["onnx"].name) == 1


def test_every_tensor_has_a_static_shape_of_rank_4_at_most(xs: dict[str, Path]) -> None:
    graph = onnx.load(xs["onnx"]).graph

    values = [*graph.value_info, *graph.input, *graph.output]
    assert len(values) > 300
    for value in values:
        sides = value.type.tensor_type.shape.dim
        assert len(sides) <= 4, value.name
        assert all(side.dim_value > 0 for side in sides), value.name


@pytest.mark.parametrize("size", [(64, 96), (224, 224)])
def test_a_free_batch_adds_no_operator_and_runs_at_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    """At 224 px the resize inside the block must not ask for the batch either."""
    model = sensitive("xxs", 5)
    options = {"target": "onnx", "image_size": size}
    (fixed,) = mvit_deploy.export(model, output=tmp_path / "fixed", **options)
    (free,) = mvit_deploy.export(model, output=tmp_path / "free", dynamic_batch=True, **options)

    assert free.verdict == "match", free.reason
    assert operators(free.path).keys() == operators(fixed.path).keys()
    assert not set(operators(free.path)) & DYNAMIC
    session = onnxruntime.InferenceSession(free.path, providers=["CPUExecutionProvider"])
    batch = np.random.default_rng(0).random((5, 3, *size), dtype=np.float32)
    together = session.run(None, {"image": batch})[0]
    apart = np.concatenate([session.run(None, {"image": image[None]})[0] for image in batch])
    assert np.allclose(together, apart, atol=1e-4)


def test_labels_and_contract_are_in_the_metadata(tmp_path: Path) -> None:
    labels = ("ä", "b c", '"q"')
    (found,) = mvit_deploy.export(sensitive("xxs", 3), target="onnx", labels=labels, image_size=64, output=tmp_path)

    entries = {p.key: p.value for p in onnx.load(found.path).metadata_props}
    assert entries["mvit_deploy.labels"] == '["ä", "b c", "\\"q\\""]'
    assert entries["mvit_deploy.color_order"] == "RGB"
    assert entries["mvit_deploy.value_range"] == "[0.0, 1.0]"


def test_the_reference_evaluator_of_onnx_agrees(tmp_path: Path) -> None:
    """A second reading of the file, without onnxruntime's fusions."""
    (found,) = mvit_deploy.export(sensitive("xxs", 3), target="onnx", image_size=32, output=tmp_path)
    image = np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)

    evaluated = ReferenceEvaluator(str(found.path)).run(None, {"image": image})[0]
    session = onnxruntime.InferenceSession(found.path, providers=["CPUExecutionProvider"])

    expected = session.run(None, {"image": image})[0]
    assert np.abs(evaluated - expected).max() / np.abs(expected).max() < 1e-5

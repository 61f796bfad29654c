"""The fp16 audit on the hazards that users of Core ML report, each made from a torch module by plain coremltools."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import exporters.coreml  # noqa: F401  keeps coremltools from importing TensorFlow
from mvit_deploy.runtimes.coreml.audit import Audit, Finding, audited_run
from mvit_deploy.runtimes.coreml.evaluator import Evaluator
from mvit_deploy.runtimes.coreml.package import read_specification, weights_folder
from mvit_deploy.runtimes.coreml.program import Program, read_program


class Lambda(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def program_of(tmp_path: Path, module: nn.Module, shape: tuple[int, ...], precision: str = "FLOAT16") -> Program:
    import coremltools as ct

    traced = torch.jit.trace(module.eval(), torch.ones(shape), check_trace=False)
    model = ct.convert(
        traced,
        inputs=[ct.TensorType("x", shape)],
        outputs=[ct.TensorType("y")],
        compute_precision=getattr(ct.precision, precision),
        minimum_deployment_target=ct.target.iOS16,
        skip_model_load=True,
    )
    path = tmp_path / "model.mlpackage"
    model.save(str(path))
    return read_program(read_specification(path), weights_folder(path))


def audit(program: Program, *inputs: np.ndarray) -> Audit:
    _, found = audited_run(program, [{"x": x.astype(np.float32)} for x in inputs])
    assert found is not None
    return found


def kinds(found: Audit, severity: str = "fault") -> set[str]:
    return {finding.kind for finding in found.findings if finding.severity == severity}


def first(found: Audit, kind: str) -> Finding:
    return next(finding for finding in found.findings if finding.kind == kind)


def noise(*shape: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape) * scale


def test_a_mask_of_minus_1e9_makes_a_fully_masked_row_nan(tmp_path: Path) -> None:
    """coremltools PR 2669: -1e9 is infinite in fp16, and softmax of a row of it is NaN."""
    mask = torch.zeros(4, 4)
    mask[2] = -1e9
    program = program_of(tmp_path, Lambda(lambda x: (x + mask).softmax(-1)), (1, 4, 4))

    found = audit(program, noise(1, 4, 4))

    assert kinds(found) in ({"constant"}, {"overflow"}, {"constant", "overflow"})
    assert not np.isfinite(Evaluator(program, "typed").run({"x": noise(1, 4, 4)})["y"]).all()


def test_a_mask_of_minus_1e4_is_fine(tmp_path: Path) -> None:
    mask = torch.zeros(4, 4)
    mask[2, :2] = -1e4
    program = program_of(tmp_path, Lambda(lambda x: (x + mask).softmax(-1)), (1, 4, 4))

    assert not kinds(audit(program, noise(1, 4, 4)))


@pytest.mark.parametrize(
    ("name", "function", "x", "operation"),
    [
        ("a product", lambda x: x * 1000.0, np.full((1, 8), 100.0), "mul"),
        ("an exponential", torch.exp, np.full((1, 8), 12.0), "exp"),
        ("a square", lambda x: (x * x).sum(-1), np.full((1, 8), 200.0), "reduce_sum"),
    ],
)
def test_an_overflow_is_named_where_it_begins(
    tmp_path: Path, name: str, function: Callable[[Tensor], Tensor], x: np.ndarray, operation: str
) -> None:
    program = program_of(tmp_path, Lambda(function), x.shape)

    found = first(audit(program, x), "overflow")

    assert found.operation == operation
    assert any(op.line == found.line and op.type == operation for op in program.operations)


def test_cancellation_is_lost_precision(tmp_path: Path) -> None:
    """1000 x - 999.5 x leaves half of x, of which fp16 keeps nothing sure."""
    program = program_of(tmp_path, Lambda(lambda x: x * 1000.0 - x * 999.5), (1, 64))

    assert first(audit(program, noise(1, 64)), "precision lost").operation == "sub"


def test_a_nearly_constant_row_loses_its_precision_in_layer_norm(tmp_path: Path) -> None:
    program = program_of(tmp_path, nn.LayerNorm(64, eps=1e-6), (1, 4, 64))

    found = audit(program, 10 + noise(1, 4, 64, scale=3e-3))

    assert "precision lost" in kinds(found)


def test_an_epsilon_of_1e_12_is_named(tmp_path: Path) -> None:
    """It becomes 5.96e-8 in fp16, so that small inputs come out up to two thirds off."""
    program = program_of(tmp_path, nn.LayerNorm(64, eps=1e-12), (1, 4, 64))

    found = first(audit(program, noise(1, 4, 64)), "constant")

    assert found.operation == "layer_norm"
    assert "epsilon" in found.detail


def test_the_usual_epsilon_of_1e_5_is_not(tmp_path: Path) -> None:
    program = program_of(tmp_path, nn.LayerNorm(64, eps=1e-5), (1, 4, 64))

    assert not audit(program, noise(1, 4, 64)).findings


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (nn.LayerNorm(128), noise(1, 2, 128, scale=40.0)),
        (nn.GroupNorm(1, 16), noise(1, 16, 64, 64) + 2.0),
    ],
    ids=["layer norm of large values", "group norm of 65536 elements"],
)
def test_sums_that_only_a_pessimist_would_keep_in_fp16_are_warnings(
    tmp_path: Path, module: nn.Module, x: np.ndarray
) -> None:
    """Apple's published fp16 accuracies show that its hardware does not sum like that."""
    found = audit(program_of(tmp_path, module, x.shape), x)

    assert "half mode" in kinds(found, "warning")
    assert not kinds(found) - {"overflow", "not finite"}


@pytest.mark.parametrize(
    ("name", "module", "x"),
    [
        ("a product beyond 32768", nn.Linear(16, 4, bias=False), np.full((1, 16), 500.0)),
        ("a slice of the last axis beyond 4094", Lambda(lambda x: x[:, 4:] * 1.0), np.full((1, 16), 5000.0)),
        ("softplus beyond 10.39", nn.Softplus(), np.full((1, 16), 11.0)),
    ],
)
def test_rules_of_the_neural_engine_are_warnings(tmp_path: Path, name: str, module: nn.Module, x: np.ndarray) -> None:
    if isinstance(module, nn.Linear):
        nn.init.constant_(module.weight, 5.0)

    found = audit(program_of(tmp_path, module, x.shape), x)

    assert "Neural Engine" in kinds(found, "warning")
    assert not kinds(found)


@pytest.mark.parametrize(
    ("name", "function", "scale"),
    [
        ("silu", nn.functional.silu, 60.0),
        ("gelu", nn.functional.gelu, 60.0),
        ("softmax", lambda x: x.softmax(-1), 200.0),
    ],
)
def test_saturating_activations_are_fine(
    tmp_path: Path, name: str, function: Callable[[Tensor], Tensor], scale: float
) -> None:
    x = np.linspace(-scale, scale, 64).reshape(1, 64)

    assert not audit(program_of(tmp_path, Lambda(function), x.shape), x).findings


def test_what_never_leaves_the_subnormals_is_named(tmp_path: Path) -> None:
    program = program_of(tmp_path, Lambda(lambda x: x * 1e-3), (1, 64))

    assert "subnormal" in kinds(audit(program, noise(1, 64, scale=1e-3)))


def test_only_the_operation_where_a_loss_begins_is_named(tmp_path: Path) -> None:
    program = program_of(tmp_path, Lambda(lambda x: ((x * 1000.0 - x * 999.5) * 2.0).relu() + 1e-3), (1, 64))

    lost = [finding for finding in audit(program, noise(1, 64)).findings if finding.kind == "precision lost"]

    assert [finding.operation for finding in lost] == ["sub"]


def test_every_input_counts(tmp_path: Path) -> None:
    program = program_of(tmp_path, Lambda(lambda x: x * 1000.0), (1, 8))

    assert not audit(program, np.ones((1, 8))).findings
    assert first(audit(program, np.ones((1, 8)), np.full((1, 8), 100.0)), "overflow")


def test_the_report_shows_the_values_at_either_end(tmp_path: Path) -> None:
    program = program_of(tmp_path, Lambda(lambda x: (x * 100.0).relu() - 3.0), (1, 64))
    x = noise(1, 64)

    found = audit(program, x, 2 * x).to_json()

    assert found["inputs"] == 2
    assert found["fp16_values"] == len(program.operations) == 3
    assert found["largest"][0]["max_abs"] == pytest.approx(200 * np.abs(x).max(), rel=1e-3)
    assert found["largest"][0]["operation"] == "mul"
    assert all(50 < value["sqnr_db"] < 90 for value in found["least_precise"])


def test_a_program_in_fp32_has_no_audit(tmp_path: Path) -> None:
    program = program_of(tmp_path, Lambda(lambda x: x * 1000.0), (1, 8), precision="FLOAT32")

    _, found = audited_run(program, [{"x": np.full((1, 8), 100.0)}])

    assert found is None

"""Activations, functions of elements, reductions against torch, on shapes and attributes drawn at random."""

import inspect
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mvit_deploy.runtimes.coreml.arithmetic import FLOAT32, HALF
from mvit_deploy.runtimes.coreml.errors import UnknownFormError
from mvit_deploy.runtimes.coreml.ops import SUPPORTED
from tests.runtimes.coreml.oracle import (
    check,
    covers,
    normal,
    quick,
    run,
    seeds,
    sides,
)

ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], dict[str, object]]] = {
    "silu": (F.silu, {}),
    "gelu": (F.gelu, {}),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), {"mode": "TANH_APPROXIMATION"}),
    "gelu sigmoid": (lambda x: x * torch.sigmoid(1.702 * x), {"mode": "SIGMOID_APPROXIMATION"}),
    "relu": (F.relu, {}),
    "relu6": (F.relu6, {}),
    "sigmoid": (torch.sigmoid, {}),
    "sigmoid_hard": (F.hardsigmoid, {"alpha": np.float32(1 / 6), "beta": np.float32(0.5)}),
    "softplus": (F.softplus, {}),
    "softsign": (F.softsign, {}),
    "elu": (lambda x: F.elu(x, 0.7), {"alpha": np.float32(0.7)}),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), {"alpha": np.float32(0.2)}),
    "thresholded_relu": (lambda x: torch.where(x >= 0.5, x, 0), {"alpha": np.float32(0.5)}),
    "clamped_relu": (
        lambda x: F.leaky_relu(x, 0.2).clamp(max=1.5),
        {"alpha": np.float32(0.2), "beta": np.float32(1.5)},
    ),
    "linear_activation": (lambda x: 2 * x + 3, {"alpha": np.float32(2), "beta": np.float32(3)}),
    "scaled_tanh": (lambda x: 1.7159 * torch.tanh(x * 2 / 3), {"alpha": np.float32(1.7159), "beta": np.float32(2 / 3)}),
    "threshold": (lambda x: x.clamp(min=0.3), {"alpha": np.float32(0.3)}),
    "clip": (lambda x: x.clamp(-0.5, 1), {"alpha": np.float32(-0.5), "beta": np.float32(1)}),
}


@covers(*(name.split()[0] for name in ACTIVATIONS))
@pytest.mark.parametrize("name", ACTIVATIONS)
@given(st.lists(sides, max_size=4), seeds)
@quick
def test_activation_is_torchs(name: str, shape: list[int], seed: int) -> None:
    expected, parameters = ACTIVATIONS[name]
    x = 4 * normal(seed, *shape)

    check(run(name.split(maxsplit=1)[0], x=x, **parameters), expected(x), relative=1e-5, absolute=2e-6)


@covers("silu", "sigmoid", "softplus", "gelu", "softmax")
@pytest.mark.parametrize("value", [-1e4, -100.0, -20.0, -0.0, 20.0, 100.0, 1e4])
def test_activations_do_not_overflow(value: float) -> None:
    x = torch.tensor([value, 0.0])

    for name in ("silu", "sigmoid", "softplus", "gelu"):
        check(run(name, x=x), ACTIVATIONS[name][0](x), absolute=1e-7)
    check(run("softmax", x=x), torch.softmax(x, -1))


@covers("prelu", "softplus_parametric")
@given(st.lists(sides, min_size=1, max_size=3), sides, seeds)
@quick
def test_activations_with_one_value_for_each_channel_are_torchs(spatial: list[int], channels: int, seed: int) -> None:
    x = normal(seed, 2, channels, *spatial)
    alpha, beta = normal(seed + 1, channels), normal(seed + 2, channels)
    wide = (-1, *[1] * len(spatial))

    check(run("prelu", x=x, alpha=alpha), F.prelu(x, alpha))
    expected = alpha.view(wide) * F.softplus(beta.view(wide) * x)
    check(run("softplus_parametric", x=x, alpha=alpha, beta=beta), expected)


@covers("softmax")
@given(st.lists(sides, min_size=1, max_size=4), st.data(), seeds)
@quick
def test_softmax_is_torchs_along_any_axis(shape: list[int], data: st.DataObject, seed: int) -> None:
    x, axis = 10 * normal(seed, *shape), data.draw(st.integers(-len(shape), len(shape) - 1))

    check(run("softmax", x=x, axis=axis), torch.softmax(x, axis))
    check(run("softmax", x=x, axis=axis, math=HALF), torch.softmax(x, axis), relative=1e-2, absolute=1e-3)


UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs, "ceil": torch.ceil, "cos": torch.cos, "cosh": torch.cosh, "erf": torch.erf, "exp": torch.exp,
    "exp2": torch.exp2, "floor": torch.floor, "round": torch.round, "sign": torch.sign, "sin": torch.sin,
    "sinh": torch.sinh, "square": torch.square, "tanh": torch.tanh, "atan": torch.atan, "identity": torch.clone,
}  # fmt: skip


UNARY_OF_A_PART: dict[str, Callable[[Tensor], Tensor]] = {  # defined, or steady, only between 0 and 1
    "acos": torch.acos, "asin": torch.asin, "atanh": torch.atanh, "tan": torch.tan, "sqrt": torch.sqrt,
    "log": torch.log, "rsqrt": torch.rsqrt, "inverse": lambda x: 1 / (x + 1e-4),
}  # fmt: skip


@covers(*UNARY, *UNARY_OF_A_PART)
@pytest.mark.parametrize("name", [*UNARY, *UNARY_OF_A_PART])
@given(st.lists(sides, max_size=4), seeds)
@settings(max_examples=8, deadline=None)
def test_function_of_each_element_is_torchs(name: str, shape: list[int], seed: int) -> None:
    x = 3 * normal(seed, *shape)
    x = torch.sigmoid(x).clamp(0.01, 0.99) if name in UNARY_OF_A_PART else x

    check(run(name, x=x), (UNARY | UNARY_OF_A_PART)[name](x), relative=1e-5, absolute=1e-6)


@covers("round")
def test_round_takes_halves_to_the_even_integer() -> None:
    """0.5 is rounded to 0 (elementwise_unary.py)."""
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)

    assert run("round", x=x).tolist() == [-2, -2, 0, 0, 2, 2]


@covers("erf")
def test_erf_is_right_to_two_units_in_the_last_place() -> None:
    x = np.concatenate([np.linspace(-6, 6, 20001), np.logspace(-30, 0, 2000)]).astype(np.float32)
    exact = torch.erf(torch.from_numpy(x).double()).numpy()

    assert np.abs((run("erf", x=x) - exact) / np.spacing(np.abs(exact).astype(np.float32))).max() <= 2


BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "real_div": torch.div, "floor_div": torch.floor_divide,
    "mod": torch.remainder, "maximum": torch.maximum, "minimum": torch.minimum, "equal": torch.eq,
    "not_equal": torch.ne, "greater": torch.gt, "greater_equal": torch.ge, "less": torch.lt, "less_equal": torch.le,
    "pow": torch.pow, "logical_and": torch.logical_and, "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}  # fmt: skip


@covers(*BINARY, "logical_not", "select")
@pytest.mark.parametrize("name", BINARY)
@given(st.lists(st.integers(1, 4), max_size=4), st.data(), seeds)
@settings(max_examples=10, deadline=None)
def test_function_of_two_elements_broadcasts_as_torch(
    name: str, shape: list[int], data: st.DataObject, seed: int
) -> None:
    left, right = ([data.draw(st.sampled_from([1, side])) for side in shape] for _ in range(2))
    right = right[data.draw(st.integers(0, len(shape))) :]
    x, y = normal(seed, *left).round(decimals=1), normal(seed + 1, *right).round(decimals=1)
    if name.startswith("logical"):
        x, y = x > 0, y > 0
    elif name in ("mod", "real_div", "floor_div"):
        y = torch.where(y == 0, 0.7, y)
    elif name == "pow":
        x = x.abs() + 0.1

    check(run(name, x=x, y=y), BINARY[name](x, y), relative=1e-5, absolute=1e-5)
    condition = x > y if x.dtype != torch.bool else x
    check(run("select", cond=condition, a=x, b=y), torch.where(condition, x, y))
    check(run("logical_not", x=condition), ~condition)


@covers("floor_div", "mod", "add", "sub", "mul", "maximum", "equal")
@given(st.integers(-50, 50), st.integers(-7, 7).filter(bool))
@quick
def test_integers_divide_towards_negative_infinity(x: int, y: int) -> None:
    a, b = np.array([x], np.int32), np.array([y], np.int32)

    assert run("floor_div", x=a, y=b).tolist() == [x // y]
    assert run("mod", x=a, y=b).tolist() == [x % y]
    for name in ("add", "sub", "mul", "maximum", "floor_div", "mod"):
        assert run(name, x=a, y=b).dtype == np.int32
    with pytest.raises(UnknownFormError):
        run("real_div", x=a, y=b)


REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keep),
    "reduce_mean": lambda x, axes, keep: x.mean(axes, keep),
    "reduce_max": lambda x, axes, keep: x.amax(axes, keep),
    "reduce_min": lambda x, axes, keep: x.amin(axes, keep),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keep),
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: x.abs().sum(axes, keep).log(),
    "reduce_log_sum_exp": lambda x, axes, keep: x.logsumexp(axes, keep),
}


@covers(*REDUCTIONS, "reduce_prod")
@pytest.mark.parametrize("name", REDUCTIONS)
@given(st.lists(sides, min_size=1, max_size=4), st.data(), st.booleans(), seeds)
@settings(max_examples=12, deadline=None)
def test_reduction_is_torchs(name: str, shape: list[int], data: st.DataObject, keep: bool, seed: int) -> None:
    axes = sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    given_axes = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    x = normal(seed, *shape)

    given_x = x.abs() if name == "reduce_log_sum" else x
    expected = REDUCTIONS[name](x, axes, keep)

    check(run(name, x=given_x, axes=np.array(given_axes), keep_dims=keep), expected)
    everything = REDUCTIONS[name](x, list(range(len(shape))), False)
    np.testing.assert_allclose(run(name, x=given_x), everything, rtol=2e-5, atol=2e-5)
    check(run("reduce_prod", x=x, axes=np.array(given_axes[:1]), keep_dims=keep), x.prod(axes[0], keep))
    if name != "reduce_log_sum":  # sums of both signs lose everything in half
        half = HALF if "math" in inspect.signature(SUPPORTED[name]).parameters else FLOAT32
        options = {"math": half} if half is HALF else {}
        check(run(name, x=given_x, axes=given_axes, keep_dims=keep, **options), expected, relative=2e-2, absolute=0.2)


@covers("reduce_mean", "reduce_l2_norm", "reduce_log_sum", "reduce_log_sum_exp", "exp2")
@pytest.mark.parametrize("name", ["reduce_mean", "reduce_l2_norm", "reduce_log_sum", "reduce_log_sum_exp", "exp2"])
def test_fractions_of_integers_are_unknown(name: str) -> None:
    """The result is an integer too, how it is rounded is not documented."""
    with pytest.raises(UnknownFormError):
        run(name, x=np.array([1, 2], np.int32))


@covers("reduce_sum", "reduce_max", "reduce_prod", "reduce_sum_square", "reduce_l1_norm")
def test_reductions_of_integers_stay_integers() -> None:
    x = np.array([[1, -2], [3, 4]], np.int32)
    expected = {"sum": 6, "max": 4, "min": -2, "prod": -24, "sum_square": 30, "l1_norm": 10}

    found = {name: run(f"reduce_{name}", x=x) for name in expected}

    assert {name: int(value) for name, value in found.items()} == expected
    assert {np.asarray(value).dtype for value in found.values()} == {np.dtype(np.int32)}

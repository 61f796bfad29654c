"""Matrix products and attention against torch, on shapes and attributes drawn at random."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mvit_deploy.runtimes.coreml.arithmetic import HALF
from tests.runtimes.coreml.oracle import (
    check,
    covers,
    normal,
    quick,
    run,
    seeds,
    sides,
)


@covers("linear")
@given(st.lists(sides, min_size=1, max_size=3), sides, st.booleans(), seeds)
@quick
def test_linear_is_torchs(shape: list[int], outputs: int, biased: bool, seed: int) -> None:
    x, weight = normal(seed, *shape), normal(seed + 1, outputs, shape[-1])
    bias = normal(seed + 2, outputs) if biased else None

    check(run("linear", x=x, weight=weight, bias=bias), F.linear(x, weight, bias))


@covers("matmul")
@given(st.data(), sides, sides, sides, st.booleans(), st.booleans(), seeds)
@settings(max_examples=30, deadline=None)
def test_matmul_transposes_and_broadcasts_as_torch(
    data: st.DataObject, n: int, k: int, m: int, transpose_x: bool, transpose_y: bool, seed: int
) -> None:
    batch = data.draw(st.lists(st.integers(1, 3), max_size=2))
    lead_x, lead_y = ([data.draw(st.sampled_from([1, side])) for side in batch] for _ in range(2))
    lead_x = lead_x[data.draw(st.integers(0, len(batch))) :]
    x = normal(seed, *lead_x, *((k, n) if transpose_x else (n, k)))
    y = normal(seed + 1, *lead_y, *((m, k) if transpose_y else (k, m)))

    expected = (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)

    check(run("matmul", x=x, y=y, transpose_x=transpose_x, transpose_y=transpose_y), expected)


@covers("matmul")
@given(st.lists(sides, max_size=2), sides, sides, seeds)
@quick
def test_matmul_of_a_vector_is_torchs(batch: list[int], n: int, k: int, seed: int) -> None:
    """A transposition has no effect on one axis (linear.py)."""
    vector, matrix = normal(seed, k), normal(seed + 1, *batch, k, n)

    check(run("matmul", x=vector, y=vector), (vector @ vector))
    check(run("matmul", x=vector, y=matrix, transpose_x=True), vector @ matrix)
    check(run("matmul", x=matrix.mT, y=vector, transpose_y=True), matrix.mT @ vector)


@covers("matmul")
@given(sides, st.integers(1, 200), sides, seeds)
@quick
def test_half_matmul_is_near_torchs_whatever_the_broadcast(n: int, k: int, m: int, seed: int) -> None:
    x, y = normal(seed, 2, 1, n, k) / 8, normal(seed + 1, 3, k, m) / 8

    check(run("matmul", x=x, y=y, math=HALF), x @ y, relative=1e-2, absolute=1e-2)


@covers("einsum")
@pytest.mark.parametrize("equation", ["nchw,nwhu->nchu", "abcd,adce->abce", "chw,whr->chr"])
@given(sides, sides, sides, sides, st.booleans(), seeds)
@quick
def test_einsum_is_torchs_with_sides_of_one_broadcast(
    equation: str, c: int, h: int, w: int, u: int, shared: bool, seed: int
) -> None:
    batch = [2] if equation.index(",") == 4 else []
    x = normal(seed, *batch, c, h, w)
    y = normal(seed + 1, *([1] * len(batch) if shared else batch), w, 1 if shared else h, u)

    check(run("einsum", values=[x.numpy(), y.numpy()], equation=equation), torch.einsum(equation, x, y))


@covers("scaled_dot_product_attention")
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), sides, sides, sides, sides, st.data(), seeds)
@settings(max_examples=25, deadline=None)
def test_attention_is_torchs_with_and_without_masks(
    batch: list[int], queries: int, keys: int, width: int, value_width: int, data: st.DataObject, seed: int
) -> None:
    query, key = normal(seed, *batch, queries, width), normal(seed + 1, *batch, keys, width)
    value = normal(seed + 2, *batch, keys, value_width)
    mask_shape = data.draw(st.sampled_from([(queries, keys), (*batch, queries, keys), (1, keys), (*batch, 1, keys)]))
    floats = normal(seed + 3, *mask_shape)
    booleans = floats > 0
    booleans[..., 0] = True  # a row without any element has no softmax
    mask = data.draw(st.sampled_from([None, floats, booleans]))

    expected = F.scaled_dot_product_attention(query, key, value, mask)
    found = run("scaled_dot_product_attention", query=query, key=key, value=value, attn_mask=mask)

    check(found, expected)


@covers("scaled_dot_product_attention")
def test_attention_with_a_fully_masked_row_is_not_a_number() -> None:
    """The documented formula, softmax of nothing but -inf; newer torch writes 0 there."""
    x, mask = normal(0, 1, 2, 3), torch.tensor([[True, True], [False, False]])

    found = run("scaled_dot_product_attention", query=x, key=x, value=x, attn_mask=mask)

    assert np.isfinite(found[0, 0]).all()
    assert np.isnan(found[0, 1]).all()

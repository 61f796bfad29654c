"""unfold and fold: exact inverses, equal to the paper's, static."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mvit_deploy.errors import ShapeError
from mvit_deploy.nn.patches import fold, fold_channels_last, resize, round_up, unfold, unfold_channels_last

sides = st.integers(1, 5)
cases = st.tuples(st.integers(1, 4), st.integers(1, 6), sides, sides, st.integers(1, 4), st.integers(1, 4))


def numbered(batch: int, channels: int, height: int, width: int) -> torch.Tensor:
    """A map in which every element is different."""
    return torch.arange(batch * channels * height * width, dtype=torch.float64).reshape(batch, channels, height, width)


@given(cases)
@settings(max_examples=200, deadline=None)
def test_fold_is_the_exact_inverse_of_unfold(case: tuple[int, ...]) -> None:
    batch, channels, nh, nw, ph, pw = case
    x = numbered(batch, channels, nh * ph, nw * pw)

    assert torch.equal(fold(unfold(x, (ph, pw)), x.shape[2:], (ph, pw)), x)


@given(cases)
@settings(max_examples=200, deadline=None)
def test_a_row_of_tokens_holds_one_offset_of_every_patch_of_one_image(case: tuple[int, ...]) -> None:
    """What attention mixes: mixing offsets was Kornia's bug before 0.6.10."""
    batch, channels, nh, nw, ph, pw = case
    x = numbered(batch, channels, nh * ph, nw * pw)

    tokens = unfold(x, (ph, pw))

    assert tokens.shape == (ph * pw * batch, nh * nw, channels)
    for p in range(ph * pw):
        for b in range(batch):
            expected = x[b, :, p // pw :: ph, p % pw :: pw].reshape(channels, -1).T
            assert torch.equal(tokens[p * batch + b], expected)


@given(cases)
@settings(max_examples=100, deadline=None)
def test_unfold_of_one_image_equals_the_rearrangement_of_ml_cvnets(case: tuple[int, ...]) -> None:
    """The six steps of ml-cvnets' unfolding(), as the specification of the network writes them down."""
    _, channels, nh, nw, ph, pw = case
    x = numbered(1, channels, nh * ph, nw * pw)

    steps = x.reshape(channels * nh, ph, nw, pw).transpose(1, 2).reshape(1, channels, nh * nw, ph * pw)
    expected = steps.transpose(1, 3).reshape(ph * pw, nh * nw, channels)

    assert torch.equal(unfold(x, (ph, pw)), expected)


def test_unfold_by_two_equals_pixel_unshuffle() -> None:
    x = numbered(1, 3, 6, 8)

    expected = nn.functional.pixel_unshuffle(x, 2).reshape(3, 4, 12).permute(1, 2, 0)

    assert torch.equal(unfold(x, (2, 2)), expected)


class RoundTrip(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return fold(unfold(x, (2, 2)) * 2, (6, 8), (2, 2))


@pytest.mark.filterwarnings("ignore")
def test_a_trace_holds_reshape_and_permute_only_and_runs_at_any_batch() -> None:
    """No operator asks for a shape, so nothing in an exported graph is dynamic."""
    traced = torch.jit.trace(RoundTrip(), numbered(1, 3, 6, 8))

    kinds = {node.kind() for node in traced.inlined_graph.nodes()} - {"prim::Constant", "prim::ListConstruct"}
    assert kinds == {"aten::reshape", "aten::permute", "aten::transpose", "aten::mul"}
    for batch in (1, 2, 5):
        assert torch.equal(traced(numbered(batch, 3, 6, 8)), numbered(batch, 3, 6, 8) * 2)


@pytest.mark.filterwarnings("ignore")
def test_no_tensor_exceeds_rank_4() -> None:
    traced = torch.jit.trace(RoundTrip(), numbered(2, 3, 6, 8))
    torch._C._jit_pass_complete_shape_analysis(traced.graph, (traced._c, numbered(2, 3, 6, 8)), False)

    ranks = [
        o.type().dim() for n in traced.inlined_graph.nodes() for o in n.outputs() if o.type().kind() == "TensorType"
    ]
    assert ranks
    assert max(rank for rank in ranks if rank is not None) <= 4


@pytest.mark.parametrize(("size", "patch"), [((5, 4), (2, 2)), ((4, 6), (2, 4)), ((4, 4), (0, 2))])
def test_a_patch_that_does_not_divide_the_map_is_refused(size: tuple[int, int], patch: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match="cannot be cut"):
        unfold(torch.zeros(1, 2, *size), patch)


def test_tokens_that_do_not_fill_the_map_are_refused() -> None:
    with pytest.raises(ShapeError, match="do not fill"):
        fold(torch.zeros(4, 5, 3), (4, 4), (2, 2))


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_round_up_gives_the_smallest_size_that_the_patch_divides(size: tuple[int, int], patch: tuple[int, int]) -> None:
    rounded = round_up(size, patch)

    for side, start, step in zip(rounded, size, patch, strict=True):
        assert side % step == 0
        assert start <= side < start + step


def test_resize_to_the_same_size_is_the_identity() -> None:
    x = torch.rand(1, 2, 4, 6)

    assert resize(x, (4, 6)) is x


def test_resize_has_half_pixel_centres() -> None:
    """By hand: 2 -> 4 with half-pixel centres samples at -0.25, 0.25, 0.75, 1.25, clamped to the border."""
    resized = resize(torch.tensor([[[[0.0, 4.0], [0.0, 4.0]]]]), (2, 4))

    assert torch.allclose(resized[0, 0, 0], torch.tensor([0.0, 1.0, 3.0, 4.0]))


@given(cases)
@settings(max_examples=200, deadline=None)
def test_the_channels_last_forms_are_the_same_rearrangement(case: tuple[int, ...]) -> None:
    batch, channels, nh, nw, ph, pw = case
    x = numbered(batch, channels, nh * ph, nw * pw)

    tokens = unfold_channels_last(x, (ph, pw))

    expected = unfold(x, (ph, pw)).reshape(ph * pw, batch, nh * nw, channels).transpose(0, 1)
    assert torch.equal(tokens, expected)
    assert torch.equal(fold_channels_last(tokens, x.shape[2:], (ph, pw)), x)

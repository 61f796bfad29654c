"""What the tests of single operations against torch share."""

import inspect
from collections.abc import Callable, Sequence

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mvit_deploy.runtimes.coreml.arithmetic import FLOAT32
from mvit_deploy.runtimes.coreml.ops import SUPPORTED

COVERED: set[str] = set()  # the operations that tests against torch check


quick = settings(max_examples=15, deadline=None)


seeds = st.integers(0, 2**32 - 1)


sides = st.integers(1, 7)


def covers(*names: str) -> Callable[[Callable], Callable]:
    """Say which operations a test checks."""
    assert set(names) <= set(SUPPORTED)

    def register(test: Callable) -> Callable:
        COVERED.update(names)
        return test

    return register


def run(operation: str, **given_: object) -> object:
    function = SUPPORTED[operation]
    if "math" in inspect.signature(function).parameters:
        given_.setdefault("math", FLOAT32)
    with np.errstate(all="ignore"):
        return function(**{key: value.numpy() if isinstance(value, Tensor) else value for key, value in given_.items()})


def check(found: object, expected: Tensor, *, relative: float = 2e-5, absolute: float = 2e-5) -> None:
    expected = expected.numpy()
    assert np.shape(found) == expected.shape
    assert found.dtype == expected.dtype or (found.ndim == 0 and found.dtype.kind == expected.dtype.kind)
    np.testing.assert_allclose(found, expected, rtol=relative, atol=absolute)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def interleaved(pads: Sequence[tuple[int, int]]) -> list[int]:
    """MIL's order: before and after of the first spatial axis, then of the next."""
    return [side for pair in pads for side in pair]


def torch_order(pads: Sequence[tuple[int, int]]) -> list[int]:
    """F.pad's order: the last axis comes first."""
    return [side for pair in reversed(pads) for side in pair]


CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}

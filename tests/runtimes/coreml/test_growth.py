"""Numbers that would make an operation grow without bound are refused in time, in a process of limited memory."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import CannotRunHere
from mvit_deploy.runtimes.coreml import kernels
from tests.conftest import ROOT
from tests.runtimes.coreml.hand_made import FLOAT_EXTREMES, WEIGHT, Line, Name, evaluate, hand_made

REFUSED = (DamagedFileError, CannotRunHere)


_I, _F = np.int32, np.float32


def _ints(*values: int) -> np.ndarray:
    return np.array(values, _I)


_POOL = {"x": Name("x"), "kernel_sizes": _ints(2, 2), "strides": _ints(2, 2)}
_CONV = {"x": Name("x"), "weight": WEIGHT, "strides": _ints(1, 1), "dilations": _ints(1, 1), "groups": _I(1)}
_CUSTOM = {"pad_type": "custom", "pad": _ints(0, 0, 0, 0)}
GROWING: list[tuple[str, dict[str, object]]] = [
    ("max_pool", {**_POOL, "pad_type": "same"}),
    ("max_pool", {**_POOL, **_CUSTOM, "ceil_mode": np.True_}),
    ("avg_pool", {**_POOL, **_CUSTOM, "exclude_padding_from_average": np.True_}),
    ("avg_pool", {**_POOL, "pad_type": "same_lower"}),
    ("conv", {**_CONV, **_CUSTOM}),
    ("conv", {**_CONV, "pad_type": "same"}),
    ("conv", {**_CONV, "weight": WEIGHT[:, :1], "groups": _I(4), "pad_type": "same"}),
    ("conv_transpose", {**_CONV, **_CUSTOM}),
    ("conv_transpose", {**_CONV, **_CUSTOM, "output_shape": _ints(1, 4, 10, 10)}),
    ("pad", {"x": Name("x"), "pad": _ints(1, 1, 1, 1), "mode": "constant", "constant_val": _F(0)}),
    ("pad", {"x": Name("x"), "pad": _ints(1, 1, 1, 1), "mode": "reflect"}),
    ("tile", {"x": Name("x"), "reps": _ints(1, 1, 2, 2)}),
    ("fill", {"shape": _ints(1, 4, 2, 2), "value": _F(1)}),
    ("range_1d", {"start": _F(0), "end": _F(5), "step": _F(1)}),
    ("one_hot", {"indices": _ints(1, 2), "one_hot_vector_size": _I(4), "on_value": _F(1), "off_value": _F(0)}),
    ("reshape", {"x": Name("x"), "shape": _ints(1, 4, 64)}),
    ("transpose", {"x": Name("x"), "perm": _ints(0, 2, 3, 1)}),
    ("expand_dims", {"x": Name("x"), "axes": _ints(0)}),
    ("slice_by_index", {"x": Name("x"), "begin": _ints(0, 0, 0, 0), "end": _ints(1, 2, 2, 2)}),
    ("slice_by_size", {"x": Name("x"), "begin": _ints(0, 0, 0, 0), "size": _ints(1, 2, 2, 2)}),
    ("split", {"x": Name("x"), "axis": _I(1), "num_splits": _I(1)}),
    ("concat", {"values": [Name("x"), Name("x")], "axis": _I(1)}),
    ("stack", {"values": [Name("x"), Name("x")], "axis": _I(1)}),
    ("upsample_nearest_neighbor", {"x": Name("x"), "scale_factor_height": _I(2), "scale_factor_width": _I(2)}),
    ("upsample_bilinear", {"x": Name("x"), "scale_factor_height": _F(2), "scale_factor_width": _F(2)}),
    ("resize_bilinear", {"x": Name("x"), "target_size_height": _I(5), "target_size_width": _I(7)}),
    ("resize_nearest_neighbor", {"x": Name("x"), "target_size_height": _I(16), "target_size_width": _I(16)}),
    ("resize", {"x": Name("x"), "shape": _ints(5, 7), "resized_dims": _I(2), "sampling_mode": "UNALIGN_CORNERS"}),
    ("crop", {"x": Name("x"), "crop_height": _ints(1, 1), "crop_width": _ints(1, 1)}),
    ("pixel_shuffle", {"x": Name("x"), "upscale_factor": _I(2)}),
    ("pixel_unshuffle", {"x": Name("x"), "downscale_factor": _I(2)}),
    ("topk", {"x": Name("x"), "k": _I(2), "axis": _I(1), "return_indices": np.False_}),
    ("gather", {"x": Name("x"), "indices": _ints(0, 1), "axis": _I(1), "batch_dims": _I(0)}),
    ("reduce_mean", {"x": Name("x"), "axes": _ints(2, 3), "keep_dims": np.True_}),
    ("cumsum", {"x": Name("x"), "axis": _I(1)}),
    ("softmax", {"x": Name("x"), "axis": _I(1)}),
    ("layer_norm", {"x": Name("x"), "axes": _ints(3), "epsilon": _F(1e-5)}),
    ("local_response_norm", {"x": Name("x"), "size": _I(3)}),
    ("flatten2d", {"x": Name("x"), "axis": _I(1)}),
    ("constexpr_lut_to_dense", {"indices": np.uint8([228]), "lut": np.arange(4, dtype=_F), "shape": _ints(2, 2)}),
    ("constexpr_sparse_to_dense", {"nonzero_data": np.ones(2, _F), "mask": np.uint8([5]), "shape": _ints(2, 2)}),
]
SLOWEST_S = 10.0  # of processor time
FLOATS_AT_A_TIME = 4  # of the largest size: input, padding, columns and result of a convolution


def extreme_variants(arguments: Mapping[str, object]) -> Iterator[tuple[str, dict[str, object]]]:
    """Each number of each argument, and all of them together, replaced by each extreme."""
    for key, value in arguments.items():
        if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind not in "if" or value.size > 8:
            continue
        extremes = (-(2**31), -1, 0, 10, 1000, 2**20, 2**28, 2**31 - 1) if value.dtype.kind == "i" else FLOAT_EXTREMES
        for extreme in extremes:
            for place in [slice(None), *range(value.size if value.size > 1 else 0)]:
                flat = np.array(value).reshape(-1)
                flat[place] = extreme
                new = flat.reshape(value.shape)
                yield f"{key}={new.tolist()}", {**arguments, key: new}


def sweep(max_elements: int) -> None:
    """Run by the test below in a process of its own; prints what broke the rule."""
    kernels.MAX_ELEMENTS = max_elements
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + FLOATS_AT_A_TIME * 4 * max_elements,) * 2)
    for kind, arguments in GROWING:
        ranks = [rank for rank in range(1, 7) if _refusal(kind, arguments, rank) is None]
        if len(ranks) != 1:
            print(f"{kind} does not run with its plain arguments")
            continue
        for what, extreme in extreme_variants(arguments):
            started = time.process_time()
            message = _refusal(kind, extreme, ranks[0])
            took = time.process_time() - started
            if took > SLOWEST_S:
                print(f"{kind} {what}: took {took:.0f} s")
            if message is not None and (not message.startswith("line 1: ") or kind not in message):
                print(f"{kind} {what}: no line in {message}")
            if message is not None and "allocate" in message:
                print(f"{kind} {what}: {message}")


def _refusal(kind: str, arguments: Mapping[str, object], rank: int) -> str | None:
    """Why a program of one line is refused, None where it runs. The sides of its result are left open."""
    spec = hand_made(Line(kind, arguments, (("y", "fp32", (None,) * rank),)))
    try:
        evaluate(spec, Path())
    except REFUSED as error:
        return str(error)
    return None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit of memory is set from Linux's /proc")
@pytest.mark.parametrize("max_elements", [2**24, pytest.param(kernels.MAX_ELEMENTS, marks=pytest.mark.slow)])
def test_no_number_makes_an_operation_grow_or_hang(max_elements: int) -> None:
    """Every refusal names its line, and comes before the memory is asked for: with a limit as it is, 4 GiB are enough,
    with a lower one that much less."""
    command = f"from tests.runtimes.coreml import test_growth; test_growth.sweep({max_elements})"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]

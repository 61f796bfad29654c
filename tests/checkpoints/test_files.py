"""Reading untrusted files: nothing in them runs, and whatever is wrong is one clear error."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mvit_deploy.checkpoints import files
from mvit_deploy.errors import CheckpointError


class Malicious:
    """Unpickling this makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_malicious_pickle_does_not_run(tmp_path: Path, legacy: bool) -> None:
    path, trace = tmp_path / "x.pth", tmp_path / "was_here"
    torch.save({"w": torch.zeros(1), "x": Malicious(trace)}, path, _use_new_zipfile_serialization=not legacy)

    with pytest.raises(CheckpointError, match="was not opened"):
        files.read_tensors(path)

    assert not trace.exists()


def test_a_bare_malicious_pickle_does_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "x.pt", tmp_path / "was_here"
    path.write_bytes(pickle.dumps(Malicious(trace)))

    with pytest.raises(CheckpointError):
        files.read_tensors(path)

    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello, I am a text file\n", b"\x80\x02", b"PK\x03\x04" + b"\0" * 40])
def test_what_is_not_a_checkpoint_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match="x" + suffix):
        files.read_tensors(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    from safetensors.torch import save_file

    path = tmp_path / f"x{suffix}"
    state = {"w": torch.rand(100, 100)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(CheckpointError):
        files.read_tensors(path)


@given(st.binary(max_size=300), st.sampled_from([".pth", ".safetensors"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_end_in_a_clear_error(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"fuzz{suffix}"
    path.write_bytes(content)

    with pytest.raises(CheckpointError):
        files.read_tensors(path)


@given(st.integers(0, 1500), st.integers(0, 255))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_byte_is_read_or_refused_and_never_crashes(tmp_path: Path, position: int, value: int) -> None:
    path = tmp_path / "flipped.pth"
    torch.save({"w": torch.ones(4)}, path)
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(content)

    try:
        tensors, _ = files.read_tensors(path)
    except CheckpointError:
        return
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_refused_and_the_tensor_named(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "x.pth"
    torch.save({"good": torch.ones(3), "spoiled": torch.tensor([1.0, bad])}, path)

    with pytest.raises(CheckpointError, match="NaN or infinity in spoiled"):
        files.read_tensors(path)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_a_nan_of_narrow_floats_is_refused(tmp_path: Path, kind: torch.dtype) -> None:
    path = tmp_path / "x.pth"
    torch.save({"spoiled": torch.tensor([1.0, float("nan")]).to(kind)}, path)

    with pytest.raises(CheckpointError, match="NaN or infinity in spoiled"):
        files.read_tensors(path)


def test_what_float32_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"huge": torch.tensor([1e300], dtype=torch.float64)}, path)

    with pytest.raises(CheckpointError, match="NaN or infinity in huge"):
        files.read_tensors(path)


def test_wrappers_in_wrappers_and_prefixes_are_taken_off_and_said(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"epoch": 1, "state_dict": {"model": {"module.encoder.w": torch.ones(2)}}}, path)

    tensors, notes = files.read_tensors(path)

    assert list(tensors) == ["w"]
    assert notes == (
        "took the weights under 'state_dict'",
        "took the weights under 'model'",
        "took the prefix 'module.' off the keys",
        "took the prefix 'encoder.' off the keys",
    )


def test_smoothed_weights_are_taken_before_the_others(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {"w": torch.zeros(1)}, "state_dict_ema": {"w": torch.ones(1)}}, path)

    tensors, notes = files.read_tensors(path)

    assert tensors["w"].item() == 1
    assert notes == ("took the weights under 'state_dict_ema'",)


def test_a_dictionary_that_holds_itself_is_refused(tmp_path: Path) -> None:
    path, content = tmp_path / "x.pth", {}
    content["model"] = content
    torch.save(content, path)

    with pytest.raises(CheckpointError, match="no state dict"):
        files.read_tensors(path)


@pytest.mark.parametrize("content", [{1: torch.zeros(1)}, {}, [1, 2], {"w": "text"}, {"epoch": 1}, torch.zeros(3)])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "x.pth"
    torch.save(content, path)

    with pytest.raises(CheckpointError, match="no state dict"):
        files.read_tensors(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pth", tmp_path):
        with pytest.raises(CheckpointError, match="no checkpoint at"):
            files.read_tensors(path)

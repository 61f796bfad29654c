"""Reading tensors from a file without running anything that is in it."""

import hashlib
import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mvit_deploy.checkpoints.strict import first_five
from mvit_deploy.errors import CheckpointError

# Smoothed weights first: they are better.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
DEEPEST = 4  # wrappers in wrappers; a pickled dictionary may hold itself
PREFIXES = ("module.", "encoder.")  # of DataParallel, and of a backbone kept under that name in another model


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_tensors(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """All tensors of a checkpoint by key, floating ones as float32, and notes on what was unwrapped.

    Raises: CheckpointError when the file is missing, damaged, not a checkpoint, needs code to be run, or holds a NaN or
    an infinity.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    tensors, notes = _unwrap(content, path)
    tensors = {key: t.float() if t.is_floating_point() else t for key, t in tensors.items()}
    _check_finite(tensors)
    return tensors, tuple(notes)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {_first_line(error)}") from error


def _read_torch(path: Path) -> object:
    """Unpickle with PyTorch's weights_only reader, which builds tensors and containers and calls nothing else."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if _is_torch_file(path):
            raise CheckpointError(
                f"{path} holds more than tensors and was not opened, since that could run code: {_culprit(error)}; "
                "save its state_dict() alone, or as .safetensors"
            ) from error
        raise CheckpointError(f"{path} is not a PyTorch checkpoint") from error
    except Exception as error:
        raise CheckpointError(f"{path} is truncated or not a PyTorch checkpoint: {_first_line(error)}") from error


def _is_torch_file(path: Path) -> bool:
    """A zip archive, or the first byte of a pickle of protocol 2 and later."""
    if zipfile.is_zipfile(path):
        return True
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def _culprit(error: Exception) -> str:
    """The part of PyTorch's long advice that names what was refused."""
    lines = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line]
    return lines[0][:160] if lines else _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _unwrap(content: object, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Take the state dict out of a training checkpoint, however deep it lies, and common prefixes off its keys."""
    notes = []
    for _ in range(DEEPEST):
        wrapper = _wrapper_of(content)
        if wrapper is None:
            break
        content = content[wrapper]
        notes.append(f"took the weights under {wrapper!r}")
    if not _is_state_dict(content):
        raise CheckpointError(f"{path} holds no state dict of tensors")
    while prefix := next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in content)), None):
        content = {key.removeprefix(prefix): tensor for key, tensor in content.items()}
        notes.append(f"took the prefix {prefix!r} off the keys")
    return content, notes


def _is_state_dict(content: object) -> bool:
    if not isinstance(content, dict) or not content:
        return False
    return all(isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in content.items())


def _wrapper_of(content: object) -> str | None:
    if not isinstance(content, dict):
        return None
    return next((wrapper for wrapper in WRAPPERS if isinstance(content.get(wrapper), dict)), None)


def _check_finite(tensors: dict[str, Tensor]) -> None:
    bad = [key for key, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if bad:
        raise CheckpointError(f"NaN or infinity in {first_five(bad)}")

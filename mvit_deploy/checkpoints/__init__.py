"""Checkpoints of others, brought to this project's keys: one module per source."""

from dataclasses import dataclass
from pathlib import Path

from mvit_deploy.checkpoints import files, timm
from mvit_deploy.errors import UsageError
from mvit_deploy.nn.heads.classification import Classifier


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A model in eval mode with a checkpoint's weights, what they came from, and what was done on the way."""

    model: Classifier
    source: str
    sha256: str
    notes: tuple[str, ...]


def load_checkpoint(path: Path, *, mode: str | None = None, num_classes: int | None = None) -> LoadedCheckpoint:
    """Build the model that a checkpoint was made for; mode and number of classes are read off its tensors.

    path: a timm state dict as .pth, .pt or .safetensors.
    Raises: CheckpointError for a file that is unreadable, unsafe, not finite or of another network; UsageError when
    mode or num_classes are given and contradict it.
    """
    tensors, notes = files.read_tensors(path)
    found = timm.recognise(tensors)
    _check_agrees("--mode", mode, found.mode)
    _check_agrees("--num-classes", num_classes, found.num_classes)
    model = timm.load(tensors, found)
    return LoadedCheckpoint(model.eval(), "timm", files.sha256(path), notes)


def _check_agrees(option: str, asked: str | int | None, found: str | int) -> None:
    if asked is not None and asked != found:
        raise UsageError(f"{option} {asked} contradicts the weights, which are made for {found}")

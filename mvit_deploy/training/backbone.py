"""Training starts from the backbone of a network that was trained for something else."""

from pathlib import Path

from torch import Tensor

from mvit_deploy.checkpoints import files, load_checkpoint, strict, timm
from mvit_deploy.checkpoints.networks import BACKBONE, empty_state
from mvit_deploy.nn.heads.classification import Classifier
from mvit_deploy.nn.heads.detection import Detector
from mvit_deploy.nn.heads.segmentation import Segmenter


def load_backbone(model: Classifier | Detector | Segmenter, checkpoint_path: Path | str) -> None:
    """Put the backbone's weights of a checkpoint of any task into a model; the head stays as it is.

    checkpoint_path: as checkpoints.load_checkpoint takes it, weights for BGR are turned round; or a file of timm's
    tensors without a head, as timm has them with num_classes=0.
    Raises: CheckpointError unless the backbone's every key and shape fits, each used once, but that conv_exp of the
    checkpoint is left out where the model has none; and as load_checkpoint does.
    """
    found = _headless_timm(checkpoint_path, model.mode)
    if found is None:
        loaded = load_checkpoint(checkpoint_path).model
        found = getattr(loaded, "backbone", loaded).state_dict()
    if not hasattr(model.backbone, "conv_exp"):
        found = {key: tensor for key, tensor in found.items() if not key.startswith("conv_exp.")}
    strict.check(found, model.backbone.state_dict(), f"the {model.mode} backbone")
    # Not strict once more: the counters of BatchNorm may be missing, everything else has just been checked.
    model.backbone.load_state_dict(found, strict=False)


def _headless_timm(checkpoint_path: Path | str, mode: str) -> dict[str, Tensor] | None:
    """The tensors of a file with all of timm's keys but the head's, under ours; None of whatever else.

    load_checkpoint refuses such a file: it is no network that could be exported.
    """
    if not Path(checkpoint_path).is_file():
        return None
    tensors, _ = files.read_tensors(Path(checkpoint_path))
    ours = empty_state(BACKBONE, mode, None, timm.VARIANT)
    theirs = {timm.key_of(key) for key in ours if not key.endswith(strict.COUNTER)}
    has_all_and_no_more = {key for key in tensors if not key.endswith(strict.COUNTER)} == theirs
    return timm.restore(tensors, ours) if has_all_and_no_more else None

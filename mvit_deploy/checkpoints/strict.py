"""Loading where every key is used once and every shape is checked."""

from collections.abc import Callable

from torch import Tensor, nn

from mvit_deploy.errors import CheckpointError

_COUNTER = "num_batches_tracked"  # of BatchNorm in training; some savers leave it out, and nothing here reads it


def load_strictly(model: nn.Module, tensors: dict[str, Tensor], key_of: Callable[[str], str]) -> None:
    """Copy tensors into a model in place; key_of gives the checkpoint's key for a key of the model.

    Raises: CheckpointError listing the first five missing keys, unexpected keys and wrong shapes; the model is then
    unchanged.
    """
    own = model.state_dict()
    theirs = {key_of(key): key for key in own}
    missing = [key for key in theirs if key not in tensors and not key.endswith(_COUNTER)]
    unexpected = [key for key in tensors if key not in theirs]
    wrong = [
        f"{key} is {tuple(tensors[key].shape)}, expected {tuple(own[ours].shape)}"
        for key, ours in theirs.items()
        if key in tensors and tensors[key].shape != own[ours].shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "wrong shape": wrong}
    faults = [_list(what, items) for what, items in found.items() if items]
    if faults:
        raise CheckpointError("the checkpoint is of another network; " + "; ".join(faults))
    model.load_state_dict({theirs[key]: tensor for key, tensor in tensors.items()}, strict=False)


def _list(what: str, items: list[str]) -> str:
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return f"{what}: {', '.join(items[:5])}{more}"

"""Loading where every key is used once and every shape is checked."""

from collections.abc import Mapping

from torch import Tensor

from mvit_deploy.errors import CheckpointError

COUNTER = "num_batches_tracked"  # of BatchNorm in training; some savers leave it out, and nothing here reads it


def check(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], network: str) -> None:
    """Hold a checkpoint's tensors to the keys, shapes and kinds of a network's. network: its name, for people.

    Raises: CheckpointError listing the first five missing keys, unexpected keys, wrong shapes and integers for floats.
    """
    shared = [key for key in expected if key in tensors]
    found = {
        "missing": [key for key in expected if key not in tensors and not key.endswith(COUNTER)],
        "unexpected": [key for key in tensors if key not in expected],
        "wrong shape": [
            f"{key} is {tuple(tensors[key].shape)}, expected {tuple(expected[key].shape)}"
            for key in shared
            if tensors[key].shape != expected[key].shape
        ],
        "not floating point": [
            f"{key} is {str(tensors[key].dtype).removeprefix('torch.')}"
            for key in shared
            if expected[key].is_floating_point() and not tensors[key].is_floating_point()
        ],
    }
    faults = [f"{what}: {first_five(items)}" for what, items in found.items() if items]
    if faults:
        raise CheckpointError(f"the checkpoint is of another network than {network}; " + "; ".join(faults))


def first_five(items: list[str]) -> str:
    """The first five, and how many more there are."""
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return f"{', '.join(items[:5])}{more}"

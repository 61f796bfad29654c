"""Networks with sensitive weights in the keys of every source, and the key lists of the sources themselves."""

from functools import cache
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mvit_deploy.checkpoints import layouts, networks
from mvit_deploy.nn.build import randomize

KEYS = Path(__file__).with_name("keys_xxs.txt")
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
CASES = [(source, task) for source, module in layouts.SOURCES.items() for task in module.TASKS]
CLASSES = {"classification": 5, "detection": 4, "segmentation": 3, "backbone": None}


@cache
def model_for(source: str, task: str, mode: str = "xxs") -> nn.Module:
    """A network with sensitive weights, few classes. Shared: not to be modified."""
    model = networks.build(task, mode, CLASSES[task], module_of(source).VARIANT)
    return randomize(model, seed=0).eval()


def module_of(source: str) -> ModuleType:
    return layouts.SOURCES[source]


def state(source: str, task: str, mode: str = "xxs") -> dict[str, Tensor]:
    """The same as the source would save it."""
    return module_of(source).state_dict_for(model_for(source, task, mode))


def saved(path: Path, content: dict) -> Path:
    """Saved with safetensors or PyTorch, by the suffix."""
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


@cache
def published_shapes(source: str, task: str) -> dict[str, tuple[int, ...]]:
    """Every key of a source's xxs network and its shape, from the committed lists."""
    sections = KEYS.read_text(encoding="utf-8").split("\n[")
    lines = next(s for s in sections if s.startswith(f"{source} {task}]")).strip().splitlines()[1:]
    shapes = {}
    for key, sides in (line.split() for line in lines):
        shape = tuple(int(side) for side in sides.split("x"))
        if key.endswith(".*"):
            shapes |= {key[:-1] + leaf: () if leaf == NORM[-1] else shape for leaf in NORM}
        else:
            shapes[key] = shape
    return shapes

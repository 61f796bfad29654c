"""Whose checkpoint a set of tensors is, of which network, and building that network: by keys and shapes alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType

from torch import Tensor, nn

from mvit_deploy.checkpoints import cvnets, huggingface, kornia, strict, timm
from mvit_deploy.checkpoints.networks import LAST_BIAS, PUBLISHED_CLASSES, build, classes_of, empty_state
from mvit_deploy.errors import CheckpointError
from mvit_deploy.nn.config import MODES

SOURCES: dict[str, ModuleType] = {source.NAME: source for source in (cvnets, timm, huggingface, kornia)}
_LEAST_SHARE = 0.25  # of a layout's keys, below which a file is called something else and not a damaged one of these


@dataclass(frozen=True)
class Layout:
    """The keys of one source for one task; they are the same in every mode, the shapes are not."""

    source: str
    task: str

    @property
    def module(self) -> ModuleType:
        return SOURCES[self.source]

    def expected(self, mode: str, num_classes: int | None) -> dict[str, Tensor]:
        """Every key, with its shape and type (on the meta device)."""
        return self.module.rename(empty_state(self.task, mode, num_classes, self.module.VARIANT))

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys that a checkpoint must have."""
        keys = self.expected(MODES[0], PUBLISHED_CLASSES.get(self.task))
        return tuple(key for key in keys if not key.endswith(strict.COUNTER))

    def __str__(self) -> str:
        return f"{self.source} {self.task}"


LAYOUTS = tuple(Layout(name, task) for name, source in SOURCES.items() for task in source.TASKS)


@dataclass(frozen=True)
class Recognised:
    """What a checkpoint's tensors say they are. num_classes is None of a backbone and counts a background."""

    layout: Layout
    mode: str
    num_classes: int | None


def recognise(tensors: Mapping[str, Tensor]) -> Recognised:
    """The layout, mode and number of classes nearest to a checkpoint's keys and shapes; load() then holds it to all.

    Raises: CheckpointError when no layout is near, or the keys of two are there.
    """
    cvnets.refuse_later_segmenter(tensors)
    layout = _layout_of(tensors)
    num_classes = _classes_of(layout, tensors)
    shapes = {key: tensor.shape for key, tensor in tensors.items()}

    def fitting(mode: str) -> int:
        return sum(shapes.get(key) == tensor.shape for key, tensor in layout.expected(mode, num_classes).items())

    return Recognised(layout, max(MODES, key=fitting), num_classes)


def load(tensors: Mapping[str, Tensor], found: Recognised) -> nn.Module:
    """The network with these weights, in eval mode, in the colour order that they are in.

    Raises: CheckpointError unless every key and every shape fits, each used once.
    """
    layout = found.layout
    # On the meta device, so that a head of any size is refused before memory is taken for it.
    strict.check(tensors, layout.expected(found.mode, found.num_classes), f"{layout} {found.mode}")
    model = build(layout.task, found.mode, found.num_classes, layout.module.VARIANT)
    # Not strict once more: the counters of BatchNorm may be missing, everything else has just been checked.
    model.load_state_dict(layout.module.restore(tensors, model.state_dict()), strict=False)
    return model.eval()


def _layout_of(tensors: Mapping[str, Tensor]) -> Layout:
    """The layout whose keys are all there, else the one that differs least."""
    complete = [layout for layout in LAYOUTS if all(key in tensors for key in layout.keys)]
    if len(complete) > 1:
        found = "; ".join(f"{layout}: {strict.first_five(list(_own(layout, complete)))}" for layout in complete)
        raise CheckpointError(
            f"the checkpoint fits {len(complete)} networks, and it is not clear which is meant; {found}"
        )
    if complete:
        return complete[0]
    nearest = min(LAYOUTS, key=lambda layout: _distance(layout, tensors))
    shared = sum(key in tensors for key in nearest.keys)
    if shared < _LEAST_SHARE * len(nearest.keys):
        raise CheckpointError(
            f"not a MobileViT checkpoint of {', '.join(SOURCES)}; the file has {len(tensors)} tensors, "
            f"among them: {strict.first_five(list(tensors))}"
        )
    return nearest


def _own(layout: Layout, others: Iterable[Layout]) -> list[str]:
    """The keys of a layout that none of the others has."""
    shared = {key for other in others if other != layout for key in other.keys}
    return [key for key in layout.keys if key not in shared]


def _distance(layout: Layout, tensors: Mapping[str, Tensor]) -> int:
    """The number of keys that are in one and not in the other, without counters."""
    theirs = {key for key in tensors if not key.endswith(strict.COUNTER)}
    return len(theirs.symmetric_difference(layout.keys))


def _classes_of(layout: Layout, tensors: Mapping[str, Tensor]) -> int | None:
    ours = LAST_BIAS.get(layout.task)
    return classes_of(layout.task, None if ours is None else tensors.get(layout.module.key_of(ours)))

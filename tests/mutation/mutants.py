"""The kinds of mutants of a saved .mlpackage, and the drawing of their places.

A mutant is a well-formed file that computes something else: every shape, type and name is as declared, so that nothing
but the computed values can give it away.
"""

import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.mutation import graph_edits as graph
from tests.mutation import weight_edits as weights
from tests.mutation.graph_edits import Edit
from tests.mutation.package import Package

SEED = 2110_02178
PER_KIND = 6
PLAIN, LABELLED = "plain", "labelled"
_TRIES = 100


@dataclass(frozen=True)
class Kind:
    """One way to be wrong: where it can happen, what it does, and the packages that it is drawn on in turn."""

    name: str
    places: Callable[[Package], list[str]]
    edit: Edit
    packages: tuple[str, ...] = (PLAIN,)


BOTH = (PLAIN, LABELLED)  # for what a network holds only once or three times
KINDS = (
    Kind("q and k swapped", graph.splits, graph.reorder_split((1, 0, 2))),
    Kind("k and v swapped", graph.splits, graph.reorder_split((0, 2, 1))),
    Kind("wrong split order", graph.splits, graph.reorder_split((2, 1, 0), (1, 2, 0), (2, 0, 1))),
    Kind("attention scale dropped", weights.qkv_linears, weights.drop_attention_scale),
    Kind("qkv rows head-major", weights.qkv_linears, weights.head_major_rows),
    Kind("wrong softmax axis", graph.score_softmaxes, graph.softmax_over_queries),
    Kind("attention transposed", graph.value_products, graph.transpose_attention),
    Kind("wrong layer_norm epsilon", graph.layer_norms, graph.wrong_epsilon),
    Kind("wrong layer_norm axes", graph.layer_norms, graph.normalize_over_tokens),
    Kind("concat operands swapped", graph.concats, graph.swap_concat, BOTH),
    Kind("concat interleaved", graph.concats, graph.interleave_concat, BOTH),
    Kind("residual dropped", graph.residual_adds, graph.drop_residual),
    Kind("one operand added twice", graph.residual_adds, graph.add_twice),
    Kind("padding shifted", graph.convolutions_3x3, graph.shift_padding),
    Kind("TensorFlow's padding", graph.convolutions_of_stride_2, graph.tensorflow_padding, BOTH),
    Kind("dilated, shape kept", graph.convolutions_3x3, graph.dilate),
    Kind("stride one layer early", graph.strided_depthwise, graph.stride_before_depthwise, BOTH),
    Kind("pixel offsets swapped", graph.offset_transposes, graph.swap_pixel_offsets, BOTH),
    Kind("reshape without transpose", graph.moving_transposes, graph.reshape_instead),
    Kind("wrong activation", graph.activations, graph.other_activation),
    Kind("wrong reduction", graph.global_means, graph.other_reduction, BOTH),
    Kind("colours reordered", graph.image_scalings, graph.flip_colors, BOTH),
    Kind("wrong image scale", graph.image_scalings, graph.wrong_image_scale, BOTH),
    Kind("wrong image bias", graph.image_scalings, graph.wrong_image_bias, BOTH),
    Kind("labels shuffled", graph.classifies, graph.shuffle_labels, (LABELLED,)),
    Kind("square weight transposed", weights.squares, weights.transpose_weight),
    Kind("one weight negated", weights.weighted, weights.negate_one),
    Kind("one channel times 1.1", weights.weighted, weights.scale_channel),
    Kind("bias zeroed", weights.biased, weights.zero_bias),
    Kind("one bias changed", weights.biased, weights.change_one_bias),
    Kind("weights of two layers swapped", weights.twins, weights.swap_weights),
    Kind("offset of another weight", weights.same_sized, weights.read_elsewhere),
    Kind("weight offset shifted", weights.weighted, weights.shift_data),
    Kind("kernel turned", weights.kernels_3x3, weights.turn_kernel),
    Kind("classes rolled", weights.head_linears, weights.roll_classes, BOTH),
)


@dataclass(frozen=True)
class Mutant:
    """One changed file. place: the first result of the changed operation; stage: the part of the network it is in."""

    kind: str
    package: str
    place: str
    stage: str
    change: str
    path: Path

    def __str__(self) -> str:
        return f"{self.kind} at {self.place} ({self.stage}, {self.package}): {self.change}"


@dataclass(frozen=True)
class Draw:
    """What is decided before anything is written: where, and the seed of whatever the edit draws itself."""

    kind: Kind
    package: str
    place: str
    seed: tuple[int, ...]


def draw(packages: Mapping[str, Path], *, seed: int = SEED, per_kind: int = PER_KIND) -> list[Draw]:
    """Places for every kind; no two of a kind have the same place, unless there are too few, and the same change."""
    opened = {name: Package(path) for name, path in packages.items()}
    return [found for kind in KINDS for found in _draw_kind(kind, packages, opened, seed, per_kind)]


def _draw_kind(
    kind: Kind, packages: Mapping[str, Path], opened: Mapping[str, Package], seed: int, per_kind: int
) -> list[Draw]:
    number = zlib.crc32(kind.name.encode())  # so that a new kind leaves the others' draws alone
    shuffle = np.random.default_rng([seed, number])
    places = {name: shuffle.permutation(kind.places(opened[name])).tolist() for name in kind.packages}
    found, seen = [], set()
    for attempt in range(_TRIES):
        if len(found) == per_kind:
            return found
        package = kind.packages[attempt % len(kind.packages)]
        turn = places[package][attempt // len(kind.packages) % len(places[package])]
        candidate = Draw(kind, package, turn, (seed, number, attempt))
        change = _applied(candidate, packages[package])
        if change is not None and (package, turn, change[1]) not in seen:
            seen.add((package, turn, change[1]))
            found.append(candidate)
    raise ValueError(f"{kind.name}: only {len(found)} different mutants")


def _applied(wanted: Draw, path: Path) -> tuple[Package, str] | None:
    """The changed package, not saved yet, and the change; None where the edit is not possible with this draw."""
    package = Package(path)
    try:
        change = wanted.kind.edit(package, package.operation(wanted.place), np.random.default_rng(wanted.seed))
    except ValueError:
        return None
    return package, change


def make(wanted: Draw, original: Path, folder: Path) -> Mutant:
    """Write a mutant into a folder, over an earlier one."""
    path = folder / original.name
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(original, path)
    package, change = _applied(wanted, path)
    package.save()
    stage = "output" if wanted.kind.packages == (LABELLED,) else Package(original).stages()[wanted.place]
    return Mutant(wanted.kind.name, wanted.package, wanted.place, stage, change, path)

"""What a file of any origin holds, read from its bytes and never run: one module per target, the verb dissect().

Foreign files are read as far as they can be: what they do not say is None or empty. Only a file that cannot be parsed,
or that lacks what it refers to, is damaged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mvit_deploy.runtimes import module_for
from mvit_deploy.runtimes.census import StoredWeight

PREVIEW = "com.apple.coreml.model.preview."  # what the keys begin with by which Xcode chooses how to show a model


@dataclass(frozen=True)
class Feature:
    """An input or output by the format's own account. shape: -1 where a side is free, None where it is not said.

    dtype: of tensors the element type, of Core ML's other features their kind (string, dictionary, …). color_order: of
    Core ML's pictures. text: what the file says of it in words.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str
    scale: float | None = None
    zero_point: int | None = None
    color_order: str | None = None
    text: str = ""


@dataclass(frozen=True)
class Anatomy:
    """A file's raw facts.

    specification: versions of the format by what they are of, as {"opset": "18", "IR": "8"}. min_ios: of Core ML.
    entries: its metadata that are strings by key, this project's (metadata.PREFIX) and others'. native: what the
    platform's own fields say, JSON. operators: how many of each type, constants left out, operators of a foreign ONNX
    domain as domain:type. operator_versions: TFLite's. labels: those that the platform itself reads.
    weights: None where they cannot be told, unknown says why. external: files beside it that hold its weights.
    """

    specification: Mapping[str, str]
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    operators: Mapping[str, int]
    weights: tuple[StoredWeight, ...] | None
    unknown: str = ""
    min_ios: str | None = None
    entries: Mapping[str, str] = field(default_factory=dict)
    native: Mapping[str, object] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    operator_versions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    external: tuple[str, ...] = ()


@dataclass(frozen=True)
class Share:
    """How much of the weights is stored in one type."""

    elements: int
    bytes: int


def by_type(weights: Iterable[StoredWeight]) -> dict[str, Share]:
    """Weights by the type that they are stored in, most elements first: fp32, fp16, int8, …; palette4 are indices of 4
    bits into a table of floats."""
    found: dict[str, Share] = {}
    for weight in weights:
        name = _type_of(weight)
        before = found.get(name, Share(0, 0))
        found[name] = Share(before.elements + weight.elements, before.bytes + weight.bytes)
    return dict(sorted(found.items(), key=lambda item: -item[1].elements))


def _type_of(weight: StoredWeight) -> str:
    if weight.is_integer:
        return f"int{weight.bits}"
    return f"fp{weight.bits}" if weight.bits > 8 else f"palette{weight.bits}"


def dissect(path: Path) -> Anatomy:
    """Read a file's raw facts. Raises: UsageError for an unknown suffix; MissingLibraryError; DamagedFileError."""
    return module_for(path, "mvit_deploy.anatomy", doing="reading").dissect(path)

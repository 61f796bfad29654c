"""What two files promise, field by field. What a format alone decides is told and not counted.

Formats differ in layout (NCHW, NHWC), in what a classifier gives (logits, probabilities, a label beside them), in
taking tensors or pictures, and in how many detections their own operators keep.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from mvit_deploy import metadata
from mvit_deploy.inspection import Inspection
from mvit_deploy.spec import Declared, Suppression

FIELDS = (
    "metadata", "specification", "min_ios", "precision", "task", "mode", "variant", "inputs", "outputs",
    "preprocessing", "normalization", "suppression", "author", "license", "version", "weights_sha256",
)  # fmt: skip
_ABOUT = ("author", "license", "version", "weights_sha256")
_PICTURES = ("mlpackage", "mlmodel")  # formats that take pictures, one at a time
_CHANNELS_LAST = "NHWC"


@dataclass(frozen=True)
class Difference:
    """A field whose values are not alike, as JSON. detail: which part of it. counted: not merely the format's way."""

    field: str
    detail: str
    a: object
    b: object
    counted: bool = True


def compare(a: Inspection, b: Inspection) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """All differences, and the names of the fields that were compared and are alike, both in the order of FIELDS."""
    found, looked_at = [], set()
    for name, differences in _fields(a, b):
        looked_at.add(name)
        found += differences
    differing = {each.field for each in found}
    found.sort(key=lambda each: FIELDS.index(each.field))
    return tuple(found), tuple(name for name in FIELDS if name in looked_at - differing)


def _fields(a: Inspection, b: Inspection) -> Iterator[tuple[str, list[Difference]]]:
    is_alike = a.format == b.format
    if is_alike:
        yield from _field("specification", dict(a.anatomy.specification), dict(b.anatomy.specification))
    if a.target == b.target == "coreml":
        yield from _field("min_ios", a.anatomy.min_ios, b.anatomy.min_ios)
    yield "inputs", list(_inputs(a, b))
    yield "outputs", list(_outputs(a, b))
    if a.interface is None and b.interface is None:
        return
    yield from _field("metadata", a.interface is not None, b.interface is not None)
    if a.interface is None or b.interface is None:
        return
    first, second = a.interface.declared, b.interface.declared
    for name in ("precision", "task", "mode", "variant"):
        yield from _field(name, getattr(first, name), getattr(second, name))
    facts = metadata.facts(first), metadata.facts(second)
    for name in ("preprocessing", "normalization"):
        yield from _field(name, *(each[name] for each in facts))
    for name in _ABOUT:
        yield from _field(name, getattr(first.about, name), getattr(second.about, name))
    yield "suppression", list(_suppression(first, second, is_alike=is_alike))


def _field(name: str, a: object, b: object) -> Iterator[tuple[str, list[Difference]]]:
    yield name, list(_unlike(name, "", a, b))


def _unlike(field: str, detail: str, a: object, b: object, *, counted: bool = True) -> Iterator[Difference]:
    if a != b:
        yield Difference(field, detail, a, b, counted)


def _suppression(a: Declared, b: Declared, *, is_alike: bool) -> Iterator[Difference]:
    """Of different formats the thresholds count; how many stay is their operators' own way."""
    values = [each.suppression and asdict(each.suppression) for each in (a, b)]
    counted = is_alike or _thresholds(a.suppression) != _thresholds(b.suppression)
    yield from _unlike("suppression", "", *values, counted=counted)


def _thresholds(rule: Suppression | None) -> tuple[float, float] | None:
    return None if rule is None else (round(rule.score_threshold, 6), round(rule.iou_threshold, 6))


def _inputs(a: Inspection, b: Inspection) -> Iterator[Difference]:
    if len(a.inputs) != len(b.inputs):
        yield Difference("inputs", "", [each["name"] for each in a.inputs], [each["name"] for each in b.inputs])
        return
    for first, second in zip(a.inputs, b.inputs, strict=True):
        yield from _unlike("inputs", "name", first["name"], second["name"])
        keys = _tensor_keys(a, b, ("color_order", "range"))
        for key in keys:
            yield from _unlike("inputs", f"{first['name']} {key}", first[key], second[key])
        yield from _shapes("inputs", first, second, a, b)


def _tensor_keys(a: Inspection, b: Inspection, always: tuple[str, ...]) -> tuple[str, ...]:
    """What can be compared of two tensors of these formats, their shapes apart."""
    if a.format == b.format:
        return ("dtype", *always, "layout", "scale", "zero_point")
    if a.format in _PICTURES or b.format in _PICTURES:
        return always
    return ("dtype", *always, "scale", "zero_point")


def _shapes(
    field: str, first: Mapping[str, object], second: Mapping[str, object], a: Inspection, b: Inspection
) -> Iterator[Difference]:
    shapes = [first["shape"], second["shape"]]
    if a.format != b.format:
        shapes = [_channels_first(each) for each in (first, second)]
    if a.format != b.format and any(each.format in _PICTURES for each in (a, b)):
        shapes = [shape and shape[1:] for shape in shapes]  # a picture is one
    yield from _unlike(field, f"{first['name']} shape", *(None if each is None else list(each) for each in shapes))


def _channels_first(said: Mapping[str, object]) -> tuple[int, ...] | None:
    shape = said["shape"]
    if shape is None or said.get("layout") != _CHANNELS_LAST or len(shape) != 4:
        return shape
    return (shape[0], shape[3], *shape[1:3])


def _outputs(a: Inspection, b: Inspection) -> Iterator[Difference]:
    first, second = ({str(each["name"]): each for each in side.outputs} for side in (a, b))
    is_alike, sorts = a.format == b.format, [_sorts(side) for side in (a, b)]
    if not is_alike and all(sorts):
        return  # detections, as each target's own operator gives them
    if list(first) != list(second):
        counted = is_alike or _roles(first) != _roles(second)
        yield Difference("outputs", "", list(first), list(second), counted)
    for name in (name for name in first if name in second):
        for key in ("meaning", *_tensor_keys(a, b, ())):
            yield from _unlike("outputs", f"{name} {key}", first[name].get(key), second[name].get(key))
        yield from _shapes("outputs", first[name], second[name], a, b)


def _sorts(side: Inspection) -> bool:
    return side.interface is not None and side.interface.suppression is not None


def _roles(outputs: Mapping[str, Mapping[str, object]]) -> set[object]:
    """What outputs are for: formats give a classifier's answer as logits, as probabilities, and as a label."""
    meanings = {said["meaning"] for said in outputs.values()}
    return {"answer" if meaning in ("logits", "probabilities", "label") else meaning for meaning in meanings}

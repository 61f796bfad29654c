"""What files say of themselves, in words for a terminal. Text that comes out of a file is made printable here."""

import json
from collections.abc import Mapping

from mvit_deploy.anatomy import Share
from mvit_deploy.metadata import preprocessing_to_json
from mvit_deploy.spec import Normalization, Preprocessing, Suppression


def printable(text: object) -> str:
    """Without what would move the cursor or colour the terminal: such characters as Python escapes them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def shape(sides: tuple[int, ...] | None) -> str:
    """1x3x256x256, with ? where a side is free."""
    if sides is None:
        return ""
    return "x".join("?" if side < 0 else str(side) for side in sides) if sides else "scalar"


def megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 10_000 else f"{size} bytes"


def tensor(said: Mapping[str, object]) -> str:
    """An input or output as inspection.Inspection has it: name, type, shape, layout, colours, range, code, meaning."""
    parts = [f"{said['dtype']} {shape(said['shape'])}".strip()]
    parts += [str(said[key]) for key in ("layout", "color_order") if said.get(key)]
    if said.get("range") is not None:
        low, high = said["range"]
        parts.append(f"values {low:g} to {high:g}")
    if said.get("scale") is not None:
        parts.append(f"{said['scale']:.6g} * (level - {said['zero_point']})")
    if said.get("meaning") and said["meaning"] != said["name"]:
        parts.append(str(said["meaning"]))
    text = f" - {said['text']}" if said.get("text") else ""
    return printable(f"{said['name']}: {', '.join(parts)}{text}")


def preprocessing(how: Preprocessing, size: tuple[int, int] | None) -> str:
    """How a photo becomes the picture. size: (height, width) that the file takes, to which all is scaled along."""
    own, steps = how.size, []
    if isinstance(how.resize, tuple):
        steps.append(f"resize to {how.resize[0]}x{how.resize[1]} whatever the proportions, {how.resampling}")
    elif how.resize is not None:
        steps.append(f"resize the short side to {how.resize} pixels, {how.resampling}")
    if how.crop is not None:
        steps.append(f"cut {how.crop[0]}x{how.crop[1]} (height x width) out of the centre")
    steps = steps or ["as it is"]
    scaled = "" if size is None or own is None or own == size else f"; all of it scaled along to {size[0]}x{size[1]}"
    network = "" if how.color_order == "RGB" else f"; the network itself was trained on {how.color_order}"
    return f"{', '.join(steps)}{scaled}{network}"


def preprocessing_json(how: Preprocessing) -> str:
    return json.dumps(preprocessing_to_json(how))


def normalization(said: Normalization | None) -> str:
    if said is None:
        return "none inside the file"
    mean, std = (", ".join(f"{number:g}" for number in numbers) for numbers in (said.mean, said.std))
    return f"inside the file: (value - mean) / std with mean {mean} and std {std}"


def suppression(rule: Suppression) -> str:
    limits = {"of a class": rule.kept_per_class, "in all": rule.kept}
    kept = [f"at most {count} {of}" for of, count in limits.items() if count is not None]
    classes = ["each box of its most probable class alone"] if rule.one_class else []
    thresholds = f"scores above {rule.score_threshold:g}, overlaps (IoU) up to {rule.iou_threshold:g}"
    return ", ".join([thresholds, *kept, *classes])


def weights(shares: Mapping[str, Share]) -> str:
    parts = [f"{name} {share.elements:,} ({megabytes(share.bytes)})" for name, share in shares.items()]
    return ", ".join(parts)


def counts(histogram: Mapping[str, int], versions: Mapping[str, tuple[int, ...]]) -> str:
    """Operators with their numbers, and their versions where these are known and not all 1."""
    told = []
    for type_, count in histogram.items():
        known = versions.get(type_, (1,))
        version = "" if known == (1,) else f" (v{', '.join(map(str, known))})"
        told.append(printable(f"{type_} {count}{version}"))
    return ", ".join(told)


def several(items: tuple[str, ...], shown: int) -> str:
    """The first few of a list, and how many more there are."""
    rest = f", and {len(items) - shown} more" if len(items) > shown else ""
    return printable(", ".join(items[:shown])) + rest

"""Encoded photos with what each file makes of them by its own preprocessing (mvit-verify --images)."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mvit_deploy.decoding import decode
from mvit_deploy.errors import UsageError
from mvit_deploy.html import classified, words
from mvit_deploy.html.drawing import data_uri, thumbnail, with_boxes
from mvit_deploy.html.exhibits import PYTORCH, Answer, Gallery, Picture
from mvit_deploy.html.subjects import JudgedFile, by_model
from mvit_deploy.labelling.telling import named
from mvit_deploy.metadata import preprocessing_from_json
from mvit_deploy.preprocessing import apply
from mvit_deploy.report import look_up

log = logging.getLogger(__name__)
MOST = 24
NOTE = "From the encoded photo on: each file prepares it as it declares itself, PyTorch as its checkpoint says."
NAMED = 3  # labels in an answer
Row = dict[str, object]


def photo_galleries(judged: Sequence[JudgedFile]) -> list[Gallery]:
    """One of each model that photos were labelled with, those that differ first."""
    found = (_gallery([each for each in group if _rows(each)]) for group in by_model(judged))
    return [gallery for gallery in found if gallery is not None]


def _rows(each: JudgedFile) -> dict[str, Row]:
    """By the name of the photo."""
    rows = each.says("verification", "photo_labels", "photos")
    return {str(row["name"]): row for row in rows} if isinstance(rows, list) else {}


def _gallery(group: list[JudgedFile]) -> Gallery | None:
    if not group:
        return None
    folder = Path(str(group[0].says("verification", "photo_labels", "folder")))
    rows = [_rows(each) for each in group]
    names = list(dict.fromkeys(name for own in rows for name in own))
    differs = {name for own in rows for name, row in own.items() if row["same_label"] is False}
    shown = sorted(names, key=lambda name: name not in differs)[:MOST]
    pictures = tuple(_picture(folder, name, group, rows) for name in shown)
    return Gallery(f"Photos in {folder}", pictures, len(names) - len(shown), (NOTE,))


def _picture(folder: Path, name: str, group: list[JudgedFile], rows: list[dict[str, Row]]) -> Picture:
    pairs = [(each, own[name]) for each, own in zip(group, rows, strict=True) if name in own]
    try:
        photo = decode(folder / name)
        image = data_uri(thumbnail(np.asarray(photo)))
        drawings = [_drawn(photo, *pairs[0], "reference"), *(_drawn(photo, *pair, "file") for pair in pairs)]
    except UsageError as error:  # it was read a moment ago; the page says what was judged all the same
        log.warning("no thumbnail: %s", error)
        image, drawings = "", [""] * (1 + len(pairs))
    lines = [_lines(pairs[0][1], "reference"), *(_lines(row, "file") for _, row in pairs)]
    by = [(PYTORCH, None), *((each.key, row["same_label"]) for each, row in pairs)]
    answers = [Answer(who, said, drawing, same) for (who, same), said, drawing in zip(by, lines, drawings, strict=True)]
    return Picture(name, "photo", image, tuple(answers))


def _lines(row: Row, side: str) -> tuple[str, ...]:
    """The answer of one side, and what more of it there is."""
    found = row[side]
    if f"{side}_count" in row:
        count = row[f"{side}_count"]
        boxes = "no box" if not count else words.plural(count, "box").replace("boxs", "boxes")
        return (boxes, *(f"{named(each)} {each['score']:.2f}" for each in found[:NAMED]))
    if found and "share" in found[0]:
        shares = tuple(f"{named(each)} {each['share']:.0%}" for each in found[:NAMED])
        agreement = look_up(row, "agreement")
        as_pytorch = [f"{agreement:.2%} of the points as PyTorch's"] if side == "file" and agreement is not None else []
        return (*as_pytorch, *shares)
    return classified.of_row("", row)[side == "file"].lines


def _drawn(photo: object, each: JudgedFile, row: Row, side: str) -> str:
    """The picture as that side prepares it, with its boxes; nothing of other answers."""
    size = each.says("model", "image_size")
    how = each.says("verification", "photo_labels", "preprocessing", side)
    if f"{side}_count" not in row or size is None or how is None:
        return ""
    labels = each.says("artifact", "labels") or ()
    places = {label: place for place, label in enumerate(labels)}
    boxes = [(np.array(found["box"]), _number(found["label"], places)) for found in row[side]]
    pixels = apply(photo, preprocessing_from_json(how), tuple(size))
    return data_uri(with_boxes(pixels, boxes[::-1]))


def _number(label: str | int, places: dict[str, int]) -> int:
    """Of a class, for its colour."""
    return label if isinstance(label, int) else places.get(label, 0)

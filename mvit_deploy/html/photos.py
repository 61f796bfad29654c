"""Encoded photos with the labels that each file gives them by its own preprocessing (mvit-verify --images)."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mvit_deploy.decoding import decode
from mvit_deploy.errors import UsageError
from mvit_deploy.html import classified
from mvit_deploy.html.drawing import data_uri, thumbnail
from mvit_deploy.html.exhibits import Answer, Gallery, Picture
from mvit_deploy.html.subjects import JudgedFile, by_model

log = logging.getLogger(__name__)
MOST = 24
NOTE = "From the encoded photo on: each file prepares it as it declares itself, PyTorch as its checkpoint says."
Rows = dict[str, tuple[Answer, Answer]]  # PyTorch's answer and the file's, by the name of the photo


def photo_galleries(judged: Sequence[JudgedFile]) -> list[Gallery]:
    """One of each model that photos were labelled with, those that differ first."""
    found = (_gallery([each for each in group if _rows(each)]) for group in by_model(judged))
    return [gallery for gallery in found if gallery is not None]


def _rows(each: JudgedFile) -> Rows:
    rows = each.says("verification", "photo_labels", "photos")
    return {str(row["name"]): classified.of_row(each.key, row) for row in rows} if isinstance(rows, list) else {}


def _gallery(group: list[JudgedFile]) -> Gallery | None:
    if not group:
        return None
    folder = Path(str(group[0].says("verification", "photo_labels", "folder")))
    rows = [_rows(each) for each in group]
    names = list(dict.fromkeys(name for own in rows for name in own))
    differs = {name for own in rows for name, (_, answer) in own.items() if answer.same is False}
    shown = sorted(names, key=lambda name: name not in differs)[:MOST]
    pictures = tuple(_picture(folder, name, [own[name] for own in rows if name in own]) for name in shown)
    return Gallery(f"Photos in {folder}", pictures, len(names) - len(shown), (NOTE,))


def _picture(folder: Path, name: str, pairs: list[tuple[Answer, Answer]]) -> Picture:
    answers = (pairs[0][0], *(own for _, own in pairs))
    try:
        image = data_uri(thumbnail(np.asarray(decode(folder / name))))
    except UsageError as error:  # it was read a moment ago; the page says what was judged all the same
        log.warning("no thumbnail: %s", error)
        image = ""
    return Picture(name, "photo", image, answers)

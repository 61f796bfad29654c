"""Pictures with what PyTorch and each file say of them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from mvit_deploy import chatter, runtimes
from mvit_deploy.errors import MvitError
from mvit_deploy.html import classified, drawn
from mvit_deploy.html.classified import Answers
from mvit_deploy.html.drawing import DRAWN_PX, THUMBNAIL_PX, data_uri, thumbnail
from mvit_deploy.html.exhibits import PYTORCH, Answer, Gallery, Picture
from mvit_deploy.html.photos import photo_galleries
from mvit_deploy.html.subjects import JudgedFile, Seen, by_model, seen
from mvit_deploy.runtimes import CannotRunHere, Runner

log = logging.getLogger(__name__)
MOST_REPORTED, MOST_RUN, MOST_DRAWN = 16, 8, 6  # pictures: with labels in reports, run again, drawn
DETECTION_NOTE = (
    f"Up to {drawn.MOST_BOXES} boxes with a score above {drawn.LEAST_SCORE:g} are drawn. One is PyTorch's where "
    f"PyTorch has one of the same class that covers {drawn.SAME_IOU:.0%} of both and has a score within "
    f"{drawn.SAME_SCORE:g}."
)
NOTES = {"detection": (DETECTION_NOTE,)}


def galleries(judged: Sequence[JudgedFile]) -> list[Gallery]:
    """One of each model whose images are known and whose answers can be shown, files being run on them where their
    reports do not say; then one of each that encoded photos were labelled with."""
    found = (_gallery(group) for group in by_model(judged))
    return [gallery for gallery in found if gallery is not None] + photo_galleries(judged)


def _gallery(group: list[JudgedFile]) -> Gallery | None:
    images, task = seen(group), str(group[0].says("model", "task"))
    if not images:
        return None
    first = next(iter(images.values())).outputs
    if drawn.can_be_drawn(first):
        return _drawn_gallery(group, task, images)
    return _classified_gallery(group, task, images) if task == "classification" and "logits" in first else None


def _classified_gallery(group: list[JudgedFile], task: str, images: dict[str, Seen]) -> Gallery:
    said = {each.key: classified.reported(each) for each in group}
    differing = {d for rows in said.values() for d, (_, own) in rows.items() if own.same is False}
    most = MOST_REPORTED if any(said.values()) else MOST_RUN
    shown = _first(images, lambda digest: digest in differing, most)
    reference = classified.of_pytorch(shown, _labels(group))
    reference |= {d: expected for rows in said.values() for d, (expected, _) in rows.items() if d in shown}
    columns, notes = [reference], []
    for each in group:
        own = {digest: answer for digest, (_, answer) in said[each.key].items() if digest in shown}
        rest = {digest: image for digest, image in shown.items() if digest not in own}
        more, note = _answers(each, rest, lambda runner, e=each, r=rest: classified.of_file(e.key, runner, r))
        columns.append(own | more)
        notes += note
    return _joined(task, images, shown, columns, notes, THUMBNAIL_PX)


def _drawn_gallery(group: list[JudgedFile], task: str, images: dict[str, Seen]) -> Gallery:
    shown = _first(images, lambda digest: False, MOST_DRAWN)
    columns, notes = [drawn.of_pytorch(shown, _labels(group))], [*NOTES.get(task, ())]
    for each in group:
        found, note = _answers(each, shown, lambda runner, e=each: drawn.of_file(e, runner, shown))
        columns.append(found)
        notes += note
    return _joined(task, images, shown, columns, notes, DRAWN_PX)


def _labels(group: list[JudgedFile]) -> tuple[str, ...] | None:
    """As the first report that has any."""
    found = (each.says("artifact", "labels") for each in group)
    return next((tuple(map(str, labels)) for labels in found if isinstance(labels, list | tuple)), None)


def _first(images: dict[str, Seen], is_first: Callable[[str], bool], most: int) -> dict[str, Seen]:
    """As many as are shown: those that matter first, in their order otherwise."""
    order = sorted(images, key=lambda digest: not is_first(digest))
    return {digest: images[digest] for digest in order[:most]}


def _answers(
    each: JudgedFile, images: dict[str, Seen], answer: Callable[[Runner], Answers]
) -> tuple[Answers, list[str]]:
    """A file's answers, and what a reader has to know; none of a file that is not there."""
    if not images or not each.is_there:
        return {}, []
    try:
        with chatter.into_log(f"html-{each.path.name}"):
            return answer(runtimes.open_file(each.path)), []
    except (MvitError, CannotRunHere) as error:
        log.warning("%s: not run for the page's pictures: %s", each.path.name, error)
        return {}, [f"{each.path.name} was not run for these pictures: {error}"]


def _joined(
    task: str, images: dict[str, Seen], shown: dict[str, Seen], columns: list[Answers], notes: list[str], side: int
) -> Gallery:
    pictures = []
    for digest, image in shown.items():
        answers = [column[digest] for column in columns if digest in column]
        uri = data_uri(thumbnail(image.pixels, side))
        pictures.append(Picture(image.name, image.kind, uri, tuple(map(_fair, answers))))
    return Gallery(task, tuple(pictures), len(images) - len(shown), tuple(notes))


def _fair(answer: Answer) -> Answer:
    """PyTorch is not compared with itself."""
    return replace(answer, same=None) if answer.by == PYTORCH else answer

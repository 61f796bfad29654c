"""Errors by stage of each file, as its report has them or by following its values."""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from mvit_deploy import chatter
from mvit_deploy.adopt import adopt
from mvit_deploy.errors import MvitError
from mvit_deploy.html.exhibits import StageErrors
from mvit_deploy.html.subjects import SEEN_KINDS, Judged, by_model
from mvit_deploy.locate import TOLERANCES, Trail, locate, trail
from mvit_deploy.nn.heads.classification import Classifier
from mvit_deploy.report import look_up
from mvit_deploy.runtimes import CannotRunHere

log = logging.getLogger(__name__)
# A quantized stage further off than this may as well be another value of the same shape.
QUANTIZED_LIMIT = 0.5


def stage_errors(judged: Sequence[Judged]) -> list[StageErrors]:
    """Of the files of classifiers of ours; what cannot be followed is told in the log and left out."""
    return [errors for group in by_model(judged) for errors in _of_group(group)]


def _of_group(group: list[Judged]) -> list[StageErrors]:
    trails = _trails(group)
    found = []
    for each in group:
        told = _reported(each)
        if told is None and trails is not None and each.is_there:
            told = _followed(each, trails)
        if told is not None:
            found.append(told)
    return found


def _reported(each: Judged) -> StageErrors | None:
    stages = each.says("verification", "location", "stages")
    if not isinstance(stages, list | tuple):
        return None
    return StageErrors(each.key, tuple((str(look_up(s, "stage")), look_up(s, "rel_max")) for s in stages))


def _trails(group: list[Judged]) -> Callable[[str], Trail] | None:
    """PyTorch's values by suffix, on one photo and one noise image for all files; None for no classifier of ours."""
    known = next((each for each in group if each.source is not None and each.inputs is not None), None)
    if known is None:
        return None
    model, kinds = adopt(known.source.module), known.inputs.kinds
    photos = [place for place, kind in enumerate(kinds) if kind in SEEN_KINDS]
    noise = [place for place, kind in enumerate(kinds) if kind == "noise"]
    if not isinstance(model, Classifier) or not (photos or noise):
        return None
    pixels, done = known.inputs.pixels[[*photos[:1], *noise[:1]]], {}

    def trail_of(suffix: str) -> Trail:
        form = suffix == ".tflite"  # the only form that is another one
        if form not in done:
            done[form] = trail(model, pixels, suffix, color_order=known.source.color_order)
        return done[form]

    return trail_of


def _followed(each: Judged, trails: Callable[[str], Trail]) -> StageErrors | None:
    tolerance = TOLERANCES.get(str(each.says("artifact", "precision")))
    try:
        with chatter.into_log(f"html-{each.path.name}"):
            found = locate(each.path, trails(each.path.suffix), tolerance=np.inf if tolerance is None else tolerance)
    except (MvitError, CannotRunHere) as error:
        log.warning("%s: its stages cannot be followed: %s", each.path.name, error)
        return None
    limit = QUANTIZED_LIMIT if tolerance is None else np.inf
    rows = ((s.stage, s.rel_max if s.rel_max is not None and s.rel_max <= limit else None) for s in found.stages)
    return StageErrors(each.key, tuple(rows))

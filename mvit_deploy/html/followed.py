"""Files followed along PyTorch's stages, on the same images for all of them."""

import logging
from collections.abc import Sequence
from functools import cache

import numpy as np

from mvit_deploy import chatter
from mvit_deploy.adopt import adopt
from mvit_deploy.errors import MvitError
from mvit_deploy.html.exhibits import StageErrors
from mvit_deploy.html.subjects import SEEN_KINDS, JudgedFile
from mvit_deploy.images import ImageSet
from mvit_deploy.locate import TOLERANCES, Trail, locate, trail
from mvit_deploy.nn.heads.classification import Classifier
from mvit_deploy.reference import Reference
from mvit_deploy.runtimes import CannotRunHere

log = logging.getLogger(__name__)
# A quantized stage further off than this may as well be another value of the same shape.
QUANTIZED_LIMIT = 0.5


def stage_errors(files: Sequence[JudgedFile], source: Reference, inputs: ImageSet) -> dict[str, StageErrors]:
    """By the files' keys, on a photo and on noise; nothing for a module that is no classifier of ours."""
    model, kinds = adopt(source.module), inputs.kinds
    photos = [place for place, kind in enumerate(kinds) if kind in SEEN_KINDS]
    noise = [place for place, kind in enumerate(kinds) if kind == "noise"]
    if not isinstance(model, Classifier) or not (photos or noise):
        return {}
    pixels = inputs.pixels[[*photos[:1], *noise[:1]]]

    @cache
    def trail_of(suffix: str) -> Trail:
        return trail(model, pixels, suffix, color_order=source.color_order)

    found = {}
    for each in files:
        suffix = ".tflite" if each.path.suffix == ".tflite" else ""  # the only target with a form of its own
        try:
            with chatter.into_log(f"html-{each.path.name}"):
                found[each.key] = _followed(each, trail_of(suffix))
        except (MvitError, CannotRunHere) as error:
            log.warning("%s: its stages cannot be followed: %s", each.path.name, error)
    return found


def _followed(each: JudgedFile, values: Trail) -> StageErrors:
    tolerance = TOLERANCES.get(str(each.says("artifact", "precision")))
    found = locate(each.path, values, tolerance=np.inf if tolerance is None else tolerance)
    limit = QUANTIZED_LIMIT if tolerance is None else np.inf
    rows = ((s.stage, s.rel_max if s.rel_max is not None and s.rel_max <= limit else None) for s in found.stages)
    return StageErrors(each.key, tuple(rows))

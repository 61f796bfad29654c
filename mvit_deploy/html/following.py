"""Errors by stage of each file, as its report has them or by following its values."""

from collections.abc import Sequence

from mvit_deploy.html.exhibits import StageErrors
from mvit_deploy.html.subjects import JudgedFile, by_model
from mvit_deploy.report import look_up


def stage_errors(judged: Sequence[JudgedFile]) -> list[StageErrors]:
    """Of the files of classifiers of ours; what cannot be followed is told in the log and left out."""
    return [errors for group in by_model(judged) for errors in _of_group(group)]


def _of_group(group: list[JudgedFile]) -> list[StageErrors]:
    found = {each.key: _reported(each) for each in group}
    rest = [each for each in group if found[each.key] is None and each.is_there]
    known = next((each for each in group if each.source is not None and each.inputs is not None), None)
    if rest and known is not None:
        from mvit_deploy.html import followed  # with PyTorch, which is there where a module is

        found |= followed.stage_errors(rest, known.source, known.inputs)
    return [errors for errors in found.values() if errors is not None]


def _reported(each: JudgedFile) -> StageErrors | None:
    stages = each.says("verification", "location", "stages")
    if not isinstance(stages, list | tuple):
        return None
    return StageErrors(each.key, tuple((str(look_up(s, "stage")), look_up(s, "rel_max")) for s in stages))

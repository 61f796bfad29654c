"""From reports and evidence to one HTML page that holds everything it shows."""

import re
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mvit_deploy.html import comparisons, verdicts, words
from mvit_deploy.html.exhibits import PYTORCH, Gallery, StageErrors, Timing
from mvit_deploy.html.models import models
from mvit_deploy.html.operators import operators
from mvit_deploy.html.plan import quantization
from mvit_deploy.report import Report, look_up

_ENVIRONMENT = Environment(
    loader=PackageLoader("mvit_deploy.html"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def breakable(text: object) -> Markup:
    """Escaped text whose long words may be broken behind a separator."""
    return Markup(re.sub(r"(?<=[_./])(?=\w)", "<wbr>", str(escape(str(text)))))


_ENVIRONMENT.filters["breakable"] = breakable
SYMBOLS = {"match": "✓", "mismatch": "✗", "failed": "✗", "not_run": "?"}


def render(
    reports: Sequence[Report],
    *,
    galleries: Sequence[Gallery] = (),
    stages: Sequence[StageErrors] = (),
    timing: Timing | None = None,
) -> str:
    """A page of everything that reports say, with pictures, errors by stage and times where there are any.

    A part for which there is nothing is left out. Nothing is run, read or measured: the same arguments give the same
    page. All text is escaped; the page refers to nothing outside itself, and its policy forbids it to.
    """
    names = words.short_names(str(result.path) for result in reports)
    worst, verdict = verdicts.overall(reports)
    page = _ENVIRONMENT.get_template("page.html.j2").render(
        title=_title(reports),
        symbols=SYMBOLS,
        worst=worst,
        verdict=verdict,
        models=models(reports),
        made=_made(reports),
        rows=[verdicts.row(result, names[str(result.path)]) for result in reports],
        troubles=verdicts.troubles(reports, names),
        galleries=[_gallery(gallery, names) for gallery in galleries if gallery.pictures],
        stages=comparisons.stages(stages, names),
        quantization=quantization(reports, names),
        operators=operators(reports, names),
        sizes=comparisons.sizes(reports, names),
        times=None if timing is None else comparisons.times(timing, reports, names),
        timing=timing,
        claims=verdicts.claims(reports, names),
    )
    return page.encode("utf-8", "backslashreplace").decode("utf-8")  # paths that are not UTF-8 hold lone surrogates


def _title(reports: Sequence[Report]) -> str:
    modes = dict.fromkeys(look_up(result.content, "model", "mode") for result in reports)
    tasks = dict.fromkeys(look_up(result.content, "model", "task") for result in reports)
    what = " ".join(words.listed([str(word) for word in each if word]) for each in (modes, tasks))
    return f"MobileViT {what}".strip()


def _made(reports: Sequence[Report]) -> dict[str, str]:
    """Commands, the last date and the versions of what made the reports."""
    contents = [result.content for result in reports]
    commands = dict.fromkeys(str(look_up(content, "command") or "") for content in contents)
    tools: dict[str, str] = {}
    for content in contents:
        found = look_up(content, "tools")
        tools |= {str(k): str(v) for k, v in (found if isinstance(found, dict) else {}).items()}
    rows = {
        "Command": "; ".join(filter(None, commands)),
        "Date": max((str(look_up(content, "created") or "") for content in contents), default=""),
        "Made with": ", ".join(f"{name} {version}" for name, version in tools.items()),
    }
    return {name: value for name, value in rows.items() if value}


def _gallery(gallery: Gallery, names: dict[str, str]) -> dict[str, object]:
    """Columns for PyTorch and for each file that says anything, rows for the pictures."""
    by = dict.fromkeys(answer.by for picture in gallery.pictures for answer in picture.answers)
    order = [*(who for who in by if who == PYTORCH), *(who for who in by if who != PYTORCH)]
    answers = [{answer.by: answer for answer in picture.answers} for picture in gallery.pictures]
    rows = [
        {"picture": picture, "answers": [own.get(who) for who in order]}
        for picture, own in zip(gallery.pictures, answers, strict=True)
    ]
    told = [answer for picture in gallery.pictures for answer in picture.answers if answer.same is not None]
    return {
        "task": gallery.task,
        "columns": [names.get(who, who) for who in order],
        "rows": rows,
        "notes": gallery.notes,
        "left_out": gallery.left_out,
        "told": len(told),
        "different": sum(answer.same is False for answer in told),
        "is_drawn": any(answer.image for picture in gallery.pictures for answer in picture.answers),
    }

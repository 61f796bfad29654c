"""What reports say of their files, in the words and rows of a page: verdicts, why files failed, claims."""

from collections.abc import Sequence
from dataclasses import dataclass

from mvit_deploy.html import words
from mvit_deploy.parity import MATCH, MISMATCH, NOT_RUN
from mvit_deploy.report import Report, look_up

FAILED = "failed"
VERDICTS = (MATCH, MISMATCH, FAILED, NOT_RUN)
WORST_FIRST = (FAILED, MISMATCH, NOT_RUN, MATCH)
SAID = {  # of one file, of several
    MATCH: ("matches PyTorch", "match PyTorch"),
    MISMATCH: ("does not match", "do not match"),
    FAILED: ("could not be made", "could not be made"),
    NOT_RUN: ("was not judged", "were not judged"),
}
FLOORS = {
    "rel_max_each": ("rel_max", "≤", ".0e", "each input"),
    "sqnr_db_each": ("SQNR", "≥", "g", "each input"),
    "sqnr_db_photos": ("SQNR", "≥", "g", "photos"),
    "rel_max_synthetic": ("rel_max", "≤", "g", "noise and extremes"),
    "mean_kl_photos": ("mean KL", "≤", "g", "photos"),
    "top1_agreement_photos": ("top-1 same", "≥", ".1%", "photos"),
}
LEAST_PHOTOS = "top1_agreement_least_photos"


@dataclass(frozen=True)
class FileRow:
    """A line of the table of verdicts."""

    name: str
    target: str
    precision: str
    verdict: str
    size: str
    rel_max: str
    sqnr_db: str
    photos_db: str
    top1: str
    kl: str
    judge: str
    floors: str


@dataclass(frozen=True)
class Trouble:
    """What is to be said of one file in full."""

    name: str
    verdict: str
    reason: str
    place: str
    remarks: tuple[str, ...]
    audit: tuple[dict[str, object], ...]


@dataclass(frozen=True)
class Claims:
    """What a file's certificate claims."""

    name: str
    rows: tuple[dict[str, object], ...]

    @property
    def broken(self) -> int:
        return sum(row["holds"] is False for row in self.rows)


def verdict_of(result: Report) -> str:
    """One of VERDICTS: a file that could not be made is failed, whatever else."""
    return FAILED if result.exit_code == 6 else result.verdict


def overall(results: Sequence[Report]) -> tuple[str, str]:
    """The worst verdict, and how many files have which in words."""
    counts = {verdict: sum(verdict_of(r) == verdict for r in results) for verdict in VERDICTS}
    found, total = [verdict for verdict, count in counts.items() if count], len(results)
    worst = next((verdict for verdict in WORST_FIRST if counts[verdict]), NOT_RUN)
    if len(found) > 1:
        parts = [f"{counts[verdict]} {SAID[verdict][counts[verdict] > 1]}" for verdict in found]
        return worst, f"Of {total} files {words.listed(parts)}."
    if total > 1:
        return worst, f"All {total} files {SAID[worst][1]}."
    return worst, f"The file {SAID[worst][0]}." if total else "There is no file."


def row(result: Report, name: str) -> FileRow:
    """A file's line. name: as the page calls it."""
    artifact, found = look_up(result.content, "artifact"), look_up(result.content, "verification")
    outputs = look_up(found, "outputs") or []
    errors, photos = worst(outputs), worst([each.get("photos") or {} for each in outputs])
    return FileRow(
        name=name,
        target=words.text(look_up(artifact, "target")),
        precision=words.text(look_up(artifact, "precision")),
        verdict=verdict_of(result),
        size=words.megabytes(look_up(artifact, "size_bytes")),
        rel_max=words.number(errors["rel_max"], ".1e"),
        sqnr_db=words.decibels(errors["sqnr_db"]),
        photos_db=words.decibels(photos["sqnr_db"]),
        top1=words.number(errors["top1_agreement"], ".1%"),
        kl=words.number(errors["mean_kl"], ".1e"),
        judge=judge(look_up(found, "runtime")) if outputs else "nobody here",
        floors=floors(look_up(found, "tolerance")) if outputs else words.NOTHING,
    )


def worst(outputs: Sequence[dict[str, object]]) -> dict[str, float | None]:
    """Of several outputs the largest errors and the least of what is better when large; None where none has one."""
    ways = {"rel_max": max, "mean_kl": max, "sqnr_db": min, "top1_agreement": min}
    known = {key: [o[key] for o in outputs if words.is_number(o.get(key))] for key in ways}
    return {key: way(known[key]) if known[key] else None for key, way in ways.items()}


def judge(runtime: object) -> str:
    """Who ran a file; the evaluator has this tool's own version, which says nothing."""
    name, version = look_up(runtime, "name"), look_up(runtime, "version")
    if look_up(runtime, "kind") == "evaluator" or version is None:
        return words.text(name)
    return f"{name} {version}"


def floors(tolerance: object) -> str:
    """Every floor that held, in words."""
    if not isinstance(tolerance, dict) or not tolerance:
        return "none, numbers are reported only"
    found = []
    for key, limit in tolerance.items():
        if key == LEAST_PHOTOS:
            continue
        if key not in FLOORS:
            found.append(f"{key} {words.number(limit, 'g')}")
            continue
        what, relation, form, of = FLOORS[key]
        unit = " dB" if what == "SQNR" else ""
        found.append(f"{what} {relation} {words.number(limit, form, unit)} ({of})")
    least = tolerance.get(LEAST_PHOTOS)
    return "; ".join(found) + (f" from {least} photos on" if least and found else "")


def troubles(results: Sequence[Report], names: dict[str, str]) -> list[Trouble]:
    """The files of which more is to be said than their line in the table says, those without a match first."""
    found = [_trouble(result, names[str(result.path)]) for result in results]
    told = [each for each in found if each.reason or each.place or each.audit or each.remarks]
    return sorted(told, key=lambda each: (each.verdict == MATCH, each.verdict == NOT_RUN))


def _trouble(result: Report, name: str) -> Trouble:
    found = look_up(result.content, "verification")
    audit = look_up(found, "fp16_audit", "findings") or ()
    failed = verdict_of(result) in (MISMATCH, FAILED)
    worst_input = look_up(found, "worst_input")
    remarks = [f"The input with the largest error is {worst_input}."] if failed and worst_input else []
    remarks += _suppression(look_up(found, "suppression"), look_up(found, "inputs", "count"))
    return Trouble(
        name, verdict_of(result), result.reason, _place(look_up(found, "location")), tuple(remarks), tuple(audit)
    )


def _suppression(found: object, count: object) -> list[str]:
    """What was counted of a detector that sorts its boxes out."""
    if not isinstance(found, dict):
        return []
    faults = look_up(found, "faults")
    held = "all as the rule of suppression has them" if not faults else f"{faults} break the rule of suppression"
    return [f"{words.number(look_up(found, 'detections'), ',d')} detections on {count} images: {held}."]


def _place(location: object) -> str:
    """Where a file leaves PyTorch."""
    if not isinstance(location, dict):
        return ""
    if location.get("first_stage") is None:
        return "Every stage agrees with PyTorch."
    operation, where = location.get("first_operation"), ""
    if isinstance(operation, dict):
        outputs = operation.get("outputs") or [""]
        where = f", first in line {operation.get('line')}: {operation.get('type')} {outputs[0]}"
    return f"Leaves PyTorch in stage {location['first_stage']}{where}."


def claims(results: Sequence[Report], names: dict[str, str]) -> list[Claims]:
    """The claims of each certificate that was checked."""
    found = []
    for result in results:
        rows = look_up(result.content, "verification", "claims")
        if isinstance(rows, list | tuple) and rows:
            told = ({key: look_up(each, key) for key in ("claim", "holds", "detail")} for each in rows)
            found.append(Claims(names[str(result.path)], tuple(told)))
    return found

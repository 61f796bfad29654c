"""The body of mvit-diff: compare two files and print where they differ."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mvit_deploy import chatter, comparison, images, inspection, report
from mvit_deploy.cli import words
from mvit_deploy.cli.console import console_on
from mvit_deploy.comparison import DIFFERS, SAME, Comparison, Identical
from mvit_deploy.comparison.contract import Difference
from mvit_deploy.comparison.labels import LabelChanges
from mvit_deploy.comparison.numbers import Numbers
from mvit_deploy.errors import MvitError
from mvit_deploy.inspection import Inspection
from mvit_deploy.parity import Judgement

_SHOWN = 5
_STYLES = {SAME: "green", DIFFERS: "red"}

Row = tuple[str, str, str]


def run_diff(a: Path, b: Path, *, images: Path | None, allowed: list[str], command: str, as_json: bool) -> int:
    """Compare two files; human text to stderr, with as_json all of it to stdout. Returns the exit code.

    Raises: UsageError, MissingLibraryError, DamagedFileError.
    """
    names = comparison.check_allowed(allowed)
    inspection.check([a, b])
    _check_folder(images)
    found = _compared(a, b, images, names)
    if as_json:
        head = {"schema_version": report.SCHEMA_VERSION, "command": command, "exit_code": found.exit_code}
        click.echo(report.dump([head | found.to_json()]), nl=False)
    console = console_on(sys.stderr)
    if isinstance(found, Identical):
        _say(console, f"{a} and {b} are the same, byte for byte (sha256 {found.sha256})")
    else:
        _show(found, console)
    return found.exit_code


def _check_folder(folder: Path | None) -> None:
    """Raises: UsageError for a folder without pictures."""
    if folder is not None:
        images.list_images(folder)


def _compared(a: Path, b: Path, folder: Path | None, allowed: frozenset[str]) -> Comparison | Identical:
    """Errors of a person's making leave no log behind."""
    error: MvitError
    with chatter.into_log(f"diff-{a.name}"):
        try:
            return comparison.compare(a, b, folder=folder, allowed=allowed)
        except MvitError as raised:
            error = raised
    raise error


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(words.printable(text), style), soft_wrap=True)


def _show(found: Comparison, console: Console) -> None:
    for name, side in (("a", found.a), ("b", found.b)):
        _say(console, f"{name}  {side.path} ({_kind(side)}, {words.megabytes(side.size_bytes)})")
    rows = list(_rows(found))
    if rows:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.add_column("differs", overflow="fold")
        table.add_column("a", overflow="fold")
        table.add_column("b", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    _show_numbers(found.numbers, console)
    same = _same(found)
    if same:
        _say(console, f"same: {', '.join(same)}")
    _say(console, _verdict(found), _STYLES.get(found.verdict, "yellow"))


def _kind(side: Inspection) -> str:
    said = None if side.interface is None else side.interface.declared
    parts = [] if said is None else [said.mode, said.task, said.precision]
    return " ".join(filter(None, parts)) or "not of mvit-deploy"


def _rows(found: Comparison) -> Iterator[Row]:
    """Where the two differ, the numbers apart: what, and what either has."""
    for each in found.differences:
        yield _difference(each)
    yield from _labels(found.labels)
    for name, counts in (found.operators or {}).items():
        yield words.printable(f"operators {name}"), *map(str, counts)
    for name, shares in (found.weights or {}).items():
        told = (f"{each.elements:,}, {words.megabytes(each.bytes)}" if each.elements else "none" for each in shares)
        yield f"weights in {name}", *told


def _difference(each: Difference) -> Row:
    a, b = each.a, each.b
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [key for key in [*a, *(key for key in b if key not in a)] if a.get(key) != b.get(key)]
        a, b = ({key: side.get(key) for key in keys} for side in (a, b))
    note = "" if each.counted else " (as the formats have it)"
    name = f"{each.field} {each.detail.replace('_', ' ')}".strip() + note
    return words.printable(name), _value(a), _value(b)


def _value(value: object) -> str:
    if isinstance(value, str):
        return words.printable(value)
    if isinstance(value, dict):
        return words.printable(", ".join(f"{key} {_value(each)}" for key, each in value.items()))
    return words.printable("not said" if value is None else json.dumps(value, ensure_ascii=False))


def _labels(found: LabelChanges) -> Iterator[Row]:
    if not found:
        return
    yield "labels", *("none" if count is None else str(count) for count in found.counts)
    kinds = {
        "renamed": [(f"{place}: {old}", f"{place}: {new}") for place, old, new in found.renamed],
        "removed": [(f"{place}: {label}", "") for place, label in found.removed],
        "added": [("", f"{place}: {label}") for place, label in found.added],
        "moved": [(f"{old}: {label}", f"{new}: {label}") for label, old, new in found.moved],
    }
    for kind, pairs in kinds.items():
        for a, b in pairs[:_SHOWN]:
            yield f"label {kind}", words.printable(a), words.printable(b)
        if len(pairs) > _SHOWN:
            yield f"label {kind}", f"… {len(pairs) - _SHOWN} more", _shift(found) if kind == "moved" else ""


def _shift(found: LabelChanges) -> str:
    """By how much labels have moved, where all have moved alike."""
    steps = {new - old for _, old, new in found.moved}
    return f"all by {steps.pop():+d}" if len(steps) == 1 else ""


def _show_numbers(found: Numbers, console: Console) -> None:
    if not found.judgements:
        _say(console, f"numbers: {found.reason or 'not compared'}")
        return
    table = Table(
        title=f"b against a on {found.images} images, each prepared as its file declares; floors of {found.precision}",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("numbers", no_wrap=True)
    for name in ("max_abs", "rel_max", "SQNR dB", "photos dB", "top-1 same", "KL"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, each in found.judgements.items():
        table.add_row(name, *_errors(each))
    console.print(table)
    for line in _remarks(found):
        _say(console, line)


def _errors(judgement: Judgement) -> Iterator[str]:
    errors, photos = judgement.errors, judgement.photo_errors
    told = (
        (errors.max_abs, ".1e"), (errors.rel_max, ".1e"), (errors.sqnr_db, ".1f"), (photos and photos.sqnr_db, ".1f"),
        (errors.top1_agreement, ".1%"), (errors.mean_kl, ".1e"),
    )  # fmt: skip
    for value, form in told:
        yield "" if value is None else format(value, form)


def _remarks(found: Numbers) -> Iterator[str]:
    if found.reason:
        yield f"numbers: {found.reason}"
    if found.by_label:
        yield "the classes stand in another order; numbers are compared by label"
    if found.changed is not None:
        yield f"the same label on {found.images - len(found.changed)} of {found.images} images"
        for answer in found.changed[: 2 * _SHOWN]:
            yield f"  {answer.image}: a {answer.a}, b {answer.b}"
        if len(found.changed) > 2 * _SHOWN:
            yield f"  and {len(found.changed) - 2 * _SHOWN} more"
    if found.matched is not None:
        each, largest = found.matched, found.matched.largest_score_difference
        score = "" if largest is None else f", scores within {largest:.1e}"
        yield f"detections: a {each.a}, b {each.b}, {each.matched} of one class and place{score}"
    yield from (f"not compared: {line}" for line in found.left_out)


def _same(found: Comparison) -> list[str]:
    names = [name.replace("_", " ") for name in found.same if name != "metadata"]
    if not found.labels and found.a.labels is not None:
        names.insert(0, "labels")
    names += ["operators"] if found.operators == {} else []
    return names + (["weights by type"] if found.weights == {} else [])


def _verdict(found: Comparison) -> str:
    passed = sorted(found.allowed & {each.field for each in found.differences})
    may = f" (allowed to differ: {', '.join(passed)})" if passed else ""
    if found.verdict == DIFFERS:
        return f"differs in {', '.join(found.counted)}{may}"
    if found.verdict == SAME:
        return f"the same contract and labels, and numbers within the floors{may}"
    return f"the same as far as it goes, but the numbers could not be compared{may}"

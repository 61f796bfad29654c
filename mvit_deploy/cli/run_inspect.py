"""The body of mvit-inspect: read files and print what they say."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mvit_deploy import chatter, inspection, report
from mvit_deploy.cli import words
from mvit_deploy.cli.console import console_on
from mvit_deploy.errors import DamagedFileError, UsageError
from mvit_deploy.inspection import Beside, Inspection
from mvit_deploy.runtimes.census import DYNAMIC, INT16

_SHOWN_LABELS = 5
_SHOWN_LAYERS = 5
_TARGETS = {"onnx": "ONNX", "tflite": "TFLite", "coreml": "Core ML"}
_NOTHING = (
    "the file has no metadata of mvit-deploy: it says nothing of how photos are prepared{more}; mvit-verify cannot "
    "judge it by itself"
)
_NATIVE = {  # rows of their own, and what is not worth a row
    "kind", "tflite_metadata", "author", "license", "version", "preview_params", "parts", "graph", "metadata",
}  # fmt: skip

Row = tuple[str, str]


def run_inspect(files: list[Path], *, command: str, as_json: bool) -> int:
    """Tell what files say; human text to stderr, with as_json all of it to stdout. Returns the exit code."""
    inspection.check(files)
    results = [_inspect(path) for path in files]
    if as_json:
        click.echo(
            report.dump([_to_json(path, each, command) for path, each in zip(files, results, strict=True)]), nl=False
        )
    console = console_on(sys.stderr)
    for path, result in zip(files, results, strict=True):
        _show(path, result, console)
    return report.overall_exit_code(each.exit_code for each in results if isinstance(each, DamagedFileError))


def print_labels(path: Path) -> int:
    """All labels, one a line, to stdout. Raises: UsageError where there are none; DamagedFileError."""
    inspection.check([path])
    found = _inspect(path)
    if isinstance(found, DamagedFileError):
        raise found
    if found.labels is None:
        raise UsageError(f"{path} has no labels")
    if any(len(label.splitlines()) > 1 for label in found.labels):
        raise UsageError(f"a label of {path} is of several lines; --json prints it")
    click.echo("\n".join(found.labels))
    return 0


def _inspect(path: Path) -> Inspection | DamagedFileError:
    with chatter.into_log(f"inspect-{path.name}"):
        try:
            return inspection.inspect(path)
        except DamagedFileError as error:
            return error


def _to_json(path: Path, found: Inspection | DamagedFileError, command: str) -> dict[str, object]:
    head = {"schema_version": report.SCHEMA_VERSION, "command": command}
    if isinstance(found, DamagedFileError):
        return head | {"path": str(path), "exit_code": found.exit_code, "error": str(found)}
    return head | {"exit_code": 0, "error": None} | found.to_json()


def _show(path: Path, found: Inspection | DamagedFileError, console: Console) -> None:
    console.print(Text(words.printable(path), "bold"), soft_wrap=True)
    if isinstance(found, DamagedFileError):
        console.print(Text(f"error: {words.printable(found)}\n", "red"), soft_wrap=True)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, text in rows(found):
        table.add_row(f"  {name}", Text(text))
    console.print(table)
    console.print()


def rows(found: Inspection) -> Iterator[Row]:
    """What is printed of a file: a name and a text each."""
    yield "format", _format(found)
    yield "model", _model(found)
    yield "size", f"{words.megabytes(found.size_bytes)}, sha256 {found.sha256}"
    yield "parameters", _parameters(found)
    for name, said in [("input", each) for each in found.inputs] + [("output", each) for each in found.outputs]:
        yield name, words.tensor(said)
    if not found.inputs or not found.outputs:
        yield (
            "interface",
            "it has no "
            + " and no ".join(name for name, said in (("input", found.inputs), ("output", found.outputs)) if not said),
        )
    yield from _contract(found)
    if found.labels is not None:
        yield "labels", f"{len(found.labels)}: {words.several(found.labels, _SHOWN_LABELS)}"
    elif found.interface is not None:
        yield "labels", "none"
    yield from _native(found)
    versions = found.anatomy.operator_versions
    total, types = sum(found.anatomy.operators.values()), len(found.anatomy.operators)
    yield "operators", f"{total} of {types} types: {words.counts(found.anatomy.operators, versions)}"
    yield from _int8(found)
    yield "report", "none beside it" if found.beside is None else _report(found.beside)


def _format(found: Inspection) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found.anatomy.specification.items())
    kind = found.anatomy.native.get("kind")
    parts = found.anatomy.native.get("parts")
    ios = found.anatomy.min_ios
    told = [f"{_TARGETS[found.target]} (.{found.format})"]
    told += [f"{kind}{f' of {words.several(tuple(parts), 5)}' if parts else ''}"] if kind else []
    return words.printable(", ".join([*told, versions, *([f"iOS {ios} and newer"] if ios else [])]))


def _model(found: Inspection) -> str:
    if found.interface is None:
        return "unknown: not of mvit-deploy"
    said = found.interface.declared
    variant = f"variant {said.variant}" if said.variant not in (None, "paper") else None
    name = None if said.mode is None else f"MobileViT {said.mode}"
    return words.printable(", ".join(filter(None, [name, said.task, said.precision, variant])))


def _parameters(found: Inspection) -> str:
    external = found.anatomy.external
    place = f"; they stand in {words.several(external, 3)}" if external else ""
    if found.weights is None:
        return words.printable(f"not counted: {found.anatomy.unknown}") + place
    if not found.weights:
        return "none"
    return f"{found.parameters:,}, as they are stored: {words.weights(found.weights)}{place}"


def _contract(found: Inspection) -> Iterator[Row]:
    if found.interface is None:
        yield "photos", _NOTHING.format(more=", of their colour order and range" if _is_silent(found) else "")
        return
    said = found.interface.declared
    if said.preprocessing is None:
        yield "photos", "the file does not say how they are prepared"
    else:
        yield "photos", words.preprocessing(said.preprocessing, found.image_size)
        yield "", words.preprocessing_json(said.preprocessing)
    yield "normalization", words.normalization(said.normalization)
    if said.suppression is not None:
        yield "suppression", words.suppression(said.suppression)
    about = {"author": said.about.author, "licence": said.about.license, "version": said.about.version}
    known = [words.printable(f"{name} {value}") for name, value in about.items() if value is not None]
    yield "origin", ", ".join(known) or "neither author, licence nor version is said"
    yield "made from", f"weights with sha256 {words.printable(said.about.weights_sha256 or 'unknown')}"


def _is_silent(found: Inspection) -> bool:
    """Whether the platform's own fields do not say it either."""
    pictures = any(feature.color_order for feature in found.anatomy.inputs)
    return not pictures and "tflite_metadata" not in found.anatomy.native


def _native(found: Inspection) -> Iterator[Row]:
    """What the platform's own fields say, beyond what stands in other rows."""
    said = found.anatomy.native
    plain = [f"{key.replace('_', ' ')}: {_listed(value)}" for key, value in said.items() if key not in _NATIVE]
    if found.interface is None:
        about = [key for key in ("author", "license", "version") if key in said]
        plain += [f"{key}: {said[key]}" for key in about]
    if plain:
        yield "platform", words.printable("; ".join(plain))
    task = said.get("tflite_metadata")
    if task is not None:
        yield "for MediaPipe", _task(task)
    if found.other_entries:
        yield "other metadata", words.several(tuple(sorted(found.other_entries)), 8)


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _task(task: dict[str, object]) -> str:
    """TFLite Metadata in a line."""
    told = [f"TFLite Metadata: {task.get('name') or 'without a name'}"]
    for tensor in task.get("inputs", []):
        if "mean" in tensor:
            mean, std = (", ".join(f"{each:g}" for each in tensor.get(key, [])) for key in ("mean", "std"))
            told.append(f"pixels are given as (pixel - {mean}) / {std}, {tensor.get('color', 'in no colour order')}")
    told += [f"outputs {', '.join(str(each.get('name', '?')) for each in task.get('outputs', []))}"]
    told += [f"activation {task['activation']}"] if "activation" in task else []
    told += [f"needs a parser of {task['min_parser_version']}"] if "min_parser_version" in task else []
    return words.printable("; ".join(told))


def _int8(found: Inspection) -> Iterator[Row]:
    if found.uncounted:
        yield "int8", words.printable(f"not counted: {found.uncounted}")
    if found.census is None:
        return
    counted = found.census
    shares = f"{counted.int8_macs_fraction:.1%} of the multiply-accumulates and {counted.weight_fraction:.1%}"
    conversions = f"{counted.conversions} conversions between float and integers"
    others = {
        "with 16-bit activations": counted.macs_of(INT16),
        "on scales found anew in each run (dynamic)": counted.macs_of(DYNAMIC),
    }
    told = [f"{macs / counted.macs:.1%} {how}" for how, macs in others.items() if macs]
    yield "int8", "; ".join([f"{shares} of the weights ({words.printable(counted.basis)})", *told, conversions])
    layers = tuple(f"{each.name} ({each.kind})" for each in counted.kept_float)
    if layers:
        yield "in float", f"{len(layers)} of {len(counted.operations)} products: {words.several(layers, _SHOWN_LAYERS)}"


def _report(beside: Beside) -> str:
    if beside.problem:
        return words.printable(f"cannot be read: {beside.problem}")
    verdict = (beside.verdict or "no verdict").replace("_", " ")
    judged = f", judged by {beside.judged_by}" if beside.judged_by else ""
    reason = f" ({beside.reason})" if beside.reason else ""
    fits = "its sha256 is this file's" if beside.fits else "IT DESCRIBES ANOTHER FILE: its sha256 is not this one's"
    kind = "; a certificate, which mvit-verify checks again" if beside.certified else ""
    return words.printable(f"{verdict}{judged}, {beside.created or 'no date'}{reason}; {fits}{kind}")

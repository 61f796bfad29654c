"""mvit-export --doctor: what can be exported and verified on this machine, and what is missing."""

import platform
import sys
from dataclasses import asdict, dataclass

import click
from rich.table import Table

from exporters import TARGETS, Target
from mvit_deploy import report, targets
from mvit_deploy.cli.console import console_on
from mvit_deploy.errors import MissingLibraryError, MvitError
from mvit_deploy.request import split_words


@dataclass(frozen=True)
class Diagnosis:
    """What works here for one target. missing: import names; problem: an installed library that does not work."""

    target: str
    can_export: bool
    can_verify: bool
    missing: tuple[str, ...]
    problem: str
    fix: str


def run_doctor(asked: str | None, *, as_json: bool) -> int:
    """Print a table, or JSON. Returns 0, or 4 when a target that was asked for by name cannot be exported here."""
    words = split_words(asked or "all")
    chosen = list(TARGETS.values()) if "all" in words else [targets.target_named(word) for word in words]
    found = [diagnose(target) for target in chosen]
    if as_json:
        click.echo(report.dump([asdict(diagnosis) for diagnosis in found]), nl=False)
    _show(found)
    return MissingLibraryError.exit_code if asked and not all(d.can_export for d in found) else 0


def diagnose(target: Target) -> Diagnosis:
    """Look for the libraries, then really import the exporter, since an installed library may be broken."""
    missing = tuple(targets.missing_libraries(target))
    problem = "" if missing else _import_problem(target)
    exports = not targets.missing_libraries(target, to_run=False) and not problem
    runs = not targets.missing_libraries(target, to_export=False) and not problem
    fix = f"pip install 'mvit-deploy[{target.name}]'" if missing or problem else ""
    if target.name == "coreml" and runs and platform.system() != "Darwin":
        problem = "judged by the program evaluator, not Apple's runtime, which needs macOS"
    return Diagnosis(target.name, exports, runs, missing, problem, fix)


def _import_problem(target: Target) -> str:
    from mvit_deploy import chatter

    try:
        with chatter.into_log(f"doctor-{target.name}"):
            targets.exporter(target)
    except MvitError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  a broken installation can raise anything; what it raises is the diagnosis
        return f"importing it fails: {type(error).__name__}: {error}"
    return ""


def _show(found: list[Diagnosis]) -> None:
    console = console_on(sys.stderr)
    console.print("  ".join(f"{name} {version}" for name, version in report.tool_versions().items()))
    table = Table()
    for column in ("target", "export", "verify here", "missing", "remark"):
        table.add_column(column, overflow="fold")
    for d in found:
        table.add_row(d.target, _yes(d.can_export), _yes(d.can_verify), ", ".join(d.missing), d.problem or d.fix)
    console.print(table)


def _yes(value: bool) -> str:
    return "[green]yes[/]" if value else "[red]no[/]"

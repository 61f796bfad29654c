"""The one door to the exporters: by target name, and only when that target is asked for."""

import importlib
import importlib.util
from types import ModuleType

from exporters import TARGETS, Target
from mvit_deploy.errors import MissingLibraryError, UsageError
from mvit_deploy.hints import did_you_mean


def target_named(name: str) -> Target:
    """The table's row of a target. Raises: UsageError with the nearest name."""
    if name not in TARGETS:
        known = ", ".join(TARGETS)
        raise UsageError(f"unknown target {name!r}; known: {known}, all{did_you_mean(name, [*TARGETS, 'all'])}")
    return TARGETS[name]


def exporter(target: Target) -> ModuleType:
    """The target's module in exporters, with its heavy libraries. Raises: MissingLibraryError naming the extra."""
    try:
        return importlib.import_module(f"exporters.{target.name}")
    except ModuleNotFoundError as error:
        raise _missing(target, [error.name or str(error)]) from error


def missing_libraries(target: Target, *, to_run: bool = True, to_export: bool = True) -> list[str]:
    """Import names of the libraries that a target lacks here, found without importing any."""
    needed = (target.export_libraries if to_export else ()) + (target.runtime_libraries if to_run else ())
    return [name for name in dict.fromkeys(needed) if importlib.util.find_spec(name) is None]


def check_libraries(target: Target, *, to_run: bool) -> None:
    """Raises: MissingLibraryError naming the libraries and the extra that brings them."""
    missing = missing_libraries(target, to_run=to_run)
    if missing:
        raise _missing(target, missing)


def _missing(target: Target, names: list[str]) -> MissingLibraryError:
    return MissingLibraryError(
        f"target {target.name} needs {', '.join(names)}, not installed here: pip install 'mvit-deploy[{target.name}]'"
    )

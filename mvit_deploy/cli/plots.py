"""--plot of any command line: what can be seen before the work begins, and the drawing behind it."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from mvit_deploy import workplace
from mvit_deploy.errors import MissingLibraryError, MvitError, UsageError

SUFFIXES = (".png", ".svg")


def check(path: Path) -> None:
    """See that a plot can be drawn before anything else is done. Raises: UsageError; MissingLibraryError."""
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise UsageError(f"--plot {path}: give the name of a file that ends in {' or '.join(SUFFIXES)}")
    workplace.check_output(path.parent)
    try:
        import mvit_deploy.charts  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingLibraryError(f"--plot needs {error.name}: pip install {error.name}") from error


def draw(path: Path, save: Callable[[], str], console: Console) -> int:
    """Draw and say so, with what save returns behind it. Returns an exit code: what was written before stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tail = save()
    except OSError as error:
        console.print(f"error: cannot write {path}: {error.strerror or error}", soft_wrap=True, markup=False)
        return MvitError.exit_code
    console.print(f"Drawn in {path}{tail}", soft_wrap=True, markup=False)
    return 0

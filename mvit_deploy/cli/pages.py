"""--html of mvit-export and mvit-verify: what can be seen before the work begins, and the page behind it."""

from collections.abc import Callable
from pathlib import Path

from mvit_deploy import workplace
from mvit_deploy.cli.console import Steps
from mvit_deploy.errors import MissingLibraryError, MvitError, UsageError


def check(path: Path) -> None:
    """See that a page can be made before anything else is done. Raises: UsageError; MissingLibraryError."""
    if path.suffix.lower() != ".html" or path.is_dir():
        raise UsageError(f"--html {path}: give the name of a file that ends in .html")
    workplace.check_output(path.parent)
    try:
        import mvit_deploy.html  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingLibraryError(f"--html needs {error.name}: pip install {error.name}") from error


def begin(path: Path | None) -> None:
    """Remove an older page: a run that is killed must leave nothing that looks like its result."""
    if path is not None:
        workplace.remove(path)


def write(path: Path, page: Callable[[], str], steps: Steps) -> int:
    """Make the page, put it in place whole, and say so. Returns an exit code: what was written before stays."""
    with steps:
        text = page()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        workplace.write_text(path, text)
    except OSError as error:
        steps.console.print(f"error: cannot write {path}: {error.strerror or error}", soft_wrap=True, markup=False)
        return MvitError.exit_code
    steps.console.print(f"Page in {path}", soft_wrap=True, markup=False)
    return 0

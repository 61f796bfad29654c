"""--plot of any command line: what can be seen before the work begins."""

from pathlib import Path

from mvit_deploy import workplace
from mvit_deploy.errors import MissingLibraryError, UsageError

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

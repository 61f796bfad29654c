"""Files on their way: written under a temporary name beside their final one, put in place whole or not at all."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mvit_deploy.errors import UsageError

LEAST_SPACE_BYTES = 100_000


@contextmanager
def temporary_folder(output: Path) -> Iterator[Path]:
    """A hidden folder inside the output folder, which is made if need be; removed however the block ends."""
    output.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".mvit-partial-", dir=output))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_output(output: Path) -> None:
    """See that a folder is there or can be made, and a file in it. Nothing is left behind.

    Raises: UsageError when it is a file, cannot be made or cannot be written to.
    """
    new = [folder for folder in (output, *output.parents) if not os.path.exists(folder)]  # the innermost first
    try:
        _make_and_try(output)
    finally:
        for folder in new:
            with suppress(OSError, ValueError):  # it was never made, or holds what somebody else put there
                folder.rmdir()


def _make_and_try(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except FileExistsError as error:
        raise UsageError(f"the output path {output} is a file; give a folder") from error
    except NotADirectoryError as error:
        raise UsageError(f"the output path {output} leads through a file; give a folder") from error
    except OSError as error:
        raise UsageError(f"cannot write to the output folder {output}: {error.strerror}") from error
    except ValueError as error:  # a NUL, or a character that the disk has no bytes for
        raise UsageError(f"cannot write to the output folder {str(output)!r}: {error}") from error


def check_space(folder: Path) -> None:
    """Raises: OSError (ENOSPC) when the disk of a folder has next to nothing left."""
    if shutil.disk_usage(folder).free < LEAST_SPACE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)

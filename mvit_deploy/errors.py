"""The error tree. Each class owns the exit code that the command line ends with."""

import errno


class MvitError(Exception):
    """Base of every error that a user can cause or has to know about."""

    exit_code = 6


class UsageError(MvitError, ValueError):
    """Unknown or contradictory options, a bad image size, unreadable labels or images."""

    exit_code = 2


class ShapeError(UsageError):
    """A size that the network or an operation cannot take."""


class MissingLibraryError(MvitError):
    """A library that the asked target needs is not installed."""

    exit_code = 4


class CheckpointError(MvitError):
    """A checkpoint that is unreadable, unsafe, not finite, or of another network."""

    exit_code = 5


class AbsentCheckpointError(CheckpointError):
    """A checkpoint that is named and cannot be had from here."""


class ConversionError(MvitError):
    """The converter, the disk or something internal failed."""

    exit_code = 6


class DamagedFileError(MvitError):
    """A shipped file that cannot be opened or does not say what it should."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split())[:1000])  # runtimes may say a line for each operator


def explain(error: Exception) -> str:
    """One line on an error, a full disk by name, with its notes (where the log is)."""
    text = (str(error).strip().splitlines() or [""])[0][:400]
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = "the disk is full"
    elif not isinstance(error, MvitError):
        text = f"{type(error).__name__}: {text}"
    return "; ".join([text, *getattr(error, "__notes__", [])])

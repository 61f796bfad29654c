"""What every command line does with errors and signals."""

import logging
import shlex
import signal
import sys
from itertools import pairwise
from types import FrameType

import click

from mvit_deploy.errors import MvitError

INTERRUPTED = 130


def run(command: click.Command, name: str, arguments: list[str] | None) -> int:
    """Run a click command and turn every way in which it can end into one line and an exit code of the contract.

    name is the program's; the command finds the whole line that was typed in its context's obj.
    """
    _interruption.asked_for = False
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _refuse_empty(arguments)
        return command.main(arguments, standalone_mode=False, obj=shlex.join([name, *arguments])) or 0
    except click.ClickException as error:
        error.show()
        return _end(arguments, error.exit_code)
    except MvitError as error:
        click.echo(f"error: {error}", err=True)
        _trace(error)
        return _end(arguments, error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return _end(arguments, INTERRUPTED)
    except Exception as error:  # noqa: BLE001  a bug of ours: one line and the code for it; --debug shows the rest
        click.echo(f"internal error: {type(error).__name__}: {error} (--debug shows where)", err=True)
        _trace(error)
        return _end(arguments, MvitError.exit_code)


def _refuse_empty(arguments: list[str]) -> None:
    """An option that is given as nothing, as by a variable that is not set: as a path it would be the folder where one
    is. Raises: click.UsageError."""
    for word, following in pairwise([*arguments, "end"]):
        option, joined, value = word.partition("=")
        if option.startswith("--") and not (value if joined else following).strip():
            raise click.UsageError(f"{option} is given without a value")


def set_up_logging(*, debug: bool) -> None:
    """Warnings of this project to stderr, with --debug everything."""
    logger = logging.getLogger("mvit_deploy")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)


def _end(arguments: list[str], code: int) -> int:
    """With --json stdout always holds an array, here an empty one."""
    if "--json" in arguments:
        click.echo("[]")
    return code


def _trace(error: Exception) -> None:
    logging.getLogger("mvit_deploy").debug("raised here", exc_info=error)


class _Interruption:
    """Whether a person has asked this process to stop."""

    asked_for = False


_interruption = _Interruption()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    _interruption.asked_for = True
    raise KeyboardInterrupt


def raise_if_interrupted() -> None:
    """Raise an interruption again that a library has swallowed. To be called between the steps of a run."""
    if _interruption.asked_for:
        raise KeyboardInterrupt

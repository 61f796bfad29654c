"""mvit-bench: what shipped files cost, side by side."""

import sys
from pathlib import Path

import click

from mvit_deploy.cli import entry

_EPILOG = """\b
Exit codes: 0 every file was measured; 1 a damaged file; 2 usage; 4 a library is missing; 6 an internal error; 130
interrupted.
"""


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("files", metavar="FILE...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    metavar="N",
    default=15,
    show_default=True,
    help="In each every file has its turn, up to 5 runs.",
)
@click.option(
    "--warm-up",
    type=click.IntRange(min=1),
    metavar="N",
    default=5,
    show_default=True,
    help="Runs before the first round.",
)
@click.option(
    "--threads",
    metavar="N|all[,…]",
    default="1,all",
    show_default=True,
    help="A set of rounds for each; all there are.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Photos for the accuracy, in sub-folders named as the labels in the files.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE.png|.svg",
    help="Draw accuracy, or else SQNR, against latency and size.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was measured, a JSON array, to stdout.")
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_context
def command(context: click.Context, files: tuple[Path, ...], debug: bool, **named: object) -> int:
    """Time .onnx and .tflite files side by side, with load time, memory and size. Core ML files need a device.

    Every file runs in a process of its own, in turns and in rounds, so that what slows the machine down slows all of
    them down. Times are medians with the range of their middle half; ratios to the first file are taken round by round.

    \b
    mvit-bench exported/*.onnx exported/*.tflite
    mvit-bench --images photos --plot cost.png a.tflite b.tflite
    """
    entry.set_up_logging(debug=debug)
    if not files:
        raise click.UsageError("give one or more files")
    from mvit_deploy.cli.run_bench import run_bench

    return run_bench(list(files), command=context.obj, **named)


def main(arguments: list[str] | None = None) -> int:
    """Run mvit-bench and return its exit code."""
    return entry.run(command, "mvit-bench", arguments)


if __name__ == "__main__":
    sys.exit(main())

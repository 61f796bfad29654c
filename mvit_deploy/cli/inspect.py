"""mvit-inspect: what shipped files say of themselves."""

import sys
from pathlib import Path

import click

from mvit_deploy.cli import entry

_EPILOG = """\b
Exit codes: 0 every file was read, whoever made it; 1 a damaged file; 2 usage; 4 a library is missing; 6 an internal
error; 130 interrupted.
"""


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("files", metavar="FILE...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--labels", is_flag=True, help="Print all labels of one file to stdout, one a line, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print what the files say, a JSON array, to stdout.")
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_context
def command(context: click.Context, files: tuple[Path, ...], labels: bool, as_json: bool, debug: bool) -> int:
    """Say what .onnx, .tflite, .mlpackage and .mlmodel files say of themselves: inputs and outputs, preprocessing,
    labels, weights, operators, what is int8, and the verdict in the report beside them.

    Files of other tools are read as far as they go. Nothing is converted and PyTorch is not needed.

    \b
    mvit-inspect exported/mobilevit_xs_fp16.mlpackage
    mvit-inspect --labels model.tflite > labels.txt
    """
    entry.set_up_logging(debug=debug)
    if not files:
        raise click.UsageError("give one or more files")
    if labels and (as_json or len(files) > 1):
        raise click.UsageError("--labels prints those of one file and nothing else; leave out the rest")
    from mvit_deploy.cli import run_inspect

    if labels:
        return run_inspect.print_labels(files[0])
    return run_inspect.run_inspect(list(files), command=context.obj, as_json=as_json)


def main(arguments: list[str] | None = None) -> int:
    """Run mvit-inspect and return its exit code."""
    return entry.run(command, "mvit-inspect", arguments)


if __name__ == "__main__":
    sys.exit(main())

"""mvit-diff: two shipped files side by side."""

import sys
from pathlib import Path

import click

from mvit_deploy.cli import entry

_EPILOG = """\b
Exit codes, as diff has them: 0 the same contract and labels, and numbers within the floors of the looser precision of
the two; 1 something differs that --allow does not name, or a damaged file; 2 usage; 3 all is the same but the numbers
could not be compared here; 4 a library is missing; 6 an internal error; 130 interrupted. Operators, size and weights
by type are told and do not count; nor does what the formats alone decide, as layouts.
"""


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("files", metavar="A B", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--images", type=click.Path(path_type=Path), metavar="DIR", help="Photos on which both are run too, any depth."
)
@click.option(
    "--allow",
    metavar="FIELD[,…]",
    default="",
    help="What may differ, as version,weights_sha256,numbers: by the names that a difference is told under.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison, a JSON array of one, to stdout.")
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_context
def command(
    context: click.Context, files: tuple[Path, ...], images: Path | None, allow: str, as_json: bool, debug: bool
) -> int:
    """Compare two .onnx, .tflite, .mlpackage or .mlmodel files, of one target or of two: what they say of themselves,
    labels, operators, weights, and what they compute from the same images, each prepared as its file declares.

    \b
    mvit-diff released/mobilevit_xs_fp32.onnx exported/mobilevit_xs_fp32.onnx --allow version,weights_sha256
    mvit-diff --images photos exported/mobilevit_xs_fp32.onnx exported/mobilevit_xs_w8a8.tflite --allow precision
    """
    entry.set_up_logging(debug=debug)
    if len(files) != 2:
        raise click.UsageError(f"give two files to compare, not {len(files)}")
    from mvit_deploy.cli.run_diff import run_diff

    allowed = [word for word in allow.split(",") if word]
    return run_diff(*files, images=images, allowed=allowed, command=context.obj, as_json=as_json)


def main(arguments: list[str] | None = None) -> int:
    """Run mvit-diff and return its exit code."""
    return entry.run(command, "mvit-diff", arguments)


if __name__ == "__main__":
    sys.exit(main())

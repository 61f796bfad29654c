"""mvit-verify: judge shipped files again, on this machine."""

import sys
from pathlib import Path

import click

from mvit_deploy.cli import entry, options
from mvit_deploy.spec import RESAMPLINGS

_EPILOG = """\b
Exit codes: 0 every file matches; 1 a mismatch or a damaged file; 2 usage; 3 it cannot be run here, or there is nothing
to hold it to; 4 a library is missing; 5 the checkpoint; 6 an internal error; 130 interrupted.
"""


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("files", metavar="FILE|REPORT...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--weights", metavar="random|PATH", help="The reference, instead of the one that the report names.")
@click.option("--mode", metavar="xxs|xs|s", help="The network, where neither report nor weights tell.")
@click.option("--precision", metavar="fp32|fp16", help="Whose floors hold. Default: as the report or the file says.")
@click.option(
    "--verify-images", type=click.Path(path_type=Path), metavar="DIR", help="Real images that join the built-in ones."
)
@click.option("--seed", type=int, help="Of random weights and noise inputs. Default: as the report says, else 0.")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Photos that each file and PyTorch label in their own ways, from the encoded picture on.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What PyTorch's classes are called, one a line. Default: as in the report, else as in the checkpoint.",
)
@click.option(
    "--normalize", metavar="imagenet|none|M,S", help="What PyTorch's images are normalized by. Default: as --labels."
)
@click.option("--resize", metavar="N|HxW", help="What PyTorch's photos are resized to. Default: as --labels.")
@click.option("--resampling", metavar="|".join(RESAMPLINGS), help="Of PyTorch's photos. Default: as --labels.")
@click.option("--live", is_flag=True, help="Run PyTorch here, even where golden outputs lie beside the file.")
@click.option("--locate", is_flag=True, help="Name the first stage and operation that leaves PyTorch's values.")
@options.lint
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Also write one page: verdicts, pictures, errors by stage, operators, size, a short timing.",
)
@options.allow_unverified
@click.option("--json", "as_json", is_flag=True, help="Print the reports, a JSON array, to stdout.")
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_context
def command(
    context: click.Context, files: tuple[Path, ...], html: Path | None, as_json: bool, debug: bool, **named: object
) -> int:
    """Judge .onnx, .mlpackage, .mlmodel and .tflite files again, here, by every claim of their reports. Nothing is
    written, but the page of --html.

    The outputs are held to what PyTorch gave at export, which FILE.golden.npz holds; PyTorch is not needed. With
    --live, --weights, --mode, --seed, --verify-images, --images or --locate, or where there is no golden file, PyTorch
    runs here, with the weights that FILE.report.json names. A file that has changed since is a mismatch, and is run all
    the same.

    \b
    mvit-verify exported/mobilevit_xs_fp16.mlpackage
    mvit-verify --live exported/mobilevit_xs_fp16.mlpackage
    mvit-verify --weights mobilevit_xxs.pth --locate some.onnx
    mvit-verify --images photos/ exported/mobilevit_xs_*.tflite exported/mobilevit_xs_*.mlpackage
    """
    entry.set_up_logging(debug=debug)
    if not files:
        raise click.UsageError("give one or more files, or their reports")
    from mvit_deploy.cli.run_verify import run_verify

    return run_verify(list(files), {**named, "command": context.obj}, html=html, as_json=as_json)


def main(arguments: list[str] | None = None) -> int:
    """Run mvit-verify and return its exit code."""
    return entry.run(command, "mvit-verify", arguments)


if __name__ == "__main__":
    sys.exit(main())

"""mvit-export: write a MobileViT for phones and prove that each file computes what PyTorch computes."""

import sys
from pathlib import Path

import click

from exporters import MIN_IOS, TARGETS
from mvit_deploy.cli import entry, options
from mvit_deploy.errors import UsageError
from mvit_deploy.spec import IO_TYPES, PRECISION_ALIASES, PRECISIONS, RESAMPLINGS, TASKS, VARIANTS

FORMATS = [name for name in TARGETS["coreml"].formats]
_EPILOG = """\b
Exit codes: 0 every file written and matched; 1 a mismatch; 2 usage; 3 written but not run here; 4 a library is
missing; 5 the checkpoint; 6 the converter, the disk or an internal error; 130 interrupted.
"""


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--mode", metavar="xxs|xs|s", help="The network; may be left out with --weights.")
@click.option("--target", metavar="|".join([*TARGETS, "all"]), help="One or more, separated by commas. Required.")
@click.option("--task", metavar="|".join(TASKS), help=f"Default: what the weights are for, else {TASKS[0]}.")
@click.option(
    "--precision",
    metavar="|".join(PRECISIONS),
    help=f"One or more, separated by commas; int8 is {PRECISION_ALIASES['int8']}. "
    f"Default: {', '.join(f'{t.name} {t.default_precision}' for t in TARGETS.values())}.",
)
@click.option(
    "--weights",
    metavar="random|PATH|hf:REPO",
    default="random",
    show_default=True,
    help="A checkpoint of ml-cvnets, timm, transformers or Kornia; transformers' folder; one on the Hugging Face Hub.",
)
@click.option("--variant", metavar="|".join(VARIANTS), default=VARIANTS[0], show_default=True)
@click.option(
    "--num-classes",
    type=int,
    metavar="N",
    help="With the background, where a task has one. Default: the weights', else 1000, 81, 21.",
)
@click.option("--labels", type=click.Path(path_type=Path), metavar="FILE", help="One label a line, put into the files.")
@click.option("--image-size", metavar="N|HxW", help="Multiples of 32. Default: 256, 320, 512 by task.")
@click.option(
    "--verify-images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Real images that join the built-in verification inputs.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Photos to calibrate on, at any folder depth; needed by w8a8 and w8a16, makes w8 better.",
)
@click.option("--calibration-count", type=int, metavar="N", help="Take so many of them, at least 8. Default: all.")
@click.option("--keep-float", metavar="LAYER,…", help="Layers, or parts that hold layers, to keep out of int8.")
@click.option(
    "--plan",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Layers kept float as in a plan or a report of ours.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE.png|.svg",
    help="Draw what int8 costs each layer, and what layers in float cost and give; needs --calibration.",
)
@click.option("--format", "file_format", metavar="|".join(FORMATS), help="Core ML only. Default: mlpackage.")
@click.option(
    "--min-ios", type=int, metavar="|".join(map(str, MIN_IOS)), help="Core ML only. Default: 16; 17 for w8a8."
)
@click.option("--raw-head", is_flag=True, help="Detection: locations and logits, without anchors and softmax.")
@click.option("--nms", is_flag=True, help="Detection: sort overlapping boxes out inside the file.")
@click.option("--upsample", is_flag=True, help="Segmentation: logits at the size of the image, not at 1/16.")
@click.option("--output-stride", type=int, metavar="8|16", help="Segmentation. Default: the weights', else 16.")
@click.option("--argmax", is_flag=True, help="Segmentation: a map of classes instead of logits.")
@click.option(
    "--probabilities/--logits",
    default=None,
    help="Classification: end in a softmax, or not. Default: Core ML and TFLite with labels do.",
)
@click.option(
    "--normalize",
    metavar="imagenet|none|M,S",
    help="Mean and deviation that the network was trained with, one or three of each, put into the files, which then "
    "take [0, 1]. Default: none, as MobileViT's published weights.",
)
@click.option(
    "--resize",
    metavar="N|HxW",
    help="Of photos: the short side before the centre is cropped, or both sides whatever the proportions. Default: as "
    "the checkpoint's folder says, else 288 for 256.",
)
@click.option(
    "--resampling", metavar="|".join(RESAMPLINGS), help="Of photos. Default: as the folder says, else bilinear."
)
@click.option("--author", metavar="TEXT", help="Of the model, put into the files.")
@click.option("--license", metavar="TEXT", help="Of the weights, put into the files.")
@click.option("--model-version", metavar="TEXT", help="Put into the files.")
@click.option("--dynamic-batch", is_flag=True, help="ONNX only: leave the batch size free.")
@click.option(
    "--io",
    metavar="|".join(IO_TYPES),
    default=IO_TYPES[0],
    show_default=True,
    help="TFLite w8a8 only: type of the input, uint8 takes pixels as they are, and of the output.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", default="exported", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of random weights and noise inputs.")
@options.lint
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Also write one page: verdicts, pictures, errors by stage, int8 plan, operators, size, a short timing.",
)
@click.option("--no-verify", is_flag=True, help="Do not run the files; exit code 3.")
@options.allow_unverified
@click.option("--json", "as_json", is_flag=True, help="Print the reports, a JSON array, to stdout.")
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.option("--doctor", is_flag=True, help="Say what can be exported and verified here, and what is missing.")
@click.pass_context
def command(
    context: click.Context,
    mode: str | None,
    target: str | None,
    file_format: str | None,
    no_verify: bool,
    plot: Path | None,
    html: Path | None,
    as_json: bool,
    debug: bool,
    doctor: bool,
    **named: object,
) -> int:
    """Write MobileViT as ONNX, Core ML or TFLite, and verify each file against PyTorch.

    A file out of tolerance never gets its final name, and the exit code says why.

    \b
    mvit-export --mode xs --target coreml
    mvit-export --weights mobilevit_xxs.pth --labels labels.txt --target all --precision fp32,fp16
    """
    entry.set_up_logging(debug=debug)
    if doctor:
        from mvit_deploy.cli.doctor import run_doctor

        return run_doctor(target, as_json=as_json)
    if target is None:
        raise click.UsageError(f"--target is required; known: {', '.join(TARGETS)}, all")
    from mvit_deploy.cli.run import run_export

    named |= {"keep_float": _names(named["keep_float"])}
    named |= {"target": target, "format": file_format, "verify": not no_verify, "command": context.obj}
    return run_export(mode, named, plot=plot, html=html, as_json=as_json)


def _names(given: str | None) -> tuple[str, ...]:
    """Raises: UsageError for commas alone."""
    names = tuple(word.strip() for word in (given or "").split(",") if word.strip())
    if given is not None and not names:
        raise UsageError(f"--keep-float {given!r}: give the names of layers, with commas between them")
    return names


def main(arguments: list[str] | None = None) -> int:
    """Run mvit-export and return its exit code."""
    return entry.run(command, "mvit-export", arguments)


if __name__ == "__main__":
    sys.exit(main())

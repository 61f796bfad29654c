"""Options that mvit-export and mvit-verify have alike."""

import click

from mvit_deploy.spec import LINT_LEVELS

lint = click.option(
    "--lint",
    metavar="|".join(LINT_LEVELS),
    default="warn",
    show_default=True,
    help="What phones' runtimes are documented not to take: show it (warn), or also fail with 1 where it keeps a file "
    "from loading (error). docs/lint.md has the rules.",
)
allow_unverified = click.option(
    "--allow-unverified", is_flag=True, help="Exit code 0 although a file could not be run here."
)

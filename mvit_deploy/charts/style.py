"""The look of every chart, and how one is written."""

import os
from collections.abc import Callable
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # of Okabe and Ito: told apart by all eyes
MARKERS = ("o", "s", "^", "D")
NOTE = {"fontsize": 8, "color": "0.35"}
_STYLE = {"svg.hashsalt": "mvit-deploy", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def write(draw: Callable[[], Figure], path: Path) -> None:
    """Draw into a .png or .svg, put in place whole. Raises: OSError."""
    partial = path.with_name(f".{path.name}.partial")
    form = path.suffix.removeprefix(".").lower()
    try:
        with rc_context(_STYLE):
            draw().savefig(partial, format=form, metadata={"Date": None} if form == "svg" else None)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)

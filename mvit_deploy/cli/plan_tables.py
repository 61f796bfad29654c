"""Blame and frontier of a quantization as tables."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mvit_deploy.cli.console import print_whole
from mvit_deploy.findings import Findings

PAST_CHOSEN = 3  # points of the frontier that are shown behind the chosen one
BYTES_MORE = 3  # of a float weight, with 4 bytes, than of an integer
NO_LOSS_DB = 300.0  # where SQNR is capped
CHOSEN_STYLE = "bold magenta"


def show(found: Findings, console: Console) -> None:
    """Print blame and, where plans were tried, the frontier."""
    print_whole(blame_table(found), console)
    if found.frontier:
        print_whole(frontier_table(found), console)
        for line in _about_frontier(found):
            console.print(line, soft_wrap=True, markup=False)


def blame_table(found: Findings) -> Table:
    """A row for each layer, those that cause most first.

    caused: by its weights and by the values made of its output, whichever layer reads them; narrowed: the same within
    the narrowed ranges.
    """
    table = _table("Blame: SQNR of the output in dB when one layer alone is quantized to 8 bits")
    table.add_column("layer", no_wrap=True)
    for name in ("MACs", "weights", "input", "output", "all three", "caused", "ranges\nnarrowed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(f"plan of {found.precision}", no_wrap=True)
    for layer in found.blame:
        stays_float = found.stays_float(layer["layer"])
        table.add_row(
            layer["layer"],
            f"{found.share(layer['macs']):.2%}",
            *(_decibels(layer[f"{part}_db"]) for part in ("weights", "input", "output", "sqnr", "caused", "left")),
            "float" if stays_float else "",
            style=CHOSEN_STYLE if stays_float else None,
        )
    return table


def frontier_table(found: Findings) -> Table:
    """A row for each point up to a little behind the chosen one and the last that was measured."""
    table = _table(f"Frontier: layers kept float for {found.precision}, what they cost and give")
    table.add_column("", no_wrap=True)
    for name in ("layers\nin float", "their\nMACs", "MB\nmore", "predicted\ndB", "measured\ndB", "top-1\nsame"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("added", overflow="fold")
    for place, point in enumerate(found.frontier[: _shown(found)]):
        is_chosen = place == found.chosen
        table.add_row(
            "chosen" if is_chosen else "",
            str(len(point["keep_float"])),
            f"{found.share(point['float_macs']):.2%}",
            f"{point['float_weights'] * BYTES_MORE / 1e6:.3f}",
            _decibels(point["predicted_db"]),
            "" if point["measured_db"] is None else _decibels(point["measured_db"]),
            "" if point["agreement"] is None else f"{point['agreement']:.1%}",
            ", ".join(_added(found, place)),
            style=CHOSEN_STYLE if is_chosen else None,
        )
    return table


def _about_frontier(found: Findings) -> list[str]:
    met = "met" if found.plan["target_met"] else "not met"
    lines = [
        f"Target {found.plan['target_db']:g} dB: {met}; chosen by {found.plan['chosen_by']}. "
        "MB more: float weights take 4 bytes instead of 1.",
    ]
    left = len(found.frontier) - _shown(found)
    if left:
        last = found.frontier[-1]
        most = f"{len(last['keep_float'])} layers and {found.share(last['float_macs']):.1%} of the MACs"
        lines.append(f"Points with more in float, up to {most}, are in the report: {left}")
    return [*lines, ""]


def _shown(found: Findings) -> int:
    """How many points of the frontier are shown."""
    measured = [place for place, point in enumerate(found.frontier) if point["measured_db"] is not None]
    return min(len(found.frontier), max([found.chosen or 0, found.start, *measured]) + 1 + PAST_CHOSEN)


def _added(found: Findings, place: int) -> list[str]:
    """The layers of a point that the one before it, in the search, did not keep float."""
    before = [] if place <= found.start else found.frontier[place - 1]["keep_float"]
    return [name for name in found.frontier[place]["keep_float"] if name not in before]


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)


def _decibels(value: float) -> str:
    return "no loss" if value >= NO_LOSS_DB else f"{value:.1f}"

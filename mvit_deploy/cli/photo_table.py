"""Photos and files: which label each file gives each photo, beside PyTorch's."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mvit_deploy.cli.console import print_whole
from mvit_deploy.labelling.telling import COUNTED, SAME, told
from mvit_deploy.report import Report, look_up

MOST_ROWS = 20
Labels = dict[str, object]  # verification.photo_labels of a report


def show(reports: list[Report], console: Console) -> None:
    """Print a table for each network that the files are of, differing photos first, and a line for each file."""
    found = [(r.path.name, look_up(r.content, "verification", "photo_labels")) for r in reports]
    found = [(name, labels) for name, labels in found if labels is not None]
    tables: dict[tuple, list[tuple[str, Labels]]] = {}
    for name, labels in found:
        if labels["photos"]:
            expected = tuple((row["name"], told(row, "reference")) for row in labels["photos"])
            tables.setdefault(expected, []).append((name, labels))
    for expected, files in tables.items():
        print_whole(_table(expected, files), console)
    for name, labels in found:
        console.print(f"{name}: {_summary(labels)}", soft_wrap=True, markup=False)


def _table(expected: tuple[tuple[str, str], ...], files: list[tuple[str, Labels]]) -> Table:
    differ = [any(not labels["photos"][place]["same_label"] for _, labels in files) for place in range(len(expected))]
    order = sorted(range(len(expected)), key=lambda place: not differ[place])[:MOST_ROWS]
    shown = "" if len(order) == len(expected) else f", {len(order)} of {len(expected)}, those that differ first"
    table = Table(title=f"Photos and their labels{shown}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("photo", no_wrap=True)
    table.add_column("PyTorch", no_wrap=True)
    for name, _ in files:
        table.add_column(escape(name), overflow="fold")
    for place in order:
        cells = [_answer(labels["photos"][place]) for _, labels in files]
        table.add_row(*map(escape, expected[place]), *cells)
    return table


def _answer(row: dict[str, object]) -> str:
    said = escape(told(row, "file"))
    return said if row["same_label"] else f"[red]≠ {said}[/]"


def _summary(labels: Labels) -> str:
    if not labels["photos"]:
        return f"no labels to compare: {labels['reason']}"
    worst, agreement = labels["max_abs_probability"], labels.get("agreement")
    within = "" if worst is None else f"; no probability is further than {worst:.1e} from it"
    task = labels.get("task", "classification")
    shared = "" if agreement is None else f", {agreement:.2%} of {COUNTED[task]}"
    return f"{labels['same_label']} of {labels['count']} photos get PyTorch's {SAME[task]}{shared}{within}"

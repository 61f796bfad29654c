"""Blame, plan and frontier for a person: the tables and the chart, from a report made up by hand and from a run."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from mvit_deploy import findings
from mvit_deploy.charts import losses
from mvit_deploy.cli import plan_plot, plan_tables
from mvit_deploy.cli.export import main
from mvit_deploy.findings import Findings
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.report import Report
from tests.conftest import PHOTOS, sensitive, without_library

USAGE, MISSING, FAILED = 2, 4, 6
BASE = ["--mode", "xxs", "--num-classes", "5", "--image-size", "64", "--target", "onnx"]
QUANTIZED = ["--precision", "w8,w8a8", "--calibration", str(PHOTOS)]
ORDER = ["net", "net.stem", "net.fusion", "head"]
Captured = pytest.CaptureFixture[str]


def layer(name: str, macs: int, weights: float, entering: float, leaving: float, total: float) -> dict[str, object]:
    decibels = {
        "weights_db": weights,
        "input_db": entering,
        "output_db": leaving,
        "sqnr_db": total,
        "caused_db": total,
        "left_db": total,
    }
    return {"layer": name, "macs": macs, **decibels}


def point(
    *kept: str, macs: int, predicted: float, measured: float | None = None, agreement: float | None = None
) -> dict[str, object]:
    costs = {"float_macs": macs, "float_weights": 1000 * len(kept)}
    return {
        "keep_float": [*kept],
        **costs,
        "predicted_db": predicted,
        "measured_db": measured,
        "agreement": agreement,
    }


BLAME = [layer("head", 50, 40, 30, 35, 28.6), layer("net.stem", 350, 50, 300, 45, 43.8)]
BLAME.append(layer("net.fusion", 500, 33, 38, 44, 31.5))
FRONTIER = [
    point(macs=0, predicted=27, measured=21.25, agreement=0.9),
    point("head", macs=50, predicted=30, measured=26, agreement=1.0),
    *(point("head", *[f"more.{n}" for n in range(count)], macs=50 + 10 * count, predicted=30 + count)
      for count in range(1, 10)),
]  # fmt: skip


def report(precision: str = "w8a8", frontier: list[dict] = FRONTIER, **plan: object) -> Report:
    plan = {"keep_float": ["head"], "chosen_by": "search", "target_db": 25.0, "target_met": True} | plan
    content = {
        "artifact": {"precision": precision},
        "model": {"mode": "xs", "macs": 1000},
        "quantization": {"plan": plan | {"frontier": frontier}, "blame": BLAME},
    }
    return Report(Path("x.onnx"), 0, content)


def found(*reports: Report) -> Findings:
    return findings.of(reports or [report()])


def cells(table: Table) -> list[tuple[str, ...]]:
    return list(zip(*([*column.cells] for column in table.columns), strict=True))


def printed(of: Findings, width: int = 136) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        plan_tables.show(of, console)
    return captured.get()


def test_blame_has_a_row_for_each_layer_the_worst_first() -> None:
    assert cells(plan_tables.blame_table(found())) == [
        ("head", "5.00%", "40.0", "30.0", "35.0", "28.6", "28.6", "28.6", "float"),
        ("net.fusion", "50.00%", "33.0", "38.0", "44.0", "31.5", "31.5", "31.5", ""),
        ("net.stem", "35.00%", "50.0", "no loss", "45.0", "43.8", "43.8", "43.8", ""),
    ]


def test_the_frontier_marks_the_chosen_point_and_names_what_is_added() -> None:
    rows = cells(plan_tables.frontier_table(found()))

    assert rows[:3] == [
        ("", "0", "0.00%", "0.000", "27.0", "21.2", "90.0%", ""),
        ("chosen", "1", "5.00%", "0.003", "30.0", "26.0", "100.0%", "head"),
        ("", "2", "6.00%", "0.006", "31.0", "", "", "more.0"),
    ]
    assert [row[0] for row in rows].count("chosen") == 1


def test_the_frontier_ends_a_little_behind_the_chosen_point_and_says_so() -> None:
    text = printed(found())

    assert "more.2" in text
    assert "more.3" not in text
    assert "up to 10 layers and 14.0% of the MACs, are in the report: 6" in text


def test_a_point_that_was_measured_is_never_left_out() -> None:
    late = [*FRONTIER[:-1], FRONTIER[-1] | {"measured_db": 29.0}]

    assert len(cells(plan_tables.frontier_table(found(report(frontier=late))))) == len(FRONTIER)


def test_a_persons_choice_stands_before_the_search() -> None:
    own = point("net.fusion", "head", macs=550, predicted=40, measured=24)
    given = report(frontier=[own, *FRONTIER], keep_float=own["keep_float"], chosen_by="--plan", target_met=False)

    rows = cells(plan_tables.frontier_table(found(given)))
    assert [(row[0], row[-1]) for row in rows[:3]] == [("chosen", "net.fusion, head"), ("", ""), ("", "head")]
    assert "Target 25 dB: not met; chosen by --plan" in printed(found(given))


@pytest.mark.parametrize("width", [60, 136, 200])
def test_every_layer_is_readable_however_narrow_the_terminal_is(width: int) -> None:
    text = printed(found(), width)

    assert all(each["layer"] in text for each in BLAME)
    assert "…" not in text


def test_the_plan_that_was_searched_is_shown_not_that_of_the_first_file() -> None:
    shown = found(report("w8", [], keep_float=[]), report("w8a8"))

    assert (shown.precision, shown.chosen) == ("w8a8", 1)


def test_without_a_search_blame_alone_is_printed() -> None:
    text = printed(found(report("w8", [], keep_float=[])))

    assert "Blame" in text
    assert "Frontier" not in text


def test_without_blame_there_is_nothing_to_show() -> None:
    """Weights rounded without photos have none, and float files no quantization at all."""
    rounded = report()
    rounded.content["quantization"]["blame"] = []

    assert findings.of([rounded, Report(Path("x"), 0, {"artifact": {}})]) is None


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What would be drawn."""
    kept: dict[str, object] = {}
    monkeypatch.setattr(losses, "save", lambda b, f, path, **texts: kept.update(blame=b, frontier=f, **texts))
    return kept


def test_the_chart_shows_the_layers_as_the_network_has_them(drawn: dict) -> None:
    plan_plot.save(found(), ORDER, Path("x.png"))

    assert [(row.name, row.parts_db, row.stays_float) for row in drawn["blame"].rows] == [
        ("net.stem", (50, 300, 45), False),
        ("net.fusion", (33, 38, 44), False),
        ("head", (40, 30, 35), True),
    ]
    assert drawn["blame"].target_db == drawn["frontier"].target_db == 25


def test_the_chart_names_what_was_measured_and_ends_behind_it(drawn: dict) -> None:
    plan_plot.save(found(), ORDER, Path("x.png"))

    frontier = drawn["frontier"]
    assert [(p.name, p.percent, p.measured_db, p.is_chosen) for p in frontier.measured] == [
        ("nothing in float: 21.2 dB", 0, 21.25, False),
        ("chosen by search: 1 layer in float, 5.0 %: 26.0 dB", 5, 26, True),
    ]
    assert frontier.limit == 10
    curve = [(round(x, 9), y) for x, y in frontier.curve]
    assert curve == [(0, 27), (5, 30), (6, 31), (7, 32), (8, 33), (9, 34), (10, 35)]
    assert "in the report: 4" in drawn["note"]


def test_a_persons_choice_is_no_part_of_the_curve(drawn: dict) -> None:
    own = point("net.fusion", macs=500, predicted=40, measured=24)
    plan_plot.save(found(report(frontier=[own, *FRONTIER], keep_float=["net.fusion"])), ORDER, Path("x.png"))

    assert drawn["frontier"].curve[0] == (0, 27)
    assert drawn["frontier"].measured[0].is_chosen


def test_a_network_that_breaks_is_drawn_at_the_edge(drawn: dict) -> None:
    """-300 dB, where noise is not finite, would leave no room for anything else."""
    plan_plot.save(found(report(frontier=[FRONTIER[0] | {"measured_db": -300.0}, FRONTIER[1]])), ORDER, Path("x.png"))

    assert drawn["frontier"].measured[0].measured_db == losses.WORST_DB
    assert "-300.0 dB" in drawn["frontier"].measured[0].name


def test_without_a_search_blame_alone_is_drawn(drawn: dict) -> None:
    plan_plot.save(found(report("w8", [], keep_float=[])), ORDER, Path("x.png"))

    assert drawn["frontier"] is None
    assert drawn["blame"].target_db is None


def test_a_run_prints_the_tables_once_and_draws(tmp_path: Path, capfd: Captured) -> None:
    plot = tmp_path / "plots" / "plan.svg"
    code = main([*BASE, *QUANTIZED, "--output", str(tmp_path), "--plot", str(plot), "--json"])

    captured = capfd.readouterr()
    reports = json.loads(captured.out, parse_constant=pytest.fail)
    assert code == 0, captured.err
    assert len(reports) == 2
    assert captured.err.count("Blame: SQNR") == captured.err.count("Frontier: layers") == 1
    worst_first = sorted(reports[1]["quantization"]["blame"], key=lambda each: each["caused_db"])
    names = [each["layer"] for each in worst_first]
    rows = [line.split()[0] for line in captured.err.splitlines() if line.strip()]
    assert len(names) == 72
    assert [row for row in rows if row in names][: len(names)] == names
    assert set(names) <= {name for name, _ in fuse(sensitive("xxs", 5)).named_modules()}
    assert "chosen " in captured.err
    assert f"Drawn in {plot}" in captured.err
    assert plot.read_bytes().startswith(b"<?xml")


def test_a_plot_that_cannot_be_written_ends_in_6_and_the_files_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plan_plot, "save", refuse)
    arguments = ["--precision", "w8", "--calibration", str(PHOTOS), "--plot", str(tmp_path / "plan.png")]
    code = main([*BASE, *arguments, "--output", str(tmp_path), "--json"])

    captured = capfd.readouterr()
    (written,) = json.loads(captured.out)
    assert code == FAILED
    assert "No space left" in captured.err
    assert Path(written["artifact"]["path"]).exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--plot", "plan.png"], "it needs --calibration and one of the precisions w8, w8a16, w8a8"),
        (["--plot", "plan.png", "--precision", "w8"], "it needs --calibration"),
        (["--plot", "plan.png", "--precision", "w8a8"], "give --calibration DIR"),
        (["--plot", "plan.pdf", *QUANTIZED], ".png or .svg"),
        (["--plot", "pyproject.toml/plan.png", *QUANTIZED], "pyproject.toml"),
    ],
)
def test_a_plot_that_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, capfd: Captured, arguments: list[str], words: str
) -> None:
    assert main([*BASE, *arguments, "--output", str(tmp_path / "out"), "--json"]) == USAGE

    captured = capfd.readouterr()
    assert words in captured.err
    assert json.loads(captured.out) == []
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_plot_is_refused(tmp_path: Path) -> None:
    arguments = [*BASE, *QUANTIZED, "--output", str(tmp_path / "out"), "--plot", str(tmp_path / "plan.png")]
    result = without_library("matplotlib", "export", *arguments)

    assert result.returncode == MISSING
    assert "pip install matplotlib" in result.stderr
    assert not (tmp_path / "out").exists()

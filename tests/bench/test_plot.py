"""Which numbers are drawn, from made-up measurements."""

from pathlib import Path

import pytest

from mvit_deploy import charts
from mvit_deploy.bench import plot
from mvit_deploy.bench.accuracy import Accuracy
from mvit_deploy.bench.process import Cost
from mvit_deploy.bench.results import Latency, Measured, short_names
from mvit_deploy.bench.rounds import spread
from tests.bench.players import colourist


def made_up(name: str, *, sqnr_db: float | None = None, accuracy: Accuracy | None = None) -> Measured:
    latency = Latency(1, spread([10.0, 11.0, 12.0]), spread([1.0]))
    return Measured(colourist(path=Path(name), sqnr_db=sqnr_db), (Cost(1, 2, 3),), (latency,), accuracy)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[charts.Panel]:
    """The panels that would be drawn."""
    found: list[charts.Panel] = []
    monkeypatch.setattr(charts, "save", lambda panels, path, **texts: found.extend(panels))
    return found


def test_accuracy_is_drawn_against_latency_and_size(drawn: list[charts.Panel]) -> None:
    left_out = plot.save([made_up("a.onnx", sqnr_db=40, accuracy=Accuracy(3, 4))], Path("x.png"))

    assert left_out == []
    assert [(panel.x_label, panel.y_label) for panel in drawn] == [
        ("latency with 1 thread, ms", "Accuracy, % of photos"),
        ("size, MB", "Accuracy, % of photos"),
    ]
    (by_latency,), (by_size,) = (panel.points for panel in drawn)
    assert (by_latency.name, by_latency.x, by_latency.y, by_latency.x_range) == ("a.onnx", 11, 75, (10.5, 11.5))
    assert (by_size.x, by_size.y) == (1, 75)


def test_sqnr_is_drawn_where_no_file_has_an_accuracy(drawn: list[charts.Panel]) -> None:
    plot.save([made_up("a.onnx", sqnr_db=40, accuracy=Accuracy(remark="no labels"))], Path("x.png"))

    assert [panel.y_label for panel in drawn] == ["SQNR, dB"] * 2
    assert drawn[0].points[0].y == 40


def test_a_file_without_the_number_of_the_others_is_left_out_and_named(drawn: list[charts.Panel]) -> None:
    assert plot.save([made_up("a.onnx", sqnr_db=40), made_up("b.onnx")], Path("x.png")) == ["b.onnx"]

    assert [[point.name for point in panel.points] for panel in drawn] == [["a.onnx"], ["a.onnx"]]


def test_without_any_of_them_latency_is_drawn_against_size(drawn: list[charts.Panel]) -> None:
    assert plot.save([made_up("a.onnx"), made_up("b.onnx")], Path("x.png")) == []

    (panel,) = drawn
    assert (panel.x_label, panel.y_label) == ("size, MB", "latency with 1 thread, ms")
    assert [(point.x, point.y) for point in panel.points] == [(1, 11), (1, 11)]


def test_files_of_the_same_name_are_told_apart_by_their_paths() -> None:
    paths = [Path("old/a.onnx"), Path("new/a.onnx"), Path("new/b.onnx")]

    assert short_names(paths) == ["old/a.onnx", "new/a.onnx", "b.onnx"]


def test_times_that_spread_widely_are_remarked_on() -> None:
    steady = made_up("a.onnx")
    shaky = Measured(steady.subject, steady.costs, (Latency(2, spread([5.0, 10.0, 20.0]), spread([1.0])),), None)

    assert steady.remarks == []
    assert shaky.remarks == ["times with 2 threads spread widely; is there other work on this machine?"]

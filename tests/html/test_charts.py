"""Where the parts of a chart stand: hand arithmetic."""

import math

import pytest

from mvit_deploy.html import charts, words
from mvit_deploy.html.charts import BOTTOM, LEFT, LETTER, LINE_HEIGHT, RIGHT, TOP, WIDTH, Line, Value


def test_bars_are_as_long_as_their_values() -> None:
    chart = charts.bars("t", "s", [Value("a", 4.0, "1234"), Value("b", 1.0, "1")])

    assert chart.bars[0].length == WIDTH - 16 - 4 * LETTER
    assert chart.bars[1].length == pytest.approx(chart.bars[0].length / 4, abs=0.1)


def test_a_spread_beyond_every_bar_still_fits() -> None:
    (bar,) = charts.bars("t", "s", [Value("a", 1.0, "", spread=(0.5, 2.0))]).bars

    assert bar.whisker == (pytest.approx(bar.length / 2), pytest.approx(bar.length * 2))
    assert bar.whisker[1] <= WIDTH


def test_negative_and_empty_values_draw_nothing() -> None:
    assert charts.bars("t", "s", [Value("a", -3.0, "")]).bars[0].length == 0
    assert charts.bars("t", "s", []).bars == ()


def test_powers_of_ten_are_evenly_apart_and_0_stands_at_the_bottom() -> None:
    chart = charts.categories(
        "t",
        "s",
        ["p", "q", "r", "z"],
        [Line("a", ((0, 1e-6, ""), (1, 1e-4, ""), (2, 1e-2, ""), (3, 0.0, "")))],
        x_label="",
        y_label="",
    )
    heights = [mark.y for mark in chart.series[0].marks]

    assert heights == [LINE_HEIGHT - BOTTOM, pytest.approx((LINE_HEIGHT - BOTTOM + TOP) / 2), TOP, LINE_HEIGHT - BOTTOM]
    assert [tick.text for tick in chart.y_ticks] == ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²"]
    step = (WIDTH - RIGHT - LEFT) / 4
    assert [tick.at for tick in chart.x_ticks] == [pytest.approx(LEFT + step * (n + 0.5), abs=0.06) for n in range(4)]


def test_only_zeros_have_an_axis_all_the_same() -> None:
    chart = charts.categories("t", "s", ["p"], [Line("a", ((0, 0.0, ""),))], x_label="", y_label="")

    assert math.isfinite(chart.series[0].marks[0].y)
    assert len(chart.y_ticks) >= 2


def test_a_plane_begins_at_0_and_holds_its_rules() -> None:
    chart = charts.plane(
        "t", "s", [Line("a", ((0.0, 10.0, ""), (30.0, 40.0, "")))], x_label="", y_label="", rules=[(50.0, "target")]
    )

    assert [tick.text for tick in chart.x_ticks] == ["0", "5", "10", "15", "20", "25", "30"]
    first, last = chart.series[0].marks
    assert (first.x, first.y, last.x) == (LEFT, LINE_HEIGHT - BOTTOM, WIDTH - RIGHT)
    assert chart.series[0].points == f"{LEFT:g},{first.y:g} {last.x:g},{last.y:g}"
    assert chart.rules[0].y == TOP


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (11, 47, [10, 20, 30, 40, 50]),
        (5, 5, [5, 6, 7, 8, 9, 10]),
        (-3, 2, [-3, -2, -1, 0, 1, 2]),
    ],
)
def test_steps_are_round_and_hold_both_ends(low: float, high: float, expected: list[float]) -> None:
    found = charts.steps(low, high)

    assert found[0] <= low
    assert found[-1] >= high
    assert len(found) <= 8
    if low != high:
        assert found == expected


def test_more_series_than_styles_begin_anew() -> None:
    lines = [Line(str(n), ((0, 1.0, ""),)) for n in range(9)]
    chart = charts.categories("t", "s", ["p"], lines, x_label="", y_label="")

    assert [series.style for series in chart.series] == [0, 1, 2, 3, 4, 5, 6, 7, 0]


def test_files_of_one_name_are_told_apart_by_their_folders() -> None:
    names = words.short_names(["a/x/net.onnx", "b/x/net.onnx", "b/x/net.tflite"])

    assert list(names.values()) == ["a/x/net.onnx", "b/x/net.onnx", "net.tflite"]
    assert words.short_names(["net.onnx", "old/net.onnx"]) == {
        "net.onnx": "net.onnx",
        "old/net.onnx": "old/net.onnx",
    }


def test_numbers_that_are_none_are_shown_as_they_are() -> None:
    assert words.number(None, ".1f") == "–"
    assert words.number("odd", ".1f") == "odd"
    assert words.number(True, ".1f") == "True"
    assert words.decibels(300.0) == "no loss"
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"

"""Charts: written whole, every point named, and no name on another."""

from itertools import combinations, pairwise
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from mvit_deploy import charts
from mvit_deploy.charts import Panel, Point, losses
from mvit_deploy.charts.losses import Blame, Frontier, Measured, Row

# Eight files of one network, as they come: pairs of nearly the same cost, and many that are equally good.
EIGHT = [
    ("mobilevit_xxs_fp32.onnx", 17.4, 98.4),
    ("mobilevit_xxs_fp16.onnx", 21.3, 98.4),
    ("mobilevit_xxs_w8.onnx", 16.5, 97.6),
    ("mobilevit_xxs_w8a8.onnx", 14.1, 97.2),
    ("mobilevit_xxs_fp32.tflite", 11.8, 98.4),
    ("mobilevit_xxs_fp16.tflite", 11.9, 98.4),
    ("mobilevit_xxs_w8.tflite", 10.4, 98.0),
    ("mobilevit_xxs_w8a8.tflite", 9.2, 97.2),
]


def panel(values: list[tuple[str, float, float]]) -> Panel:
    points = (Point(name, name.rpartition(".")[2], x, y, (0.97 * x, 1.03 * x)) for name, x, y in values)
    return Panel("latency, ms", "accuracy, %", tuple(points))


@pytest.mark.parametrize("values", [EIGHT, [(name, 11.8, 98.4) for name, *_ in EIGHT], EIGHT[:1]])
def test_no_name_covers_another_or_leaves_the_chart(values: list[tuple[str, float, float]]) -> None:
    (axes,) = charts.draw([panel(values)], "title", "note").axes

    boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == [name for name, *_ in values]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)
    assert all(axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1 for box in boxes)


def test_the_cost_axis_begins_at_zero() -> None:
    (axes,) = charts.draw([panel(EIGHT)], "title", "note").axes

    assert axes.get_xlim()[0] == 0


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PNG", b"\x89PNG")])
def test_a_chart_is_written_in_the_form_of_its_name(tmp_path: Path, suffix: str, begins: bytes) -> None:
    path = tmp_path / f"chart{suffix}"

    charts.save([panel(EIGHT), panel(EIGHT)], path, title="title", note="note")

    assert path.read_bytes().startswith(begins)
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_chart_is_the_same_svg(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        charts.save([panel(EIGHT)], tmp_path / name, title="title", note="note")

    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_dollar_in_a_name_is_a_dollar(tmp_path: Path) -> None:
    charts.save([panel([("price$_{1}$\\frac.onnx", 1, 1)])], tmp_path / "a.png", title="title", note="note")

    assert (tmp_path / "a.png").exists()


LAYERS = [f"backbone.layer_{n // 9}.{n % 9}.attention.qkv" for n in range(72)]
ROWS = tuple(Row(name, (40.0 + n % 7, 90.0, 35.0 + n % 20), 34.0 - n % 3, n % 10 == 0) for n, name in enumerate(LAYERS))
CURVE = tuple((0.5 * n, 22.0 + n) for n in range(15))
TRIED = (
    Measured("nothing in float: 20.1 dB", 0.0, 22.0, 20.1, False),
    Measured("5 layers in float, 2.5 %: 24.9 dB", 2.5, 27.0, 24.9, False),
    Measured("chosen by search: 6 layers in float, 3.0 %: 25.3 dB", 3.0, 28.0, 25.3, True),
)
FRONTIER = Frontier(CURVE, TRIED, 25.0, 7.5)


def marks(axes: Axes, label: str) -> list[tuple[float, float]]:
    (line,) = (line for line in axes.lines if line.get_label() == label)
    return [tuple(spot) for spot in line.get_xydata()]


def test_blame_has_one_mark_for_each_layer_and_part() -> None:
    axes, _ = losses.draw(Blame(ROWS, 25.0), FRONTIER, "title", "note").axes

    for part, name in enumerate(losses.PARTS):
        found = marks(axes, name)
        assert [x for x, _ in found] == [min(row.parts_db[part], losses.CLEAR_DB) for row in ROWS]
        assert [round(y) for _, y in found] == list(range(72))
    assert [label.get_text() for label in axes.get_yticklabels()] == LAYERS
    assert len({line.get_color() for line in axes.lines if line.get_label() in losses.PARTS}) == 3


def test_blame_begins_above_and_its_bars_end_at_the_loss_in_all() -> None:
    axes, _ = losses.draw(Blame(ROWS, 25.0), FRONTIER, "title", "note").axes

    assert axes.yaxis_inverted()
    assert [bar.get_x() + bar.get_width() for bar in axes.patches] == [row.sqnr_db for row in ROWS]


def test_layers_kept_float_are_told_apart() -> None:
    axes, _ = losses.draw(Blame(ROWS, 25.0), FRONTIER, "title", "note").axes

    bold = [label.get_text() for label in axes.get_yticklabels() if label.get_fontweight() == "bold"]
    assert bold == [row.name for row in ROWS if row.stays_float]
    fills = {row.stays_float: bar.get_facecolor() for row, bar in zip(ROWS, axes.patches, strict=True)}
    assert fills[True] != fills[False]


def test_names_of_layers_do_not_touch() -> None:
    axes, _ = losses.draw(Blame(ROWS, 25.0), FRONTIER, "title", "note").axes

    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    assert all(box.x0 > 0 for box in boxes)


def test_the_frontier_shows_curve_target_and_what_was_measured() -> None:
    _, axes = losses.draw(Blame(ROWS, 25.0), FRONTIER, "title", "note").axes

    assert marks(axes, "predicted from blame") == list(CURVE)
    assert marks(axes, "measured") == [(0.0, 20.1), (2.5, 24.9)]
    assert marks(axes, "measured, and chosen") == [(3.0, 25.3)]
    assert {y for _, y in marks(axes, "target of the plan, 25 dB")} == {25.0}
    assert {text.get_text() for text in axes.texts} == {point.name for point in TRIED}
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


@pytest.mark.parametrize("target_db", [25.0, None])
def test_blame_can_stand_alone(tmp_path: Path, target_db: float | None) -> None:
    for name in ("a.svg", "b.svg"):
        losses.save(Blame(ROWS[1:2], target_db), None, tmp_path / name, title="title", note="note")

    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_layer_of_endless_loss_does_not_squeeze_the_others() -> None:
    broken = Row("broken", (-300.0, 300.0, 40.0), -300.0, False)
    (axes,) = losses.draw(Blame((broken, *ROWS), None), None, "title", "note").axes

    assert axes.get_xlim() == (losses.CLEAR_DB, losses.WORST_DB - losses.ROOM_DB)

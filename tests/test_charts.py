"""Charts: written whole, every point named, and no name on another."""

from itertools import combinations
from pathlib import Path

import pytest

from mvit_deploy import charts
from mvit_deploy.charts import Panel, Point

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

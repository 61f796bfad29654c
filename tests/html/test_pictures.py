"""What files and PyTorch see, and that a file which sees something else is marked; faults are put in on purpose."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mvit_deploy
from mvit_deploy import images, pipeline
from mvit_deploy.detection import by_rule
from mvit_deploy.html import drawing, drawn, exported, subjects
from mvit_deploy.html.exhibits import PYTORCH, Answer
from mvit_deploy.html.following import stage_errors
from mvit_deploy.html.gathering import page_of
from mvit_deploy.html.pictures import MOST_RUN, galleries
from mvit_deploy.html.subjects import JudgedFile, Seen
from mvit_deploy.request import Options
from mvit_deploy.spec import Suppression
from tests.conftest import LABELS, SIZE
from tests.html.made import STAGES, Page, report


def silent(step: str) -> None:
    """Nobody looks on."""


def exported_onnx(folder: Path, **options: object) -> list[JudgedFile]:
    named = {"target": "onnx", "image_size": SIZE, "output": folder, **options}
    work = pipeline.prepare("xxs", Options(**named), silent)
    return exported.of_work(work, list(pipeline.run(work, silent)))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> list[JudgedFile]:
    return exported_onnx(tmp_path_factory.mktemp("page"), num_classes=len(LABELS), labels=LABELS)


def only(judged: list[JudgedFile]) -> list[tuple[str, Answer, Answer]]:
    """Of the one gallery of one file: each picture's name, PyTorch's answer and the file's."""
    ((gallery),) = galleries(judged)
    return [(p.name, *p.answers) for p in gallery.pictures]


def test_pictures_are_the_photos_that_were_judged_with_labels_of_both_sides(classifier: list[JudgedFile]) -> None:
    rows = only(classifier)

    expected = images.builtin_photos(SIZE)
    assert [name for name, *_ in rows] == list(expected.names)
    for _, ours, theirs in rows:
        assert ours.by == PYTORCH
        assert ours.same is None
        assert theirs.same is True
        assert ours.lines[0].split()[0] in LABELS
        assert ours.lines[0].split()[0] == theirs.lines[0].split()[0]


def test_a_file_that_says_another_label_is_marked(classifier: list[JudgedFile]) -> None:
    """The reference's classes turned round: now every answer of the file but those of the middle class is wrong."""
    (each,) = classifier
    turned = replace(each, outputs={"logits": each.outputs["logits"][:, ::-1].copy()})
    wrong = [int(row.argmax()) != len(LABELS) // 2 for row in each.outputs["logits"][: len(only(classifier))]]

    assert [theirs.same for *_, theirs in only([unlabelled(turned)])] == [not each for each in wrong]
    assert any(wrong)


def unlabelled(each: JudgedFile) -> JudgedFile:
    """Its report says nothing of labels, so that the file is run."""
    content = each.report.content
    kept = {key: value for key, value in content["verification"].items() if key != "labels"}
    return replace(each, report=replace(each.report, content=content | {"verification": kept}))


def labelled(each: JudgedFile, rows: object) -> JudgedFile:
    bare = unlabelled(each)
    found = bare.report.content["verification"] | {"labels": rows}
    return replace(bare, report=replace(bare.report, content=bare.report.content | {"verification": found}))


ROW = {
    "name": "cat.jpg",
    "reference": [{"label": "rose", "probability": 0.75}],
    "file": [{"label": "daisy", "probability": 0.5}],
}


@pytest.mark.parametrize("rows", [[ROW | {"same": False}], {"photos": [ROW | {"same_label": False}]}])
def test_what_a_report_says_of_labels_is_shown_as_it_is(classifier: list[JudgedFile], rows: object) -> None:
    """It was judged; running the file again could only hide it. What differs comes first."""
    name, ours, theirs = only([labelled(classifier[0], rows)])[0]

    assert name == "cat.jpg"
    assert (ours.lines, theirs.lines, theirs.same) == (("rose 75.0%",), ("daisy 50.0%",), False)


def test_a_file_that_failed_has_the_answers_of_its_report_and_no_others(
    classifier: list[JudgedFile], tmp_path: Path
) -> None:
    gone = labelled(classifier[0], [ROW | {"same": False}])
    gone = replace(gone, report=replace(gone.report, path=tmp_path / "gone.onnx"))
    ((gallery),) = galleries([gone])

    assert [len(picture.answers) for picture in gallery.pictures] == [2, *[1] * (len(gallery.pictures) - 1)]


def test_photos_that_were_labelled_have_a_gallery_of_their_own(tmp_path: Path) -> None:
    """A thumbnail of each that can still be read, and those that differ first."""
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a.png")
    rows = [ROW | {"name": "a.png", "file": ROW["reference"], "same_label": True}, ROW | {"same_label": False}]
    found = {"photo_labels": {"folder": str(tmp_path), "photos": rows}}
    (gallery,) = galleries([JudgedFile(report(verification=found)), JudgedFile(report("other.onnx"))])

    gone, there = gallery.pictures
    assert (gone.name, gone.image) == ("cat.jpg", "")
    assert gone.answers[1].same is False
    assert there.image.startswith("data:image/jpeg;base64,")
    assert [answer.lines for answer in there.answers] == [("rose 75.0%",)] * 2


def test_no_more_pictures_are_shown_than_can_be_looked_at(classifier: list[JudgedFile]) -> None:
    (each,) = classifier
    inputs, photo = each.inputs, each.inputs.where("photo")
    many = [np.roll(inputs.pixels[photo], shift, axis=2) for shift in range(3)]
    logits = np.concatenate([each.outputs["logits"][photo]] * 3)
    pixels = np.concatenate(many)
    names = tuple(f"{n}.jpg" for n in range(len(pixels)))
    more = images.ImageSet(pixels, ("photo",) * len(pixels), names)
    ((gallery),) = galleries([replace(unlabelled(each), inputs=more, outputs={"logits": logits})])

    assert len(gallery.pictures) == MOST_RUN
    assert gallery.left_out == len(pixels) - MOST_RUN


def test_without_images_there_is_no_gallery() -> None:
    assert galleries([JudgedFile(report())]) == []


def test_stages_of_a_file_are_followed_to_rounding(classifier: list[JudgedFile]) -> None:
    ((found),) = stage_errors(classifier)

    assert [stage for stage, _ in found.stages] == list(STAGES)
    assert all(rel_max < 1e-5 for _, rel_max in found.stages)


def test_stages_of_another_module_are_seen_to_differ(classifier: list[JudgedFile]) -> None:
    """A reference whose layer_3 was changed: stages before it agree, it and what comes after do not."""
    (each,) = classifier
    module = mvit_deploy.classifier("xxs", num_classes=len(LABELS))
    module.load_state_dict(each.source.module.state_dict())
    module = module.eval().requires_grad_(False)
    next(module.backbone.stages["layer_3"].parameters()).mul_(1.5)
    ((found),) = stage_errors([replace(each, source=replace(each.source, module=module))])
    errors = dict(found.stages)

    assert all(errors[stage] < 1e-5 for stage in ("input", "stem", "layer_1", "layer_2"))
    assert errors["layer_3"] is None or errors["layer_3"] > 1e-2


def test_a_failed_file_has_the_stages_of_its_report(tmp_path: Path) -> None:
    location = {"stages": [{"stage": "stem", "rel_max": 0.25}, {"stage": "head", "rel_max": None}]}
    each = JudgedFile(report(str(tmp_path / "gone.onnx"), verification={"location": location}))

    assert [found.stages for found in stage_errors([each])] == [(("stem", 0.25), ("head", None))]


def test_a_page_of_an_export_has_every_part_that_it_can_have(classifier: list[JudgedFile]) -> None:
    page = Page(page_of(classifier))

    assert {"verdicts", "pictures", "stages", "costs"} <= set(page.sections)
    assert "quantization" not in page.sections
    assert "Latency of one input" in page.text


def test_pages_differ_in_their_times_only(classifier: list[JudgedFile]) -> None:
    first, second = (galleries(classifier) for _ in range(2))

    assert first == second
    assert stage_errors(classifier) == stage_errors(classifier)


def detections(boxes: np.ndarray, scores: np.ndarray) -> Seen:
    pixels = np.zeros((64, 64, 3), np.uint8)
    return Seen("a.jpg", "photo", pixels, {"boxes": boxes.astype(np.float32), "scores": scores.astype(np.float32)})


BOXES = np.array([[0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]])
SCORES = np.array([[0.1, 0.9, 0.0], [0.2, 0.0, 0.8]])  # background, two classes


@pytest.mark.parametrize(
    ("boxes", "scores", "same", "said"),
    [
        (BOXES, SCORES, True, "2 of 2 boxes as PyTorch's"),
        (BOXES + [[0.01, 0, 0.01, 0]], SCORES, True, "2 of 2 boxes as PyTorch's"),  # 0.39 / 0.41 = 0.95 of both
        (BOXES + [[0.05, 0, 0.05, 0]], SCORES, False, "0 of 2 boxes as PyTorch's"),  # 0.35 / 0.45 = 0.78
        (BOXES, SCORES[:, [0, 2, 1]], False, "0 of 2 boxes as PyTorch's"),
        (BOXES, SCORES * [1, 0.9, 1], False, "1 of 2 boxes as PyTorch's"),  # 0.9 became 0.81
        (BOXES, SCORES * [1, 0, 1], True, "1 of 1 box as PyTorch's"),
        (BOXES, SCORES * [1, 0, 0], False, "no box"),
    ],
)
def test_a_box_is_pytorchs_by_place_class_and_score(
    boxes: np.ndarray, scores: np.ndarray, same: bool, said: str
) -> None:
    image = detections(BOXES, SCORES)
    found = by_rule(boxes.astype(np.float32), scores.astype(np.float32), Suppression())
    answer = drawn.detected("file", image, found, Suppression(), None)

    assert answer.lines[0] == said
    assert answer.same is same


@pytest.mark.parametrize(("wrong", "floor", "same"), [(0, 0.999, True), (1, 0.9, True), (2, 0.9, False)])
def test_a_map_of_classes_is_held_to_the_floor_of_its_precision(wrong: int, floor: float, same: bool) -> None:
    classes = np.zeros((2, 5), np.int64)
    logits = np.stack([1 - classes, classes]).astype(np.float32)
    image = Seen("a.jpg", "photo", np.zeros((64, 64, 3), np.uint8), {"logits": logits})
    classes.flat[:wrong] = 1
    answer = drawn.mapped("file", image, classes, floor, ["wall", "cat"])

    assert answer.same is same
    assert answer.lines[0] == f"{(10 - wrong) * 10}.00% of the points as PyTorch's"


def test_thumbnails_keep_their_proportions_and_are_the_same_each_time() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    made = drawing.thumbnail(pixels, 48)

    assert made.size == (48, 32)
    assert drawing.data_uri(made) == drawing.data_uri(drawing.thumbnail(pixels, 48))
    assert drawing.data_uri(made).startswith("data:image/jpeg;base64,")


def test_colours_of_classes_lie_over_the_picture_but_not_over_the_background() -> None:
    gray = np.full((208, 208, 3), 128, np.uint8)
    made = np.asarray(drawing.with_classes(gray, np.array([[0, 1], [2, 0]])))

    assert (made[:100, :100] == 128).all()
    assert (made[110:, 110:] == 128).all()
    assert (made[50, 150] != 128).any()
    assert (made[50, 150] != made[150, 50]).any()


def test_a_box_that_is_inside_out_is_not_drawn_and_no_error() -> None:
    gray = np.full((208, 208, 3), 128, np.uint8)
    made = np.asarray(drawing.with_boxes(gray, [(np.array([0.9, 0.9, 0.1, 0.1]), 1)]))

    assert (made == 128).all()


def test_an_image_that_two_sets_hold_is_shown_once_and_as_what_judges() -> None:
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    pixels[1] = 255
    first = images.ImageSet(pixels, ("builtin", "noise"), ("a", "b"))
    second = images.ImageSet(pixels[:1], ("photo",), ("c",))
    group = [
        JudgedFile(report("x.onnx"), first, {"logits": np.array([[1.0], [2.0]])}),
        JudgedFile(report("y.onnx"), second, {"logits": np.array([[1.0]])}),
    ]

    assert [(seen.name, seen.kind) for seen in subjects.seen(group).values()] == [("c", "photo")]

"""The training scripts on pictures drawn here: what they feed the network is what is on the picture, and they train."""

import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import mvit_deploy
from mvit_deploy.checkpoints import cvnets, load_checkpoint
from mvit_deploy.errors import UsageError
from mvit_deploy.nn.heads.detection import detector
from mvit_deploy.parity import MATCH
from mvit_deploy.training.losses import BACKGROUND
from tests.training.scripts import script
from tests.training.test_matching import corners_of

SIDE = 64
QUICK = ("--image-size", SIDE, "--epochs", 2, "--batch", 2, "--measure-every", 1, "--warm-up", 2)
COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255)}
# Of a picture 100 wide and 80 high, as VOC counts: the first and the last column and row of each.
BOXES = {"red": (11, 21, 50, 60), "blue": (61, 31, 90, 70)}
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def picture(colours: tuple[str, ...] = ("red", "blue")) -> Image.Image:
    found = Image.new("RGB", (100, 80))
    for colour in colours:
        left, top, right, bottom = BOXES[colour]
        ImageDraw.Draw(found).rectangle((left - 1, top - 1, right - 1, bottom - 1), COLOURS[colour])
    return found


def annotation(colours: tuple[str, ...] = ("red", "blue")) -> str:
    objects = "".join(OBJECT.format(colour, *BOXES[colour]) for colour in colours)
    return f"<annotation><size><width>100</width><height>80</height></size>{objects}</annotation>"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Four pictures to learn from, two to judge, one of each without a blue square."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    for split, names in {"train": "abcd", "val": "ef"}.items():
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            colours = ("red",) if name in "af" else ("red", "blue")
            picture(colours).save(tmp_path / "JPEGImages" / f"{name}.jpg", quality=95)
            (tmp_path / "Annotations" / f"{name}.xml").write_text(annotation(colours))
    return tmp_path


@pytest.fixture
def masked(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of five images and of their masks, where red is 1 and blue is 2."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    for folder in (images, masks):
        folder.mkdir()
    for name in "abcde":
        pixels = np.asarray(picture())
        picture().save(images / f"{name}.png")
        Image.fromarray(((pixels[..., 0] > 0) + 2 * (pixels[..., 2] > 0)).astype(np.uint8)).save(masks / f"{name}.png")
    return images, masks


def run(name: str, *arguments: object) -> None:
    assert script(name).main([str(argument) for argument in arguments]) == 0


def test_a_voc_box_holds_its_last_pixel(voc: Path) -> None:
    found = script("voc").read_split(voc, "train")[1]

    assert found.names == ("red", "blue")
    assert found.boxes.ravel().tolist() == pytest.approx([0.1, 0.25, 0.5, 0.75, 0.6, 0.375, 0.9, 0.875])


def test_what_anchors_must_say_is_where_the_colours_are(voc: Path) -> None:
    """Whatever part of the picture is taken, turned or not: each matched anchor decodes to its colour's pixels."""
    module = script("detector")
    pictures = [p for p in script("voc").read_split(voc, "train") if len(p.names) == 2]
    dataset = module.Boxes(pictures, ["blue", "red"], Namespace(image_size=SIDE, seed=0))
    seen = 0

    for image, classes, locations in (dataset[place % len(dataset)] for place in range(90)):
        for label, channel in ((1, 2), (2, 0)):
            rows, columns = torch.nonzero(image[channel] > 0.5, as_tuple=True)
            is_own = classes == label
            if not is_own.any():
                continue
            centres = locations[is_own, :2] * 0.1 * dataset.anchors[is_own, 2:] + dataset.anchors[is_own, :2]
            sizes = (locations[is_own, 2:] * 0.2).exp() * dataset.anchors[is_own, 2:]
            boxes = corners_of(torch.cat((centres, sizes), dim=1)) * SIDE
            drawn = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
            assert torch.allclose(boxes, drawn.expand_as(boxes), atol=1.5)
            seen += 1
    assert seen > 90


def test_a_box_whose_centre_is_outside_the_window_is_gone() -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.4, 0.4], [0.2, 0.2, 0.6, 0.6], [0.0, 0.0, 0.48, 1.0]])

    found, is_there = script("detector").seen_through((0.25, 0.25, 0.75, 0.75), boxes)

    assert is_there.tolist() == [False, True, False]
    assert found.tolist() == [pytest.approx([0, 0, 0.7, 0.7])]


def test_masks_move_with_their_images(masked: tuple[Path, Path]) -> None:
    module = script("segmenter")
    dataset = module.Masks(module.pairs_of(*masked), 3, Namespace(image_size=SIDE, seed=0))

    for image, mask in (dataset[place % 5] for place in range(12)):
        drawn = (image[0] > 0.5) + 2 * (image[2] > 0.5)
        assert (drawn == mask).float().mean() > 0.97, "but for edges, which nearest and bilinear place differently"
        assert image[0][mask == 1].min() > 0.1, "no class arises between the background and blue, which is 2"


def test_what_is_measured_is_not_learnt_from() -> None:
    training, held_out = script("segmenter").parted([(Path(name), Path(name)) for name in "abcdefghijk"])

    assert [pair[0].name for pair in held_out] == ["a", "f", "k"]
    assert [pair[0].name for pair in training] == list("bcdeghij")


def test_a_detector_is_trained_measured_and_saved(voc: Path, capsys: pytest.CaptureFixture) -> None:
    path = voc / "detector.safetensors"

    run("detector", "--data", voc, "--output", path, "--test", "val", *QUICK)

    loaded, printed = load_checkpoint(path), capsys.readouterr().out
    assert (loaded.task, loaded.mode, loaded.num_classes, loaded.source) == ("detection", "xxs", 3, "cvnets")
    assert path.with_suffix(".labels.txt").read_text() == "blue\nred\n"
    assert len(re.findall(r"epoch +\d  loss \d+\.\d+  mAP@0\.5 [01]\.\d+ \(blue", printed)) == 2
    best = re.search(r"mAP@0\.5 (.*\))  best\n(?!.*best)", printed)[1]
    assert f"val: mAP@0.5 {best}" in printed, "the best weights are measured last"
    labels = path.with_suffix(".labels.txt")
    (report,) = mvit_deploy.export(
        None, target="onnx", weights=path, labels=labels, image_size=SIDE, output=voc / "out"
    )
    assert (report.verdict, report.content["artifact"]["labels"]) == (MATCH, ("background", "blue", "red"))


def test_a_detector_starts_from_a_backbone_and_is_the_same_twice(voc: Path) -> None:
    start = voc / "start.safetensors"
    script("common").save(detector("xxs", 5), start)

    for name in ("one", "two"):
        run("detector", "--data", voc, "--output", voc / name, "--backbone", start, "--ema", 0.5, *QUICK)

    assert (voc / "one").read_bytes() == (voc / "two").read_bytes()
    assert not list(voc.glob("*.partial"))


def test_a_segmenter_is_trained_measured_and_saved(masked: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    images, masks = masked
    path = images.parent / "segmenter.safetensors"

    run("segmenter", "--images", images, "--masks", masks, "--labels", "red", "blue", "--output", path, *QUICK)

    loaded = load_checkpoint(path)
    assert (loaded.task, loaded.num_classes) == ("segmentation", 3)
    assert re.search(r"mean IoU [01]\.\d+ \(background .*red .*blue", capsys.readouterr().out)


def test_a_classifier_is_trained_measured_and_saved(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for split in ("train", "validation"):
        for colour in COLOURS:
            (tmp_path / split / colour).mkdir(parents=True)
            for name in "ab":
                picture((colour,)).save(tmp_path / split / colour / f"{name}.png")
    path = tmp_path / "classifier.safetensors"

    run("classifier", "--train", tmp_path / "train", "--validation", tmp_path / "validation", "--output", path, *QUICK)

    loaded = load_checkpoint(path)
    assert (loaded.task, loaded.num_classes) == ("classification", 2)
    assert path.with_suffix(".labels.txt").read_text() == "blue\nred\n"
    assert "accuracy" in capsys.readouterr().out


def test_what_is_wrong_with_options_is_one_line(voc: Path, capsys: pytest.CaptureFixture) -> None:
    common, module = script("common"), script("detector")

    code = common.run(lambda: module.main(["--data", str(voc), "--output", str(voc / "a"), "--train", "none"]))

    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith("error: there is no split none")


def test_the_rate_rises_to_its_largest_and_falls_to_nothing() -> None:
    rate = script("common").rate

    assert [rate(step, 10, 110) for step in (0, 5, 10, 60, 110)] == pytest.approx([0.1, 0.55, 1, 0.5, 0])


def test_a_loaded_backbone_keeps_its_statistics_and_the_head_does_not() -> None:
    common, model = script("common"), detector("xxs", 2)
    before = cvnets.state_dict_for(model)
    before = {key: tensor.clone() for key, tensor in before.items()}

    common.set_training(model, keeps_statistics=True)
    model(torch.rand(2, 3, SIDE, SIDE))

    moved = {key for key, tensor in cvnets.state_dict_for(model).items() if not torch.equal(tensor, before[key])}
    assert moved
    assert not any(key.startswith("encoder.") for key in moved)
    assert model.backbone.training


@pytest.mark.parametrize("name", ["detector", "segmenter"])
def test_a_new_head_says_little(name: str) -> None:
    """So that the first loss is that of knowing nothing, and not that of being sure of what is wrong."""
    torch.manual_seed(0)
    model = script(name).untrained("xxs", 3)

    with torch.no_grad():
        outputs = model(torch.rand(2, 3, SIDE, SIDE))  # in training, where BatchNorm keeps maps at a scale of 1

    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert all(0 < values.std() < 0.5 for values in outputs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "a document type"),
        ('<!DOCTYPE a SYSTEM "/etc/passwd"><annotation/>', "a document type"),
        ("<annotation>", "no element found"),
        ("<annotation/>", "there is no size/width"),
        (annotation(("red",)).replace(">11<", ">left<"), "could not convert"),
        (annotation(("red",)).replace(">11<", ">nan<"), "xmin is nan"),
        (annotation(("red",)).replace(">100<", ">0<"), "size/width is 0"),
    ],
)
def test_a_bad_annotation_is_one_error_that_names_the_file(voc: Path, text: str, message: str) -> None:
    (voc / "Annotations" / "a.xml").write_text(text)

    with pytest.raises(UsageError, match=rf"cannot read the annotation .*a\.xml: .*{message}"):
        script("voc").read_split(voc, "train")


def test_entities_are_refused_in_every_encoding(voc: Path) -> None:
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'
    (voc / "Annotations" / "a.xml").write_bytes(text.encode("utf-16"))

    with pytest.raises(UsageError, match="a document type"):
        script("voc").read_annotation(voc, "a")


def test_a_box_outside_the_picture_is_cut_or_left_out(voc: Path) -> None:
    text = annotation().replace(">90<", ">900<").replace(">11<", ">50<").replace(">50</xmax>", ">20</xmax>")
    (voc / "Annotations" / "a.xml").write_text(text)

    found = script("voc").read_annotation(voc, "a")

    assert found.names == ("blue",)
    assert found.boxes[0].tolist() == pytest.approx([0.6, 0.375, 1, 0.875])


def test_an_unknown_split_class_or_batch_is_named(voc: Path) -> None:
    with pytest.raises(UsageError, match="there is no split trian"):
        run("detector", "--data", voc, "--output", voc / "x", "--train", "trian")
    (voc / "Annotations" / "e.xml").write_text(annotation().replace("blue", "green"))
    with pytest.raises(UsageError, match=r"e\.jpg has green; known: blue, red"):
        run("detector", "--data", voc, "--output", voc / "x", *QUICK)
    with pytest.raises(UsageError, match="--batch 5: from 2 to the number of pictures, which is 4"):
        run("detector", "--data", voc, "--output", voc / "x", *QUICK, "--batch", 5)


def test_a_mask_that_is_missing_or_of_other_classes_is_named(masked: tuple[Path, Path]) -> None:
    images, masks = masked
    module = script("segmenter")
    with pytest.raises(UsageError, match=r"a\.png has classes above 1"):
        module.read_pair((images / "a.png", masks / "a.png"), (0.0, 0.0, 1.0, 1.0), SIDE, 2)
    (masks / "b.png").unlink()
    with pytest.raises(UsageError, match=r"1 masks are not in .*b\.png"):
        module.pairs_of(images, masks)


def test_the_background_is_no_class_that_a_label_names(voc: Path) -> None:
    found = script("voc").read_split(voc, "train")[1]

    assert BACKGROUND not in script("detector").labels_of(found, ["blue", "red"])

"""What alone would bring a file nearer to PyTorch, where the floors of its precision leave room."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mvit_deploy import runtimes
from mvit_deploy.labelling import causes, classes
from mvit_deploy.labelling.causes import Case
from mvit_deploy.labelling.photos import Photos, photos_below
from mvit_deploy.parity import MATCH
from mvit_deploy.spec import OWN, Declared, InputSpec, Interface, OutputSpec
from tests.pictures import plant

SIZE = (32, 32)


def network(values: np.ndarray, count: int = 40) -> np.ndarray:
    """Logits of what colours and halves of an image are on average. Shapes: (n, h, w, 3) -> (n, count)."""
    parts = [values.mean(axis=(1, 2)), values[:, :16].mean(axis=(1, 2)), values[:, :, :16].mean(axis=(1, 2))]
    seen = np.concatenate(parts, axis=1)
    return seen @ np.random.default_rng(0).normal(size=(seen.shape[1], count)) * 2


class Runner:
    """An opened file that computes the network of something wrong, and rounds."""

    kind = "runtime"

    def __init__(self, wrong: Callable[[np.ndarray], np.ndarray], count: int, step: float) -> None:
        image = InputSpec("image", (1, 3, *SIZE), "float32", "NCHW", (0.0, 1.0), "RGB")
        declared = Declared("RGB", (0.0, 1.0), preprocessing=OWN)
        output = OutputSpec("logits", (1, count), "float32", "logits")
        self.interface = Interface("onnx", "17", (image,), (output,), declared)
        self.wrong, self.count, self.step = wrong, count, step

    invoke = None  # it takes tensors

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        values = network(self.wrong(pixels.astype(np.float64) / 255), self.count)
        return {"logits": np.rint(values / self.step) * self.step}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return photos_below(plant(tmp_path_factory.mktemp("causes") / "photos", 0, 4))


def case_of(
    photos: Photos, monkeypatch: pytest.MonkeyPatch, wrong: Callable, count: int = 40, step: float = 0.02
) -> Case:
    monkeypatch.setattr(runtimes, "open_file", lambda _: Runner(wrong, count, step))
    logits = network(photos.prepared(OWN, SIZE) / 255, count)
    return Case(classes, Path("a.onnx"), photos, classes.of_reference({"logits": logits}, None), OWN, "w8a8")


IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
MISTAKES = {
    "red and blue exchanged": lambda v: v[..., ::-1],
    "height and width exchanged": lambda v: v.transpose(0, 2, 1, 3),
    "values in [-1, 1]": lambda v: (v + 1) / 2,
    "values in [0, 0.5]": lambda v: v * 2,
    "values in [0.5, 1]": lambda v: v * 2 - 1,
    "values in [0.5, 1.5]": lambda v: v - 0.5,
    "ImageNet's mean added": lambda v: v - IMAGENET[0],
    "ImageNet's normalization undone": lambda v: (v - IMAGENET[0]) / IMAGENET[1],
    "ImageNet's normalization": lambda v: v * IMAGENET[1] + IMAGENET[0],
}


@pytest.mark.parametrize("words", MISTAKES)
def test_the_mistake_that_was_made_comes_first(photos: Photos, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    assert causes.nearer(case_of(photos, monkeypatch, MISTAKES[words]))[0] == words


@pytest.mark.parametrize("step", [0.001, 0.02, 0.2, 1.0])
def test_nothing_comes_nearer_than_rounding(photos: Photos, monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    assert causes.nearer(case_of(photos, monkeypatch, lambda v: v, step=step)) == []


def hardly_minding(values: np.ndarray) -> np.ndarray:
    """Almost gray: 5 % of the colour are left."""
    return 0.95 * values.mean(axis=-1, keepdims=True) + 0.05 * values


def test_a_mistake_that_the_floors_leave_room_for_is_found(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(photos, monkeypatch, lambda v: hardly_minding(v[..., ::-1]), step=1e-4)
    logits = network(hardly_minding(photos.prepared(OWN, SIZE) / 255))
    case = replace(case, reference=classes.of_reference({"logits": logits}, None))
    found = classes.of_file(case.path, runtimes.open_file(case.path), photos.prepared(OWN, SIZE), photos.names)
    names = tuple(photos.names)

    assert classes.judge(reference=case.reference, candidate=found, names=names, precision="w8a8").verdict == MATCH
    assert causes.nearer(case) == ["red and blue exchanged"]


def test_of_few_values_nothing_is_said(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four photos of three classes have 8 values that could differ."""
    assert causes.nearer(case_of(photos, monkeypatch, MISTAKES["red and blue exchanged"], count=3)) == []
    assert causes.nearer(case_of(photos, monkeypatch, MISTAKES["red and blue exchanged"], count=9)) != []

"""Our own models in every mode, precision, deployment target and image size, each file against PyTorch.

fp32 files are evaluated in float32: what is left is the order of sums. fp16 files are evaluated with every result
rounded to its declared type: what is left is what half precision costs.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from exporters import coreml as exporter
from mvit_deploy import images, runtimes
from mvit_deploy.images import ImageSet
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.parity import TOLERANCES, Errors, measure
from mvit_deploy.runtimes.coreml.evaluator import Evaluator
from mvit_deploy.runtimes.coreml.package import read_specification, weights_folder
from mvit_deploy.runtimes.coreml.pixels import image_tensor
from mvit_deploy.runtimes.coreml.program import read_program
from mvit_deploy.spec import Contract, Output, Settings
from tests.conftest import sensitive

FP32_REL_MAX = 1e-5
FP16_SQNR_DB = 40.0
MODE = {"fp32": "fp32", "fp16": "typed"}
CLASSES = 1000
PHOTOS = 3
Size = tuple[int, int]
Run = Callable[[Path, str, np.ndarray], np.ndarray]

SIZES = ((256, 256), (224, 224), (192, 320))
EVERY_PROGRAM = list(product(("xxs", "xs", "s"), ("fp32", "fp16"), (15, 16, 17, 18), SIZES))
PROGRAMS = [("xxs", precision, ios, (256, 256)) for precision in ("fp32", "fp16") for ios in (15, 18)]
EVERY_NETWORK = list(product(("xxs", "xs", "s"), ("fp32", "fp16"), SIZES))
NETWORKS = [("xxs", "fp32", (256, 256))]


@cache
def judged_on(size: Size) -> ImageSet:
    """One image of noise and three photos."""
    noise, photos = images.noise(size, seed=0, count=1), images.builtin_photos(size)
    noise, photos = images.noise(size, seed=0, count=1), images.builtin_photos(size)
    return ImageSet(
        np.concatenate([noise.pixels, photos.pixels]), noise.kinds + photos.kinds, noise.names + photos.names
    )


@cache
def expected(mode: str, size: Size) -> np.ndarray:
    """PyTorch's logits for these images, of the model as it was trained."""
    unit = torch.from_numpy(judged_on(size).pixels).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        return torch.cat([sensitive(mode, CLASSES)(image[None]) for image in unit]).numpy()


@cache
def lowered(mode: str, size: Size) -> exporter.Lowered:
    """The deployment form, traced; its settings are to be replaced."""
    contract = Contract(mode, "classification", "paper", size, (Output("logits", (CLASSES,)),))
    return exporter.lower(fuse(sensitive(mode, CLASSES)), contract, Settings("mlpackage"))


def written(mode: str, size: Size, precision: str, settings: Settings, folder: Path) -> Path:
    path = folder / f"model.{settings.format}"
    exporter.write(replace(lowered(mode, size), settings=settings), precision, path)
    return path


def evaluated(path: Path, precision: str, pixels: np.ndarray) -> np.ndarray:
    """Logits by the evaluator in the mode that belongs to the precision. Shapes: (N, H, W, 3) -> (N, classes)."""
    evaluator = Evaluator(read_program(read_specification(path), weights_folder(path)), MODE[precision])
    (declared,) = runtimes.open_file(path).interface.inputs
    return np.concatenate([evaluator.run({"image": image_tensor(image, declared)})["logits"] for image in pixels])


def run_by_suffix(path: Path, precision: str, pixels: np.ndarray) -> np.ndarray:
    """Logits as anyone gets them who opens the file."""
    return runtimes.open_file(path).run(pixels)["logits"]


def errors_by_kind(mode: str, size: Size, found: np.ndarray) -> dict[str, Errors]:
    """Errors pooled over the images of each kind, and of the worst image under "each"."""
    reference, kinds = expected(mode, size), judged_on(size)
    pooled = {
        kind: measure(reference=reference[kinds.where(kind)], candidate=found[kinds.where(kind)])
        for kind in ("noise", "photo")
    }
    each = [measure(reference=reference[[i]], candidate=found[[i]]) for i in range(len(found))]
    return pooled | {"each": max(each, key=lambda errors: np.inf if errors.rel_max is None else errors.rel_max)}


def check(mode: str, size: Size, precision: str, path: Path, run: Run) -> None:
    found = errors_by_kind(mode, size, run(path, precision, judged_on(size).pixels))

    if precision == "fp32":
        assert found["each"].rel_max is not None
        assert found["each"].rel_max <= FP32_REL_MAX
    else:
        assert found["photo"].sqnr_db is not None
        assert found["photo"].sqnr_db >= FP16_SQNR_DB
        assert found["noise"].rel_max is not None
        assert found["noise"].rel_max <= TOLERANCES["fp16"].rel_max_synthetic


@pytest.mark.parametrize(("mode", "precision", "ios", "size"), PROGRAMS)
def test_a_program_computes_what_pytorch_computes(
    mode: str, precision: str, ios: int, size: Size, tmp_path: Path
) -> None:
    path = written(mode, size, precision, Settings("mlpackage", min_ios=ios), tmp_path)

    check(mode, size, precision, path, evaluated)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "precision", "ios", "size"), [case for case in EVERY_PROGRAM if case not in PROGRAMS])
def test_every_program_computes_what_pytorch_computes(
    mode: str, precision: str, ios: int, size: Size, tmp_path: Path
) -> None:
    path = written(mode, size, precision, Settings("mlpackage", min_ios=ios), tmp_path)

    check(mode, size, precision, path, evaluated)


@pytest.mark.parametrize(("mode", "precision", "size"), NETWORKS)
def test_a_classic_network_computes_what_pytorch_computes(
    mode: str, precision: str, size: Size, tmp_path: Path
) -> None:
    """fp16 is the storage of a classic network's weights; it is computed in float32."""
    path = written(mode, size, precision, Settings("mlmodel"), tmp_path)

    check(mode, size, precision, path, run_by_suffix)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "precision", "size"), [case for case in EVERY_NETWORK if case not in NETWORKS])
def test_every_classic_network_computes_what_pytorch_computes(
    mode: str, precision: str, size: Size, tmp_path: Path
) -> None:
    path = written(mode, size, precision, Settings("mlmodel"), tmp_path)

    check(mode, size, precision, path, run_by_suffix)

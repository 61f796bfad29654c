"""The Core ML program evaluator on one core: seconds to load a file, seconds an image, and how near it is to PyTorch.

    python benchmarks/coreml_evaluator.py [--runs N]

Each mode is exported with seeded sensitive weights at 256x256, as .mlpackage in fp16 and fp32 and as .mlmodel in fp32.
Loading is opening, parsing and decompressing; an image is run N times (default 5) after one that does not count. The
median, fastest and slowest are printed beside the bar. Times drift on shared machines: compare within one run only.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import exporters.coreml
from mvit_deploy import parity
from mvit_deploy.images import builtin_photos
from mvit_deploy.nn.build import seeded_classifier
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.runtimes.coreml.evaluator import Evaluator
from mvit_deploy.runtimes.coreml.network import Network
from mvit_deploy.runtimes.coreml.package import read_specification, weights_folder
from mvit_deploy.runtimes.coreml.program import read_program
from mvit_deploy.spec import Contract, Output, Settings

SIZE = (256, 256)
FORMS = (("mlpackage", "fp16", "typed"), ("mlpackage", "fp16", "fp32"), ("mlpackage", "fp32", "fp32"),
         ("mlmodel", "fp32", "fp32"))  # fmt: skip
BAR_SECONDS = {("xxs", "fp16"): 0.5, ("s", "fp16"): 2.0}
BAR_LOAD = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    warnings.simplefilter("ignore")
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    table = Table(title=f"Core ML program evaluator, {SIZE[0]}x{SIZE[1]}, one core, {runs} runs")
    columns = ("file", "mode", "load s", f"bar {BAR_LOAD:g}", "image s, median", "min-max", "bar", "rel_max", "SQNR dB")
    for column in columns:
        table.add_column(column, justify="right")
    photos = builtin_photos(SIZE).pixels[:1].transpose(0, 3, 1, 2).astype(np.float32)
    for mode in ("xxs", "xs", "s"):
        model = seeded_classifier(mode)
        with torch.inference_mode():
            reference = model(torch.from_numpy(photos) / 255).numpy()
        for form, precision, arithmetic in FORMS:
            row = measure(model, mode, form, precision, arithmetic, photos, reference, runs)
            table.add_row(f"{mode} {form} {precision}", arithmetic, *row)
    Console(width=130).print(table)


def measure(
    model: torch.nn.Module,
    mode: str,
    form: str,
    precision: str,
    arithmetic: str,
    photo: np.ndarray,
    reference: np.ndarray,
    runs: int,
) -> list[str]:
    """One row: times and errors of one file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model.{form}"
        contract = Contract(mode, "classification", "paper", SIZE, (Output("logits", reference.shape[1:]),))
        settings = Settings(form, min_ios=16)
        exporters.coreml.write(exporters.coreml.lower(fuse(model), contract, settings), precision, path)
        start = time.perf_counter()
        run = load(path, arithmetic)
        loaded = time.perf_counter() - start
        logits = run({"image": photo})["logits"]
        seconds = [timed(run, photo) for _ in range(runs)]
    errors = parity.measure(reference=reference, candidate=np.reshape(logits, reference.shape))
    bar = BAR_SECONDS.get((mode, precision)) if form == "mlpackage" else None
    return [
        f"{loaded:.2f}",
        "yes" if loaded <= BAR_LOAD else "NO",
        f"{statistics.median(seconds):.3f}",
        f"{min(seconds):.3f}-{max(seconds):.3f}",
        "" if bar is None else f"{bar:g}",
        f"{errors.rel_max:.1e}",
        f"{errors.sqnr_db:.1f}",
    ]


def load(path: Path, arithmetic: str) -> Callable[[dict[str, np.ndarray]], dict[str, object]]:
    spec = read_specification(path)
    if path.suffix == ".mlmodel":
        return Network(spec).run
    return Evaluator(read_program(spec, weights_folder(path)), arithmetic).run


def timed(run: Callable[[dict[str, np.ndarray]], object], photo: np.ndarray) -> float:
    start = time.perf_counter()
    run({"image": photo})
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

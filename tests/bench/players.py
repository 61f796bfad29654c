"""A file played by a runner that sees colours: class i where channel i is the brightest."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvit_deploy.bench.subject import Subject
from mvit_deploy.spec import Declared, InputSpec, Interface, OutputSpec

COLOURS = ("red", "green", "blue")


@dataclass
class Colourist:
    interface: Interface
    name: str = "player"
    version: str = "1"
    kind: str = "runtime"

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": pixels.mean(axis=(1, 2))}


def colourist(
    *,
    labels: tuple[str, ...] | None = COLOURS,
    size: tuple[int, int] = (32, 32),
    shape: tuple[int, ...] = (1, 3),
    path: Path = Path("x.onnx"),
    sqnr_db: float | None = None,
) -> Subject:
    """A subject of 1 MB whose runner is right about plain colours if its labels are in their order."""
    interface = Interface(
        "onnx",
        "18",
        (InputSpec("image", (1, 3, *size), "float32", "NCHW", (0.0, 1.0), "RGB"),),
        (OutputSpec("logits", shape, "float32", "logits"),),
        Declared("RGB", (0.0, 1.0), labels),
    )
    return Subject(path, "onnx", "0" * 64, 1_000_000, Colourist(interface), "fp32", sqnr_db, "")

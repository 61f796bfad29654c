"""TFLite files on LiteRT's CPU interpreter, with its default XNNPACK delegate, as in an app."""

import json
import struct
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from mvit_deploy import metadata
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import tflite_metadata
from mvit_deploy.runtimes.tensors import run_in_batches
from mvit_deploy.runtimes.tflite_file import METADATA_NAME, check, read_metadata
from mvit_deploy.spec import Declared, InputSpec, Interface, OutputSpec

SIGNATURE = "serving_default"


class TfliteRunner:
    """An interpreter on the file's serving_default signature."""

    name = "ai-edge-litert"
    version = version("ai-edge-litert")
    kind = "runtime"

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        try:
            content = path.read_bytes()
            declared = _declared(content)
            self._interpreter = Interpreter(model_content=content, num_threads=threads)
            self._run = self._interpreter.get_signature_runner(SIGNATURE)
            self.interface = _interface(self._run.get_input_details(), self._run.get_output_details(), declared)
            _check_task_metadata(content, self.interface)
        except (OSError, ValueError, RuntimeError) as error:
            raise DamagedFileError(f"LiteRT cannot open {path.name}: {error}") from error

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        return run_in_batches(pixels, self.interface, self.invoke)

    def invoke(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
        try:
            return self._run(**{self.interface.inputs[0].name: tensor})
        except (ValueError, RuntimeError) as error:
            raise DamagedFileError(f"LiteRT cannot run the file: {error}") from error

    def findings(self, pixels: np.ndarray, outputs: dict[str, np.ndarray]) -> dict[str, object]:
        return {}


def open_file(path: Path, *, threads: int | None = None) -> TfliteRunner:
    """Open a .tflite file. threads: to compute with, None is the runtime's own choice. Raises: DamagedFileError."""
    return TfliteRunner(path, threads=threads)


def _declared(content: bytes) -> Declared:
    """Raises: DamagedFileError when the file has no metadata of ours or they, or its graphs, cannot be read."""
    try:
        check(content)
        payload = read_metadata(content, METADATA_NAME)
    except (struct.error, ValueError, IndexError, TypeError, OverflowError) as error:  # what flatbuffers raises
        raise DamagedFileError(f"it is no sound TFLite file: {error}") from error
    if payload is None:
        raise DamagedFileError(f"the file has no metadata {METADATA_NAME!r}, which give its colour order and range")
    entries = json.loads(payload)
    if not isinstance(entries, dict) or not all(isinstance(value, str) for value in entries.values()):
        raise DamagedFileError(f"the file's metadata {METADATA_NAME!r} are no JSON object of strings")
    return metadata.read(entries)


def _check_task_metadata(content: bytes, interface: Interface) -> None:
    """Raises: DamagedFileError when what MediaPipe would read and the rest of the file differ. A file may have none."""
    task = tflite_metadata.read(content)
    if task is None:
        return
    problem = tflite_metadata.disagreement(task, interface, tflite_metadata.output_names(content))
    if problem is not None:
        raise DamagedFileError(f"the file's TFLite Metadata say otherwise than the file: {problem}")


def _interface(inputs: dict[str, dict], outputs: dict[str, dict], declared: Declared) -> Interface:
    return Interface(
        format="tflite",
        opset_or_spec="schema 3",
        inputs=tuple(
            InputSpec(name, *_form(detail), "NHWC", declared.value_range, declared.color_order, *_code(detail))
            for name, detail in inputs.items()
        ),
        outputs=tuple(_output(name, *_form(detail), *_code(detail)) for name, detail in outputs.items()),
        declared=declared,
    )


def _output(name: str, shape: tuple[int, ...], dtype: str, scale: float | None, zero_point: int | None) -> OutputSpec:
    return OutputSpec(name, shape, dtype, name, "NHWC" if len(shape) == 4 else "", scale, zero_point)


def _form(detail: dict) -> tuple[tuple[int, ...], str]:
    """Shape, -1 where free, and type."""
    return tuple(int(side) for side in detail["shape_signature"]), np.dtype(detail["dtype"]).name


def _code(detail: dict) -> tuple[float | None, int | None]:
    """Scale and zero point of an integer tensor that has one of each; None twice for any other."""
    scale, zero_point = detail["quantization"]
    is_integer = np.dtype(detail["dtype"]).kind in "iu"
    return (float(scale), int(zero_point)) if is_integer and scale else (None, None)

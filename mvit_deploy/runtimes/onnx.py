"""ONNX files on ONNX Runtime's CPU provider."""

from pathlib import Path

import numpy as np
import onnxruntime

from mvit_deploy import metadata
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.tensors import run_in_batches
from mvit_deploy.spec import InputSpec, Interface, OutputSpec

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8", "tensor(int32)": "int32"}


class OnnxRunner:
    """A session on the file. Graph optimizations are on, as in an app."""

    name = "onnxruntime"
    version = onnxruntime.__version__
    kind = "runtime"

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0  # 0: as many as it finds good
        options.log_severity_level = 3  # errors only: warnings go to the terminal
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the classes that it raises are private to its C++ binding
            raise DamagedFileError(f"onnxruntime cannot open {path.name}: {error}") from error
        try:
            self.interface = _interface(self._session)
        except UnicodeDecodeError as error:
            raise DamagedFileError(f"a name or the metadata of {path.name} are no text: {error}") from error

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        return run_in_batches(pixels, self.interface, self.invoke)

    def invoke(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
        names = [output.name for output in self.interface.outputs]
        try:
            values = self._session.run(names, {self.interface.inputs[0].name: tensor})
        except Exception as error:  # private classes, as above
            raise DamagedFileError(f"onnxruntime cannot run the file: {error}") from error
        return dict(zip(names, values, strict=True))

    def findings(self, pixels: np.ndarray, outputs: dict[str, np.ndarray]) -> dict[str, object]:
        return {}


def open_file(path: Path, *, threads: int | None = None) -> OnnxRunner:
    """Open an .onnx file. threads: to compute with, None is the runtime's own choice. Raises: DamagedFileError."""
    return OnnxRunner(path, threads=threads)


def _interface(session: onnxruntime.InferenceSession) -> Interface:
    entries = session.get_modelmeta().custom_metadata_map
    declared = metadata.read(entries)
    inputs = tuple(
        InputSpec(
            name=i.name,
            shape=_shape(i.shape),
            dtype=_DTYPES.get(i.type, i.type),
            layout="NCHW" if len(i.shape) == 4 and i.shape[1] == 3 else "NHWC",
            range=declared.value_range,
            color_order=declared.color_order,
        )
        for i in session.get_inputs()
    )
    outputs = tuple(
        OutputSpec(o.name, _shape(o.shape), _DTYPES.get(o.type, o.type), meaning=o.name) for o in session.get_outputs()
    )
    return Interface(
        format="onnx",
        opset_or_spec=entries.get(metadata.PREFIX + "opset", "unknown"),
        inputs=inputs,
        outputs=outputs,
        declared=declared,
    )


def _shape(dims: list[int | str]) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else -1 for dim in dims)

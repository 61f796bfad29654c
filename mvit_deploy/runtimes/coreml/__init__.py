"""Core ML files: Apple's runtime runs them on a Mac, an evaluator of our own elsewhere.

The evaluator verifies what a file means: graph, weights, types, inputs and outputs. It is not Apple's runtime: kernels,
the choice of the compute unit and the compiler's acceptance are not seen.
"""

import platform
from pathlib import Path

import numpy as np

import mvit_deploy
from mvit_deploy import parity
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml import proto
from mvit_deploy.runtimes.coreml.audit import Audit, audited_run
from mvit_deploy.runtimes.coreml.interface import class_labels, read_interface
from mvit_deploy.runtimes.coreml.network import Network
from mvit_deploy.runtimes.coreml.package import read_specification, weights_folder
from mvit_deploy.runtimes.coreml.pixels import image_tensor
from mvit_deploy.runtimes.coreml.program import read_program
from mvit_deploy.spec import Interface

pb = proto.model_pb2()

EVALUATOR = "program evaluator, not Apple's runtime"


class CoreMLRunner:
    """An opened .mlpackage or .mlmodel."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spec = read_specification(path)
        self.interface = read_interface(self._spec, path.suffix.removeprefix("."))
        self._audit: Audit | None = None
        self._on_mac = platform.system() == "Darwin"
        self.kind = "runtime" if self._on_mac else "evaluator"
        self.name = "Core ML" if self._on_mac else EVALUATOR
        self.version = platform.mac_ver()[0] if self._on_mac else mvit_deploy.__version__

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        self.interface.check_stackable()
        return self._predict(pixels) if self._on_mac else self._evaluate(pixels)

    def findings(self, pixels: np.ndarray, outputs: dict[str, np.ndarray]) -> dict[str, object]:
        """The fp16 audit of the last run, and on a Mac how far the evaluator is from Apple's runtime (rel_max)."""
        found: dict[str, object] = {}
        if self._on_mac:
            evaluated = self._evaluate(pixels)
            found["evaluator_rel_max"] = {
                output.name: parity.measure(reference=outputs[output.name], candidate=evaluated[output.name]).rel_max
                for output in self.interface.outputs
                if output.meaning != "label"
            }
        if self._audit is not None:
            found["fp16_audit"] = self._audit.to_json()
        return found

    def _evaluate(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        declared = self.interface.inputs[0]
        images = [{declared.name: image_tensor(image, declared)} for image in pixels]
        results, self._audit = run_network(self._spec, weights_folder(self._path), images)
        return _joined(results, self.interface, class_labels(self._spec))

    def _predict(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Run on a Mac. Images are given as RGB pictures: Core ML orders and scales the channels as the file says."""
        import coremltools  # takes seconds, and only a Mac gets here
        from PIL import Image

        model = coremltools.models.MLModel(str(self._path), compute_units=coremltools.ComputeUnit.CPU_ONLY)
        name = self.interface.inputs[0].name
        results = [model.predict({name: Image.fromarray(image)}) for image in pixels]
        return _joined(results, self.interface, class_labels(self._spec))


def open_file(path: Path) -> CoreMLRunner:
    """Open an .mlpackage folder or an .mlmodel file. Raises: DamagedFileError."""
    return CoreMLRunner(path)


def run_network(
    spec: "pb.Model", weights: Path, images: list[dict[str, np.ndarray]]
) -> tuple[list[dict[str, object]], Audit | None]:
    """What the evaluator computes for each image, by the names of the network's outputs, and a program's fp16 audit.

    weights: the folder that a program calls @model_path.
    Raises: CannotRunHere for an operation that it does not know; DamagedFileError.
    """
    if spec.WhichOneof("Type") == "mlProgram":
        return audited_run(read_program(spec, weights), images)
    network = Network(spec)
    return [network.run(image) for image in images], None


def _joined(
    results: list[dict[str, object]], interface: Interface, labels: tuple[str, ...] | None
) -> dict[str, np.ndarray]:
    """The declared outputs of all images: arrays stacked, probabilities in the labels' declared order."""
    joined = {}
    for output in interface.outputs:
        missing = [result for result in results if output.name not in result]
        if missing:
            raise DamagedFileError(f"the file declares an output {output.name!r} but does not compute it")
        values = [result[output.name] for result in results]
        if output.meaning == "label":
            joined[output.name] = np.array(values, dtype=object)
        else:
            joined[output.name] = np.stack([_row(value, interface.labels, labels) for value in values])
    return joined


def _row(value: object, declared: tuple[str, ...] | None, labels: tuple[str, ...] | None) -> np.ndarray:
    """One image's values. Of a classifier, by label: whatever order the classifier has, each name keeps its number."""
    if isinstance(value, dict):
        return np.array([value[label] for label in declared], dtype=np.float32)
    array = np.asarray(value, dtype=np.float32)
    if labels is not None and array.size == len(labels):
        by_label = dict(zip(labels, array.ravel(), strict=True))
        return np.array([by_label[label] for label in declared], dtype=np.float32)
    return array[0] if array.ndim > 1 else array

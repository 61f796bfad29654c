"""Writers of files, one module per target; `ls exporters` is the list of targets.

This file is the table of what each can do, readable without any heavy library. Every module has the same two verbs:
lower(module, contract, settings) brings the deployment form into the converter's world, once for all precisions;
write(lowered, precision, path) writes one file.
"""

from dataclasses import dataclass

MIN_IOS = (15, 16, 17, 18)


@dataclass(frozen=True, eq=False)  # a row of the table, compared by identity
class Target:
    """What a target offers. formats: name -> suffix, the first is the default; libraries: import names."""

    name: str
    formats: dict[str, str]
    precisions: tuple[str, ...]
    default_precision: str
    export_libraries: tuple[str, ...]
    runtime_libraries: tuple[str, ...]

    @property
    def default_format(self) -> str:
        return next(iter(self.formats))


TARGETS = {
    target.name: target
    for target in (
        Target(
            name="onnx",
            formats={"onnx": ".onnx"},
            precisions=("fp32", "fp16", "w8", "w8a16", "w8a8"),
            default_precision="fp32",
            export_libraries=("onnx",),
            runtime_libraries=("onnxruntime",),
        ),
        Target(
            name="coreml",
            formats={"mlpackage": ".mlpackage", "mlmodel": ".mlmodel"},
            precisions=("fp32", "fp16", "w8", "w8a8"),
            default_precision="fp16",
            export_libraries=("coremltools",),
            runtime_libraries=("coremltools",),
        ),
        Target(
            name="tflite",
            formats={"tflite": ".tflite"},
            precisions=("fp32", "fp16", "w8", "w8a16", "w8a8"),
            default_precision="fp32",
            export_libraries=("onnx", "onnx2tf", "tensorflow", "tf_keras"),
            runtime_libraries=("ai_edge_litert",),
        ),
    )
}

"""The table of rules. Each was read in the document that it names; what is not documented is no rule.

error: keeps a file from loading or running on that consumer in an ordinary app. warning: something falls back, or runs
slower. note: information. blocks: the consumer does not take the operators that break the rule.
"""

from dataclasses import dataclass

ERROR, WARNING, NOTE = SEVERITIES = ("error", "warning", "note")

LITERT, TFLITE_GPU, NNAPI, XNNPACK = "LiteRT", "TFLite GPU delegate", "NNAPI delegate", "XNNPACK delegate"
TFLITE_DELEGATES, MEDIAPIPE = "TFLite delegates", "MediaPipe Tasks"
ORT, ORT_MOBILE = "ONNX Runtime", "ORT mobile package"
NNAPI_EP, COREML_EP, XNNPACK_EP = "ORT NNAPI EP", "ORT CoreML EP", "ORT XNNPACK EP"
CORE_ML, NEURAL_ENGINE = "Core ML", "Core ML on the Neural Engine"


@dataclass(frozen=True)
class Source:
    """A document: title, address, and its version or date where it has one."""

    title: str
    url: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.title}{f' ({self.version})' if self.version else ''}, {self.url}"


@dataclass(frozen=True)
class Rule:
    """id: short, in kebab case, unique over all targets. text: one sentence."""

    id: str
    target: str
    consumer: str
    severity: str
    text: str
    source: Source
    blocks: bool = False

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return SEVERITIES.index(self.severity)


_LITERT_REPO = "https://github.com/google-ai-edge/LiteRT/blob/main/tflite"
_TF_DOCS = "https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/g3doc"
SELECT_OPS = Source("Select TensorFlow operators", f"{_TF_DOCS}/guide/ops_select.md")
CUSTOM_OPS = Source("Custom operators", f"{_TF_DOCS}/guide/ops_custom.md")
REGISTER = Source(
    "TFLite's register.cc",
    "https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/core/kernels/register.cc",
)
GPU_GUIDE = Source("GPU delegates for LiteRT", "https://ai.google.dev/edge/litert/performance/gpu")
GPU_README = Source("TFLite on GPU", f"{_LITERT_REPO}/delegates/gpu/README.md", "2026")
GPU_ADVANCED = Source("TensorFlow Lite on GPU", f"{_TF_DOCS}/performance/gpu_advanced.md")
GPU_CHECK = Source(
    "TFLite's gpu_compatibility.cc and the GPU delegate's model_builder.cc",
    f"{_LITERT_REPO}/tools/versioning/gpu_compatibility.cc",
    "2026",
)
GPU_BUILDER = Source(
    "the GPU delegate's model_builder.cc", f"{_LITERT_REPO}/delegates/gpu/common/model_builder.cc", "2026"
)
GPU_SHAPES = Source(
    "the GPU delegate's model_builder_helper.cc, ExtractTensorShape",
    f"{_LITERT_REPO}/delegates/gpu/common/model_builder_helper.cc",
    "2026",
)
NNAPI_GUIDE = Source("TensorFlow Lite NNAPI delegate", f"{_TF_DOCS}/performance/nnapi.md")
NNAPI_CODE = Source("nnapi_delegate.cc, Validate", f"{_LITERT_REPO}/delegates/nnapi/nnapi_delegate.cc", "2026")
XNNPACK_README = Source("XNNPACK backend for TensorFlow Lite", f"{_LITERT_REPO}/delegates/xnnpack/README.md", "2026")
XNNPACK_CODE = Source("xnnpack_delegate.cc, VisitNode", f"{_LITERT_REPO}/delegates/xnnpack/xnnpack_delegate.cc", "2026")
MEDIAPIPE_API = Source(
    "MediaPipe Tasks, ImageClassifier",
    "https://ai.google.dev/edge/api/mediapipe/python/mp/tasks/vision/ImageClassifier",
)

_ORT_DOCS = "https://onnxruntime.ai/docs"
_ORT_REPO = "https://github.com/microsoft/onnxruntime/blob/main"
ORT_VERSIONS = Source(
    "ONNX Runtime compatibility", f"{_ORT_DOCS}/reference/compatibility.html", "up to ONNX Runtime 1.20"
)
ORT_CUSTOM_OPS = Source("Custom operators", f"{_ORT_DOCS}/reference/operators/add-custom-op.html")
ORT_CONTRIB = Source("Contrib operators", f"{_ORT_REPO}/docs/ContribOperators.md")
ORT_MOBILE_OPS = Source(
    "ORT 1.17 Mobile Package Operators",
    f"{_ORT_DOCS}/reference/operators/mobile_package_op_type_support_1.17.html",
    "1.17; the package was last published as 1.18",
)
EXTERNAL_DATA = Source("External Data", "https://onnx.ai/onnx/repo-docs/ExternalData.html")
FIXED_SHAPES = Source(
    "Making dynamic input shapes fixed", f"{_ORT_DOCS}/tutorials/mobile/helpers/make-dynamic-shape-fixed.html"
)
NNAPI_EP_OPS = Source(
    "NNAPI Execution Provider, supported ops",
    f"{_ORT_REPO}/tools/ci_build/github/android/nnapi_supported_ops.md",
    "ONNX Runtime 1.23",
)
NNAPI_EP_CODE = Source(
    "the NNAPI execution provider's base_op_builder.cc and helper.cc",
    f"{_ORT_REPO}/onnxruntime/core/providers/nnapi/nnapi_builtin/builders/impl/base_op_builder.cc",
)
COREML_EP_OPS = Source(
    "CoreML Execution Provider, supported ops of an ML Program",
    f"{_ORT_REPO}/tools/ci_build/github/apple/coreml_supported_mlprogram_ops.md",
    "ONNX Runtime 1.23",
)
USABILITY = Source(
    "ONNX Runtime's mobile usability checker",
    f"{_ORT_REPO}/tools/python/util/mobile_helpers/usability_checker.py",
    "ONNX Runtime 1.23",
)
XNNPACK_EP_OPS = Source(
    "XNNPACK Execution Provider, supported ops", f"{_ORT_DOCS}/execution-providers/Xnnpack-ExecutionProvider.html"
)

_COREMLTOOLS = "https://apple.github.io/coremltools/docs-guides/source"
TYPED_EXECUTION = Source("Typed Execution", f"{_COREMLTOOLS}/typed-execution.html", "coremltools 8")
FLEXIBLE_INPUTS = Source("Flexible Input Shapes", f"{_COREMLTOOLS}/flexible-inputs.html", "coremltools 8")
IMAGE_INPUTS = Source("Image Input and Output", f"{_COREMLTOOLS}/image-inputs.html", "coremltools 8")
RANGE_SHAPES = Source(
    "an Apple engineer on range flexibility", "https://developer.apple.com/forums/thread/724930", "2023"
)
RANK_LIMIT = Source(
    "coremltools' check of a program before it is written",
    "https://github.com/apple/coremltools/blob/main/coremltools/converters/mil/mil/program.py",
)
CUSTOM_LAYERS = Source(
    "Creating and Integrating a Model with Custom Layers",
    "https://developer.apple.com/documentation/coreml/creating-and-integrating-a-model-with-custom-layers",
)
ANE_LAYERS = Source(
    "Which Core ML layers are not supported by the ANE? (a community's list, with guesses)",
    "https://github.com/hollance/neural-engine/blob/master/docs/unsupported-layers.md",
)
_ANE_GUIDE = "https://github.com/sbryngelson/ane-guide/blob/main"
ANE_MATRIX = Source(
    "ANE guide, appendix A (measured, not Apple's)",
    f"{_ANE_GUIDE}/appendices/a-op-device-matrix.md",
    "arXiv 2606.22283",
)
ANE_NUMERICS = Source(
    "ANE guide, chapter 3 (measured, not Apple's)", f"{_ANE_GUIDE}/part-1-machine/03-numerics.md", "arXiv 2606.22283"
)
ANE_DESIGN = Source(
    "ANE guide, chapter 17 (measured, not Apple's)",
    f"{_ANE_GUIDE}/part-5-practice/17-model-design-rules.md",
    "arXiv 2606.22283",
)

_TFLITE = (
    Rule(
        "flex-operator", "tflite", LITERT, ERROR,
        "Select TensorFlow (Flex) operators need a runtime that includes TensorFlow's own kernels.",
        SELECT_OPS,
    ),
    Rule(
        "custom-operator", "tflite", LITERT, ERROR,
        "A custom operator that the app does not register itself is not found when the file is loaded.",
        CUSTOM_OPS,
    ),
    Rule(
        "builtin-custom-operator", "tflite", LITERT, NOTE,
        "A custom operator that every LiteRT registers; it runs on the CPU.",
        REGISTER,
    ),
    Rule(
        "tflite-rank", "tflite", TFLITE_GPU, ERROR,
        "The GPU delegate knows tensors of rank 1 to 4 only.",
        GPU_SHAPES, blocks=True,
    ),
    Rule(
        "tflite-free-size", "tflite", TFLITE_DELEGATES, ERROR,
        "Delegates support static-sized tensors only.",
        NNAPI_GUIDE,
    ),
    Rule(
        "tflite-free-batch", "tflite", TFLITE_DELEGATES, WARNING,
        "The batch size is free, and delegates support static-sized tensors only.",
        NNAPI_GUIDE,
    ),
    Rule(
        "tflite-batch", "tflite", MEDIAPIPE, WARNING,
        "The batch is required to be 1.",
        MEDIAPIPE_API,
    ),
    Rule(
        "gpu-operator", "tflite", TFLITE_GPU, WARNING,
        "The GPU delegate does not take these operators; they split the graph and run on the CPU.",
        GPU_CHECK, blocks=True,
    ),
    Rule(
        "gpu-type", "tflite", TFLITE_GPU, WARNING,
        "The GPU delegate takes operators on float and 8-bit tensors only.",
        GPU_BUILDER, blocks=True,
    ),
    Rule(
        "gpu-quantized", "tflite", TFLITE_GPU, NOTE,
        "8-bit operators run on the GPU in float, and only where the app allows quantized models.",
        GPU_ADVANCED,
    ),
    Rule(
        "gpu-undocumented", "tflite", TFLITE_GPU, NOTE,
        "The GPU delegate's code takes these operators, its guide does not list them: older releases may not.",
        GPU_README,
    ),
    Rule(
        "gpu-data-movement", "tflite", TFLITE_GPU, NOTE,
        "Reshapes and transposes are trivial on the CPU and expensive on mobile GPUs.",
        GPU_GUIDE,
    ),
    Rule(
        "nnapi-operator", "tflite", NNAPI, WARNING,
        "The NNAPI delegate does not map these operators, or not this version of them; they run on the CPU.",
        NNAPI_CODE, blocks=True,
    ),
    Rule(
        "nnapi-type", "tflite", NNAPI, WARNING,
        "NNAPI's quantized operators compute on 8-bit integers; 16-bit activations stay on the CPU.",
        NNAPI_CODE, blocks=True,
    ),
    Rule(
        "nnapi-rank", "tflite", NNAPI, WARNING,
        "The NNAPI delegate takes inputs of rank 4 at most.",
        NNAPI_CODE, blocks=True,
    ),
    Rule(
        "xnnpack-operator", "tflite", XNNPACK, WARNING,
        "The XNNPACK delegate does not take these operators; LiteRT's slower default kernels run them.",
        XNNPACK_CODE, blocks=True,
    ),
    Rule(
        "xnnpack-concatenation", "tflite", XNNPACK, WARNING,
        "The XNNPACK delegate joins few tensors at once (documented: two to four, in releases of 2025: five).",
        XNNPACK_README, blocks=True,
    ),
    Rule(
        "xnnpack-type", "tflite", XNNPACK, WARNING,
        "The XNNPACK delegate computes in float and on 8-bit integers; 16-bit activations run on the default kernels.",
        XNNPACK_README, blocks=True,
    ),
    Rule(
        "xnnpack-undocumented", "tflite", XNNPACK, NOTE,
        "The XNNPACK delegate's code takes these operators, its README does not list them: older releases may not.",
        XNNPACK_README,
    ),
)  # fmt: skip

_ONNX = (
    Rule(
        "external-data", "onnx", ORT, ERROR,
        "Weights lie in other files, which have to be shipped beside this one under their names.",
        EXTERNAL_DATA,
    ),
    Rule(
        "ir-too-new", "onnx", ORT, ERROR,
        "The file's IR version is above 10, which ONNX Runtime 1.18 to 1.20 refuse to load.",
        ORT_VERSIONS,
    ),
    Rule(
        "opset-too-new", "onnx", ORT, ERROR,
        "The file's opset is above 21, which ONNX Runtime 1.18 to 1.20 refuse to load.",
        ORT_VERSIONS,
    ),
    Rule(
        "unknown-domain", "onnx", ORT, ERROR,
        "Operators outside of ai.onnx and com.microsoft need a library of custom operators in the app.",
        ORT_CUSTOM_OPS,
    ),
    Rule(
        "contrib-operator", "onnx", ORT, NOTE,
        "Contrib operators are ONNX Runtime's own; other runtimes do not know them.",
        ORT_CONTRIB,
    ),
    Rule(
        "ort-mobile-opset", "onnx", ORT_MOBILE, NOTE,
        "The reduced mobile package knows opsets 12 to 15; use onnxruntime-android or onnxruntime-c.",
        ORT_MOBILE_OPS,
    ),
    Rule(
        "ort-mobile-operator", "onnx", ORT_MOBILE, NOTE,
        "The reduced mobile package does not hold these operators.",
        ORT_MOBILE_OPS, blocks=True,
    ),
    Rule(
        "onnx-free-size", "onnx", NNAPI_EP, ERROR,
        "NNAPI and Core ML do not support dynamic input shapes.",
        FIXED_SHAPES,
    ),
    Rule(
        "onnx-free-batch", "onnx", NNAPI_EP, WARNING,
        "The batch size is free: NNAPI and Core ML take the file only after it was fixed.",
        FIXED_SHAPES,
    ),
    Rule(
        "detections-size", "onnx", NNAPI_EP, NOTE,
        "How many boxes are found is not known before; what follows the suppression runs on the CPU.",
        USABILITY,
    ),
    Rule(
        "onnx-batch", "onnx", NNAPI_EP, WARNING,
        "In mobile scenarios the batch generally has a size of 1.",
        FIXED_SHAPES,
    ),
    Rule(
        "nnapi-ep-operator", "onnx", NNAPI_EP, WARNING,
        "The NNAPI execution provider does not take these operators; they run on the CPU.",
        NNAPI_EP_OPS, blocks=True,
    ),
    Rule(
        "nnapi-ep-type", "onnx", NNAPI_EP, WARNING,
        "The NNAPI execution provider takes 32-bit floats and 8-bit integers; of float16 and 16-bit integers nothing.",
        NNAPI_EP_CODE, blocks=True,
    ),
    Rule(
        "coreml-ep-operator", "onnx", COREML_EP, WARNING,
        "The CoreML execution provider does not take these operators; they run on the CPU.",
        COREML_EP_OPS, blocks=True,
    ),
    Rule(
        "coreml-ep-rank", "onnx", COREML_EP, WARNING,
        "The CoreML execution provider takes inputs of rank 5 at most.",
        USABILITY, blocks=True,
    ),
    Rule(
        "xnnpack-ep-operator", "onnx", XNNPACK_EP, NOTE,
        "The XNNPACK execution provider takes convolutions, products and pools; ONNX Runtime's kernels run the rest.",
        XNNPACK_EP_OPS, blocks=True,
    ),
)  # fmt: skip

_COREML = (
    Rule(
        "coreml-rank", "coreml", CORE_ML, ERROR,
        "Core ML supports tensors of rank 5 at most.",
        RANK_LIMIT,
    ),
    Rule(
        "custom-layer", "coreml", CORE_ML, ERROR,
        "A custom layer is code that the app has to bring along.",
        CUSTOM_LAYERS,
    ),
    Rule(
        "coreml-free-size", "coreml", NEURAL_ENGINE, ERROR,
        "A size that is a range keeps every shape but the default one off the Neural Engine; list the sizes instead.",
        RANGE_SHAPES,
    ),
    Rule(
        "coreml-free-batch", "coreml", NEURAL_ENGINE, WARNING,
        "A batch size that is a range keeps every batch but the default one off the Neural Engine.",
        RANGE_SHAPES,
    ),
    Rule(
        "enumerated-shapes", "coreml", NEURAL_ENGINE, NOTE,
        "Each of the listed shapes is compiled on the device; 128 are allowed.",
        FLEXIBLE_INPUTS,
    ),
    Rule(
        "coreml-batch", "coreml", CORE_ML, WARNING,
        "A batch other than 1 has to come as a multi-array; an image input, which Vision needs, takes one picture.",
        IMAGE_INPUTS,
    ),
    Rule(
        "ane-float32", "coreml", NEURAL_ENGINE, WARNING,
        "Operations typed float32 run on CPU or GPU; only float16 reaches the Neural Engine.",
        TYPED_EXECUTION, blocks=True,
    ),
    Rule(
        "ane-operation", "coreml", NEURAL_ENGINE, WARNING,
        "These operations have no path on any generation of the Neural Engine.",
        ANE_MATRIX, blocks=True,
    ),
    Rule(
        "ane-generation", "coreml", NEURAL_ENGINE, NOTE,
        "These operations are native from A14 or A15 on; older chips use another unit or a software path.",
        ANE_MATRIX,
    ),
    Rule(
        "ane-size", "coreml", NEURAL_ENGINE, WARNING,
        "The Neural Engine takes 16384 along width and height (65536 from A16 on) and 65536 channels at most.",
        ANE_DESIGN, blocks=True,
    ),
    Rule(
        "ane-kernel", "coreml", NEURAL_ENGINE, WARNING,
        "The Neural Engine of A13 and M1 takes float16 kernels of width 13 and height 29 at most.",
        ANE_DESIGN, blocks=True,
    ),
    Rule(
        "ane-slice", "coreml", NEURAL_ENGINE, NOTE,
        "A slice that begins after 0 on the last axis turns values above 4094 to infinity on A13, A14, M1 and M2.",
        ANE_NUMERICS,
    ),
    Rule(
        "ane-product", "coreml", NEURAL_ENGINE, NOTE,
        "Results of matrix products and convolutions turn to infinity from 32768 on, half of float16's range.",
        ANE_NUMERICS,
    ),
    Rule(
        "ane-table", "coreml", NEURAL_ENGINE, NOTE,
        "Activations come from tables of 33 knots (worst absolute error: sigmoid 3.4e-3, tanh 1.7e-3, GELU 5.9e-3).",
        ANE_NUMERICS,
    ),
    Rule(
        "ane-layer", "coreml", NEURAL_ENGINE, WARNING,
        "Broadcastable, ND, gather, recurrent and custom layers and dilated convolutions leave the Neural Engine.",
        ANE_LAYERS, blocks=True,
    ),
)  # fmt: skip

RULES = _TFLITE + _ONNX + _COREML

"""Reports made up by hand, as exports and verifications give them, and what is read from pages."""

from html.parser import HTMLParser
from pathlib import Path

from mvit_deploy.html import Answer, Gallery, Picture, StageErrors, Time, Timing
from mvit_deploy.html.exhibits import PYTORCH
from mvit_deploy.report import Report

EXIT_CODES = {"match": 0, "mismatch": 1, "not_run": 3}
VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}
STAGES = ("input", "stem", "layer_1", "layer_2", "layer_3", "layer_4", "layer_5", "head")
PIXEL = "data:image/jpeg;base64,/9j/4AAQSkZJRg=="


def report(path: str = "out/net_fp32.onnx", *, verdict: str = "match", code: int | None = None, **changes) -> Report:
    """A report of a classifier. changes: artifact=, model=, verification= are merged, the rest is put at the top."""
    errors = {"rel_max": 1.2e-6, "sqnr_db": 113.9, "top1_agreement": 1.0, "mean_kl": 5e-12, "max_abs": 1e-5}
    runtime = {"name": "onnxruntime", "version": "1.23.0", "kind": "runtime"}
    content = {
        "schema_version": 1,
        "command": "mvit-export --mode xxs --target onnx",
        "created": "2026-11-28T01:38:05+00:00",
        "artifact": {
            "path": path,
            "target": "onnx",
            "format": "onnx",
            "precision": "fp32",
            "sha256": "ab" * 32,
            "size_bytes": 5_240_000,
            "inputs": [{"range": [0.0, 1.0], "color_order": "RGB"}],
            "labels": ["daisy", "rose"],
            "declared": {
                "preprocessing": {"resize": 288, "crop": [256, 256], "resampling": "bilinear", "color_order": "RGB"},
                "about": {"author": None, "license": None, "version": None},
            },
            "int8": {"weight_fraction": 0.0, "kept_float": []},
        },
        "model": {
            "mode": "xxs",
            "task": "classification",
            "ending": "logits",
            "output_stride": None,
            "variant": "paper",
            "num_classes": 2,
            "image_size": [64, 96],
            "parameters": 1_272_024,
            "macs": 32_284_160,
            "normalization": None,
            "weights": {"source": "flowers.pth", "sha256": "cd" * 32},
        },
        "verification": {
            "verdict": verdict,
            "reason": "",
            "runtime": runtime,
            "inputs": {"count": 15, "kinds": {"photo": 8}},
            "tolerance": {"rel_max_each": 1e-4, "sqnr_db_each": 80.0},
            "outputs": [{"name": "logits", **errors, "photos": errors | {"sqnr_db": 112.9}}],
            "worst_input": "cat.jpg",
        },
        "timings_s": {},
        "tools": {"python": "3.11.7", "torch": "2.13.0"},
    }
    for key, value in changes.items():
        both = isinstance(content.get(key), dict) and isinstance(value, dict)
        content[key] = content[key] | value if both else value
    return Report(Path(path), EXIT_CODES[verdict] if code is None else code, content)


def quantized(path: str = "out/net_w8a8.tflite") -> Report:
    """With a plan that keeps the worse of two layers in float."""
    blame = [
        layer("backbone.stem.0", 4_000_000, 12.0, 30.0),
        layer("head.fc", 2_000_000, 45.0, 300.0),
    ]
    points = [point([], 0, 11.5, 11.0), point(["backbone.stem.0"], 4_000_000, 31.0, 30.2)]
    plan = {
        "keep_float": ["backbone.stem.0"],
        "chosen_by": "search",
        "target_db": 27.0,
        "target_met": True,
        "frontier": points,
    }
    int8 = {"int8_macs_fraction": 0.45, "weight_fraction": 0.54, "basis": "operators of the file"}
    artifact = {"target": "tflite", "precision": "w8a8", "int8": int8}
    return report(path, artifact=artifact, quantization={"blame": blame, "plan": plan})


def layer(name: str, macs: int, sqnr_db: float, weights_db: float) -> dict[str, object]:
    parts = {"weights_db": weights_db, "input_db": 40.0, "output_db": 35.0, "caused_db": 20.0, "left_db": 25.0}
    return {"layer": name, "macs": macs, "sqnr_db": sqnr_db, **parts}


def point(kept: list[str], macs: int, predicted_db: float, measured_db: float | None) -> dict[str, object]:
    return {
        "keep_float": kept,
        "float_macs": macs,
        "float_weights": 1_000_000,
        "predicted_db": predicted_db,
        "measured_db": measured_db,
        "agreement": 0.98,
    }


LINT = {
    "findings": [
        {
            "rule": "gpu-operator",
            "consumer": "TFLite GPU delegate",
            "severity": "warning",
            "count": 2,
            "operators": {"GATHER": 2},
            "places": [{"index": 7, "operator": "GATHER", "name": "x", "what": "rank 5"}],
            "text": "The delegate does not take this operator.",
            "source": "GPU delegates for LiteRT, https://ai.google.dev/edge/litert/performance/gpu",
        }
    ],
    "operators": {"CONV_2D": 30, "GATHER": 2},
    "transposes": 4,
    "reshapes": 6,
    "data_movement_fraction": 0.25,
    "consumers": {"TFLite GPU delegate": {"taken": 30, "of": 32, "blocked_by": ["gpu-operator"]}},
}


def gallery(path: str, *, label: str = "rose", same: bool = True) -> Gallery:
    """One picture, which PyTorch calls a rose."""
    answers = (Answer(PYTORCH, ("rose 93.1%",)), Answer(path, (f"{label} 88.8%",), same=same))
    return Gallery("classification", (Picture("garden/rose.jpg", "photo", PIXEL, answers),))


def stage_errors(path: str) -> StageErrors:
    """1e-8 in the input, ten times more in each stage."""
    return StageErrors(path, tuple((stage, 10.0 ** (place - 8)) for place, stage in enumerate(STAGES)))


def timing(path: str) -> Timing:
    return Timing("A processor", 1, 5, (Time(path, 2.5, 2.25, 3.0, 25),), ("Core ML files are not timed.",))


class Page(HTMLParser):
    """A page that was read: its elements' attributes, the text of each element, sections by id.

    Raises: AssertionError for an element that is closed by another's end or not at all.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> without a beginning"
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    @property
    def text(self) -> str:
        """All that a person can read, spaces made one."""
        return " ".join(" ".join(data for tag, data in self.texts if tag not in ("style", "script")).split())

    @property
    def joined(self) -> str:
        """The text without any space, since long names may be broken anywhere."""
        return "".join("".join(data for tag, data in self.texts if tag not in ("style", "script")).split())

    @property
    def sections(self) -> list[str]:
        return [attributes["id"] for tag, attributes in self.elements if tag == "section"]

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.elements)

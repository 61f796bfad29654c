"""The arrows between the packages, read from the imports; who may import what."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import exporters
import mvit_deploy
from exporters import TARGETS

PACKAGES = {"mvit_deploy": Path(mvit_deploy.__file__).parent, "exporters": Path(exporters.__file__).parent}
# A layer may import those after it, and of its own row; what is not listed here belongs to the row of its folder.
LAYERS = [
    {"mvit_deploy.cli", "mvit_deploy.pytest_plugin"},
    {"mvit_deploy.html"},
    {"mvit_deploy.pipeline", "mvit_deploy.recheck", "mvit_deploy.bench"},
    {"mvit_deploy.account"},
    {"mvit_deploy.work", "mvit_deploy.live", "mvit_deploy.photo_labels", "mvit_deploy.claims"},
    {"mvit_deploy.subject"},
    {"mvit_deploy.quantization"},
    {"mvit_deploy.training"},
    {"mvit_deploy.inspection", "mvit_deploy.comparison"},
    {"mvit_deploy.anatomy"},
    {"mvit_deploy.certificate", "mvit_deploy.evidence"},
    {"mvit_deploy.verification", "mvit_deploy.locate", "mvit_deploy.request", "mvit_deploy.targets", "exporters"},
    {"mvit_deploy.labelling", "mvit_deploy.causes"},
    {"mvit_deploy.findings"},
    {
        "mvit_deploy.interface",
        "mvit_deploy.reference",
        "mvit_deploy.report",
        "mvit_deploy.runtimes",
        "mvit_deploy.lint",
    },
    {"mvit_deploy.golden"},
    {"mvit_deploy.adopt", "mvit_deploy.parity", "mvit_deploy.chatter", "mvit_deploy.workplace"},
    {"mvit_deploy.checkpoints"},
    {
        "mvit_deploy.nn",
        "mvit_deploy.images",
        "mvit_deploy.preprocessing",
        "mvit_deploy.decoding",
        "mvit_deploy.calibration",
    },
    {"mvit_deploy.suppression", "mvit_deploy.metadata", "mvit_deploy.image_options"},
    {"mvit_deploy.spec", "mvit_deploy.errors", "mvit_deploy.hints", "mvit_deploy.charts", "mvit_deploy.detection"},
]
# exporters write and never judge; they look at the network's forms and at the container and metadata of TFLite files.
EXPORTERS_MAY = (
    "mvit_deploy.errors",
    "mvit_deploy.spec",
    "mvit_deploy.metadata",
    "mvit_deploy.nn",
    "mvit_deploy.runtimes.tflite_file",
    "mvit_deploy.runtimes.tflite_metadata",
    "mvit_deploy.runtimes.tflite_schema",
    "exporters",
)
HEAVY = {
    "torch": ("mvit_deploy.nn", "mvit_deploy.checkpoints", "mvit_deploy.adopt", "mvit_deploy.reference", "exporters.",
              "mvit_deploy.pipeline", "mvit_deploy.work", "mvit_deploy.locate", "mvit_deploy.quantization",
              "mvit_deploy.training"),
    "onnx": ("exporters.", "mvit_deploy.lint.onnx", "mvit_deploy.anatomy.onnx",
             "mvit_deploy.runtimes.taps.onnx", "mvit_deploy.runtimes.census.onnx",
             "mvit_deploy.runtimes.suppressed.onnx"),
    "onnxruntime": ("mvit_deploy.runtimes.onnx", "mvit_deploy.runtimes.taps.onnx", "mvit_deploy.runtimes.census.onnx",
                    "mvit_deploy.runtimes.suppressed.onnx"),
    "coremltools": ("exporters.coreml", "exporters._coreml_quantized", "exporters._coreml_nms",
                    "exporters._coreml_description",
                    "mvit_deploy.runtimes.coreml", "mvit_deploy.runtimes.suppressed.coreml"),
    "onnx2tf": ("exporters.tflite",),
    "tensorflow": ("exporters.tflite",),
    "tf_keras": ("exporters.tflite",),
    "ai_edge_litert": ("mvit_deploy.lint.tflite", "mvit_deploy.anatomy.tflite",
                       "mvit_deploy.runtimes.tflite", "mvit_deploy.runtimes.taps.tflite",
                       "mvit_deploy.runtimes.census.tflite", "mvit_deploy.runtimes.suppressed.tflite",
                       "exporters._tflite_quantized"),
    "matplotlib": ("mvit_deploy.charts",),
    "jinja2": ("mvit_deploy.html",),
}  # fmt: skip


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = modules()


def imports_of(path: Path) -> set[str]:
    """Absolute names of everything a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def layer_of(name: str) -> int:
    """Row of a module: the one that names it, or its nearest package."""
    matches = [
        (len(prefix), row)
        for row, prefixes in enumerate(LAYERS)
        for prefix in prefixes
        if name == prefix or name.startswith(prefix + ".")
    ]
    return max(matches)[1] if matches else -1


@pytest.mark.parametrize("name", [n for n in MODULES if n != "mvit_deploy"])
def test_no_arrow_points_upwards(name: str) -> None:
    assert layer_of(name) >= 0, "a new module needs its place in LAYERS"

    upwards = [i for i in imports_of(MODULES[name]) if -1 < layer_of(i) < layer_of(name)]
    assert not upwards


def test_only_the_door_the_plan_and_the_command_lines_import_exporters() -> None:
    importers = {
        name for name, path in MODULES.items() if any(i.split(".")[0] == "exporters" for i in imports_of(path))
    }

    inside = {name for name in importers if name.startswith("mvit_deploy")}
    assert inside <= {"mvit_deploy.targets", "mvit_deploy.request", "mvit_deploy.cli.export", "mvit_deploy.cli.doctor"}


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith("exporters")])
def test_exporters_write_and_do_not_judge(name: str) -> None:
    ours = [i for i in imports_of(MODULES[name]) if i.split(".")[0] in PACKAGES and i != "mvit_deploy.runtimes"]

    assert all(i.startswith(EXPORTERS_MAY) for i in ours), ours


@pytest.mark.parametrize("library", HEAVY)
def test_a_heavy_library_is_imported_where_it_is_needed_and_nowhere_else(library: str) -> None:
    importers = [n for n, path in MODULES.items() if any(i.split(".")[0] == library for i in imports_of(path))]

    assert importers
    assert all(name.startswith(HEAVY[library]) for name in importers), importers


def test_every_target_is_one_module_in_exporters_and_one_in_runtimes() -> None:
    listed = {path.stem for path in PACKAGES["exporters"].glob("*.py") if not path.stem.startswith("_")}

    assert listed == set(TARGETS)
    assert all(f"mvit_deploy.runtimes.{target}" in MODULES for target in TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_every_exporter_has_the_same_verbs(target: str) -> None:
    tree = ast.parse(MODULES[f"exporters.{target}"].read_text(encoding="utf-8"))
    functions = {node.name: [a.arg for a in node.args.args] for node in tree.body if isinstance(node, ast.FunctionDef)}

    assert functions["lower"] == ["module", "contract", "settings"]
    assert functions["write"] == ["lowered", "precision", "path"]


@pytest.mark.parametrize("target", TARGETS)
def test_every_runtime_has_the_same_verb(target: str) -> None:
    tree = ast.parse(MODULES[f"mvit_deploy.runtimes.{target}"].read_text(encoding="utf-8"))
    functions = {node.name: [a.arg for a in node.args.args] for node in tree.body if isinstance(node, ast.FunctionDef)}

    assert functions["open_file"] == ["path"]


@pytest.mark.skipif("MVIT_WHEEL" not in os.environ, reason="this run is not against the built wheel")
def test_the_wheel_holds_both_packages_and_the_photos() -> None:
    site = Path(os.environ["MVIT_WHEEL"])

    assert all(folder.is_relative_to(site) for folder in PACKAGES.values())
    assert len(list((PACKAGES["mvit_deploy"] / "photos").glob("*.jpg"))) >= 8
    assert {"LICENSE", "NOTICE"} <= {path.name for path in site.rglob("*.dist-info/licenses/*")}


@pytest.mark.parametrize("command", ["export", "verify", "bench", "inspect", "diff"])
def test_help_loads_no_heavy_library(command: str) -> None:
    code = (
        f"import sys; from mvit_deploy.cli.{command} import main; assert main(['--help']) == 0;"
        f"print([m for m in {sorted(HEAVY)!r} + ['numpy'] if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("runtime", "allowed"), [("onnx", {"onnxruntime"}), ("tflite", {"ai_edge_litert"}), ("coreml", set())]
)
def test_a_runtime_loads_light_libraries_only(runtime: str, allowed: set[str]) -> None:
    """Whoever judges a shipped file needs neither PyTorch nor a converter; of coremltools only the protobuf classes."""
    code = (
        f"import sys, mvit_deploy.runtimes.{runtime};"
        f"print([m for m in {sorted(HEAVY)!r} if m in sys.modules and m not in {allowed!r}])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.splitlines()[-1] == "[]"

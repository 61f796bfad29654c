"""The two containers of Core ML: .mlmodel, a protobuf; .mlpackage, a folder with a manifest, a protobuf, weights."""

import json
from pathlib import Path

from google.protobuf.message import DecodeError

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml import proto

pb = proto.model_pb2()
NETWORKS = ("mlProgram", "neuralNetwork", "neuralNetworkClassifier")
PIPELINE = ("nonMaximumSuppression",)  # the kinds of models that follow a network in a pipeline


def specification_path(path: Path) -> Path:
    """Where a Core ML file keeps its protobuf: the file itself for .mlmodel, the manifest's root for .mlpackage.

    Raises: DamagedFileError when the manifest is missing, is not one, or points outside the package.
    """
    if path.suffix == ".mlmodel":
        return path
    try:
        manifest = json.loads((path / "Manifest.json").read_text(encoding="utf-8"))
        item = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
        inside = (path / "Data" / item["path"]).resolve()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFileError(f"{path.name}: its Manifest.json is missing or damaged ({error!r})") from error
    if not inside.is_relative_to(path.resolve()):
        raise DamagedFileError(f"{path.name}: its manifest points outside the package")
    return inside


def weights_folder(path: Path) -> Path:
    """The folder that a program calls @model_path. Raises: DamagedFileError as specification_path."""
    return specification_path(path).parent


def read_model(path: Path) -> "pb.Model":
    """The protobuf of a Core ML file of any kind. Raises: DamagedFileError when it is missing or holds no model."""
    source = specification_path(path)
    try:
        spec = pb.Model.FromString(source.read_bytes())
    except (OSError, DecodeError) as error:
        raise DamagedFileError(f"{path.name}: cannot read its specification: {error}") from error
    if spec.WhichOneof("Type") is None:
        raise DamagedFileError(f"{path.name}: holds neither an ML Program nor a neural network")
    return spec


def read_specification(path: Path) -> "pb.Model":
    """The protobuf of a Core ML file that can be run. Raises: DamagedFileError when it is missing, no network, or not
    one followed by what sorts its boxes out."""
    spec = read_model(path)
    is_pipeline = spec.WhichOneof("Type") == "pipeline"
    kinds = tuple(model.WhichOneof("Type") for model in (spec.pipeline.models if is_pipeline else [spec]))
    if not kinds or kinds[0] not in NETWORKS or kinds[1:] != (PIPELINE if is_pipeline else ()):
        raise DamagedFileError(f"{path.name}: holds neither an ML Program nor a neural network")
    return spec


def network_of(spec: "pb.Model") -> "pb.Model":
    """The network itself: of a pipeline its first model."""
    return spec.pipeline.models[0] if spec.WhichOneof("Type") == "pipeline" else spec

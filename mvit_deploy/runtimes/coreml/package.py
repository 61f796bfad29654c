"""The folder form of a Core ML file, .mlpackage: a manifest, the specification, the weights."""

import json
from pathlib import Path

from mvit_deploy.errors import DamagedFileError


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
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(f"{path.name}: its Manifest.json is missing or damaged ({error!r})") from error
    if not inside.is_relative_to(path.resolve()):
        raise DamagedFileError(f"{path.name}: its manifest points outside the package")
    return inside

"""What a shipped file says of itself, from the file and the report beside it alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from mvit_deploy import anatomy, metadata, report, runtimes
from mvit_deploy.anatomy import Anatomy, Share
from mvit_deploy.errors import DamagedFileError, UsageError
from mvit_deploy.runtimes.census import Census, census
from mvit_deploy.spec import QUANTIZED, Interface

_NUMBERS_ONLY = ("int8_macs_fraction", "weight_fraction", "macs", "conversions", "basis")


@dataclass(frozen=True)
class Beside:
    """The report beside a file. fits: whether it describes this very file. certified: whether it is a certificate that
    mvit-verify can check again. problem: why it cannot be read, or ""."""

    path: Path
    fits: bool
    verdict: str | None = None
    reason: str = ""
    judged_by: str = ""
    created: str | None = None
    certified: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Inspection:
    """A file as it presents itself.

    interface: None for a file without this project's metadata. census: of files with integer weights; None with
    uncounted as the reason where it cannot be taken here. beside: None where no report lies beside the file.
    """

    path: Path
    target: str
    sha256: str
    size_bytes: int
    anatomy: Anatomy
    interface: Interface | None
    census: Census | None
    uncounted: str
    beside: Beside | None

    @property
    def format(self) -> str:
        return self.path.suffix.removeprefix(".")

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Of this project's metadata, else those that the platform reads."""
        return self.anatomy.labels if self.interface is None else self.interface.labels

    @property
    def inputs(self) -> list[dict[str, object]]:
        """Name, shape, dtype, layout, range, color_order, scale, zero_point, text; None is not said."""
        return self._described(self.interface and self.interface.inputs, self.anatomy.inputs, _INPUT)

    @property
    def outputs(self) -> list[dict[str, object]]:
        """Name, shape, dtype, meaning, layout, scale, zero_point, text; None is not said."""
        return self._described(self.interface and self.interface.outputs, self.anatomy.outputs, _OUTPUT)

    def _described(self, ours: object, features: tuple, keys: tuple[str, ...]) -> list[dict[str, object]]:
        """As this project's metadata have it, inputs of the platform's own left out; else as the format has it."""
        if ours is None:
            return [{key: getattr(feature, key, None) for key in keys} for feature in features]
        texts = {feature.name: feature.text for feature in features}
        return [{**{key: asdict(each).get(key) for key in keys}, "text": texts.get(each.name, "")} for each in ours]

    @cached_property
    def weights(self) -> Mapping[str, Share] | None:
        """By the type that they are stored in; None where they are not counted."""
        return None if self.anatomy.weights is None else anatomy.by_type(self.anatomy.weights)

    @property
    def parameters(self) -> int | None:
        return None if self.weights is None else sum(share.elements for share in self.weights.values())

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the picture that it takes; None where it does not say that it takes one of fixed size."""
        if self.interface is None or len(self.interface.inputs) != 1:
            return None
        image = self.interface.inputs[0]
        sides = tuple(image.shape[2:] if image.layout == "NCHW" else image.shape[1:3])
        return sides if len(image.shape) == 4 and min(sides) > 0 else None

    def to_json(self) -> dict[str, object]:
        found, declared = self.anatomy, None if self.interface is None else self.interface.declared
        said = metadata.facts(declared) if declared is not None else None
        return {
            "path": str(self.path),
            "target": self.target,
            "format": self.format,
            "specification": dict(found.specification),
            "min_ios": found.min_ios,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "precision": declared and declared.precision,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "declared": said,
            "labels": self.labels,
            "suppression": asdict(declared.suppression) if declared and declared.suppression else None,
            "parameters": self.parameters,
            "weights": self.weights and {name: asdict(share) for name, share in self.weights.items()},
            "weights_not_counted": found.unknown or None,
            "external_data": list(found.external),
            "operators": dict(found.operators),
            "operator_versions": {type_: list(versions) for type_, versions in found.operator_versions.items()},
            "int8": self._int8(),
            "native": dict(found.native),
            "other_metadata": self.other_entries,
            "report": None if self.beside is None else asdict(self.beside) | {"path": str(self.beside.path)},
        }

    @property
    def other_entries(self) -> dict[str, str]:
        """Metadata that are neither this project's nor of the preview, which native has."""
        known = (metadata.PREFIX, anatomy.PREVIEW)
        return {key: value for key, value in self.anatomy.entries.items() if not key.startswith(known)}

    def _int8(self) -> dict[str, object] | None:
        if self.census is None:
            return {"not_counted": self.uncounted} if self.uncounted else None
        counted = self.census.to_json()
        return {key: counted[key] for key in (*_NUMBERS_ONLY, "kept_float")}


_INPUT = ("name", "shape", "dtype", "layout", "range", "color_order", "scale", "zero_point", "text")
_OUTPUT = ("name", "shape", "dtype", "meaning", "layout", "scale", "zero_point", "text")


def check(paths: list[Path]) -> None:
    """Raises: UsageError for a file that is of no known target or not there."""
    for path in paths:
        runtimes.target_of(path)
        if not path.exists():
            raise UsageError(f"there is no file {path}")


def inspect(path: Path) -> Inspection:
    """Read a file and the report beside it.

    Raises: UsageError as check(); MissingLibraryError; DamagedFileError for a file that cannot be read, or whose
    metadata of this project contradict it.
    """
    check([path])
    found = anatomy.dissect(path)
    is_ours = any(key.startswith(metadata.PREFIX) for key in found.entries)
    interface = runtimes.open_file(path).interface if is_ours else None
    counted, uncounted = _census(path, found, interface)
    digest = report.sha256_of(path)
    return Inspection(
        path=path,
        target=runtimes.target_of(path),
        sha256=digest,
        size_bytes=report.size_of(path),
        anatomy=found,
        interface=interface,
        census=counted,
        uncounted=uncounted,
        beside=_beside(path, digest),
    )


def _census(path: Path, found: Anatomy, interface: Interface | None) -> tuple[Census | None, str]:
    """Of a file with integers in it, and why there is none: a foreign file may hold what nobody here can run."""
    is_quantized = any(weight.is_integer and weight.bits <= 8 for weight in found.weights or ())
    if not is_quantized and (interface is None or interface.precision not in QUANTIZED):
        return None, ""
    try:
        return census(path), ""
    except (runtimes.CannotRunHere, DamagedFileError) as error:
        return None, str(error)


def _beside(path: Path, digest: str) -> Beside | None:
    place = report.report_path(path)
    if not place.exists():
        return None
    try:
        content = report.read(place)
    except UsageError as error:
        return Beside(place, fits=False, problem=str(error))
    runtime = report.look_up(content, "verification", "runtime")
    said = ("name",) if report.look_up(runtime, "kind") == "evaluator" else ("name", "version")
    words = [str(report.look_up(runtime, key) or "") for key in said]
    return Beside(
        path=place,
        fits=report.look_up(content, "artifact", "sha256") == digest,
        verdict=_text(report.look_up(content, "verification", "verdict")),
        reason=_text(report.look_up(content, "verification", "reason")) or "",
        judged_by=" ".join(filter(None, words)),
        created=_text(content.get("created")),
        certified=isinstance(content.get("certificate"), dict),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)

"""A shipped file that is judged again: what it, the report beside it and a person say that it is held to."""

from dataclasses import dataclass, field
from pathlib import Path

from mvit_deploy import certificate, report, runtimes
from mvit_deploy.certificate import Certificate
from mvit_deploy.errors import UsageError
from mvit_deploy.images import ImageSet
from mvit_deploy.spec import Interface
from mvit_deploy.verification import Verification

REPORT_SUFFIX = ".report.json"


@dataclass(frozen=True)
class Options:
    """What mvit-verify and mvit_deploy.verify take, by the same names. None is "as the report says"."""

    weights: str | None = None
    mode: str | None = None
    precision: str | None = None
    verify_images: Path | None = None
    seed: int | None = None
    locate: bool = False
    allow_unverified: bool = False
    command: str = "mvit_deploy.verify"
    live: bool = False
    lint: str = "warn"
    images: Path | None = None
    labels: Path | tuple[str, ...] | None = None
    normalize: str | None = None
    resize: str | int | tuple[int, int] | None = None
    resampling: str | None = None

    @property
    def needs_pytorch(self) -> bool:
        """Whether anything is asked for that only PyTorch's own outputs, made here and now, can answer."""
        named = (self.weights, self.mode, self.verify_images, self.seed, self.images, self.normalize)
        return self.live or self.locate or any(value is not None for value in named)


@dataclass(frozen=True)
class Subject:
    """A file, the report beside it, empty where there is none, and what a person says instead of the report."""

    path: Path
    said: dict[str, object]
    options: Options
    certificate: Certificate | None = None

    def says(self, *keys: str) -> object:
        """A value of the report, None where it has none."""
        return report.look_up(self.said, *keys)

    @property
    def seed(self) -> int:
        """Of the verification inputs."""
        given = self.options.seed
        return (given if given is not None else self.says("verification", "inputs", "seed")) or 0

    @property
    def verify_images(self) -> Path | None:
        """A folder that is gone is left out."""
        return self.options.verify_images or self._folder("folder")

    @property
    def calibration(self) -> Path | None:
        """A folder that is gone is left out."""
        return self._folder("calibration")

    def _folder(self, key: str) -> Path | None:
        said = self.says("verification", "inputs", key)
        return Path(str(said)) if said and Path(str(said)).is_dir() else None


def read_subject(path: Path, options: Options) -> Subject:
    """The file that a path names, itself or by its report.

    Raises: UsageError when neither is there, the suffix is unknown, or the report is not one of ours.
    """
    named_by_report = path.name.endswith(REPORT_SUFFIX)
    file = path.with_name(path.name.removesuffix(REPORT_SUFFIX)) if named_by_report else path
    beside = report.report_path(file)
    runtimes.target_of(file)
    if named_by_report and not beside.exists():
        raise UsageError(f"there is no report {path}")
    if not named_by_report and not file.exists():
        raise UsageError(f"there is no file {path}")
    said = report.read(beside) if beside.exists() else {}
    return Subject(file, said, options, certificate.read(said))


@dataclass(frozen=True)
class Judged:
    """What came of running a file against a reference: golden outputs, or weights in live PyTorch; None for neither.

    inputs: the images, None where there were none; origin: how a report says where they are from. problem: what is
    wrong with the reference itself, so that the numbers cannot make a match. model: what a report says of it.
    """

    found: Verification
    reference: str | None = None
    inputs: ImageSet | None = None
    origin: dict[str, object] = field(default_factory=dict)
    problem: str = ""
    model: object = None


def size_of(subject: Subject, interface: Interface) -> tuple[int, int]:
    """Height and width, as the report has them or else as the file takes them."""
    image, said = interface.inputs[0], subject.says("model", "image_size")
    return tuple(said) if said else (image.shape[2:] if image.layout == "NCHW" else image.shape[1:3])

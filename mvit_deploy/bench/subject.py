"""The files of a benchmark: what each says of itself, and what the report beside it says of its numbers."""

from dataclasses import dataclass
from pathlib import Path

from mvit_deploy import report, runtimes
from mvit_deploy.errors import DamagedFileError, UsageError
from mvit_deploy.runtimes import Runner

NO_SQNR = "the SQNR is left out: "


@dataclass(frozen=True)
class Subject:
    """A file that can be timed here. sqnr_db: on photos, as its report has it; None with a remark that says why.

    precision: as its report or else the file itself says, None where neither does.
    """

    path: Path
    target: str
    sha256: str
    size_bytes: int
    runner: Runner
    precision: str | None
    sqnr_db: float | None
    remark: str

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that it takes."""
        declared = self.runner.interface.inputs[0]
        return tuple(declared.shape[2:] if declared.layout == "NCHW" else declared.shape[1:3])


def check(paths: list[Path]) -> None:
    """Raises: UsageError for a file that is not there, of no known target, or that cannot be timed off a device."""
    for path in paths:
        if runtimes.target_of(path) == "coreml":
            raise UsageError(
                f"{path}: timing a Core ML file needs an Apple device; Xcode's performance report has its latency, "
                "mvit-bench takes .onnx and .tflite"
            )
        if not path.is_file():
            raise UsageError(f"there is no file {path}")


def open_subject(path: Path) -> Subject | DamagedFileError:
    """A file with its report, or what is wrong with the file. Raises: MissingLibraryError."""
    try:
        runner = runtimes.open_file(path)
    except DamagedFileError as error:
        return error
    digest = report.sha256_of(path)
    content, remark = _report_of(path, digest)
    sqnr_db = report.look_up(content, "verification", "photos", "sqnr_db")
    if content and sqnr_db is None:
        remark = NO_SQNR + "its report has none on photos"
    precision = report.look_up(content, "artifact", "precision") or runner.interface.precision
    target, size = runtimes.target_of(path), report.size_of(path)
    return Subject(path, target, digest, size, runner, precision, sqnr_db, remark)


def _report_of(path: Path, digest: str) -> tuple[dict[str, object], str]:
    """The report beside a file, empty with a remark where there is none that describes this very file."""
    beside = report.report_path(path)
    if not beside.exists():
        return {}, NO_SQNR + "no report lies beside the file"
    try:
        content = report.read(beside)
    except UsageError as error:
        return {}, f"{NO_SQNR}{error}"
    if report.look_up(content, "artifact", "sha256") != digest:
        return {}, NO_SQNR + "the report beside it describes another file, its sha256 differs"
    return content, ""

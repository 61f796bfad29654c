"""Reports, schema 1: what stands beside each file, and the digests in it."""

import hashlib
import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mvit_deploy.errors import UsageError
from mvit_deploy.parity import MATCH, MISMATCH, NOT_RUN

SCHEMA_VERSION = 1
PARTS = ("artifact", "model", "verification")  # None where a judgement had none
TOOLS = (
    "mvit-deploy",
    "torch",
    "numpy",
    "pillow",
    "onnx",
    "onnxruntime",
    "coremltools",
    "onnx2tf",
    "tensorflow",
    "ai-edge-litert",
)
# A usage error outranks a missing library, and so on: the order in which exit codes win.
EXIT_PRIORITY = (2, 4, 5, 6, 1, 3)


@dataclass(frozen=True)
class Report:
    """The result for one file. content is the JSON of schema 1; exit_code the file's own, as the command line's."""

    path: Path
    exit_code: int
    content: dict[str, object]

    @property
    def verdict(self) -> str:
        return self.content["verification"]["verdict"]

    @property
    def reason(self) -> str:
        return self.content["verification"]["reason"]

    def to_json(self) -> dict[str, object]:
        return self.content


def exit_code_of(verdict: str, *, allow_unverified: bool) -> int:
    """0 for a match, 1 for a mismatch, 3 for not run, or 0 where that is allowed."""
    return {MATCH: 0, MISMATCH: 1, NOT_RUN: 0 if allow_unverified else 3}[verdict]


def overall_exit_code(codes: Iterable[int]) -> int:
    """The code of a run with several files: the one of highest priority, 0 when every file is well.

    A code without a priority, as 130, wins over all that have one.
    """
    failures = set(codes) - {0}
    unknown = failures.difference(EXIT_PRIORITY)
    return max(unknown) if unknown else min(failures, key=EXIT_PRIORITY.index, default=0)


def sha256_of(path: Path) -> str:
    """Digest of a file, or of a folder: over each file in the order of its POSIX path: path, NUL, 8-byte big-endian
    length, bytes. Raises: FileNotFoundError."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for name, file in _files_below(path):
        content = file.read_bytes()
        digest.update(name.encode() + b"\0" + len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder. Raises: FileNotFoundError."""
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for _, file in _files_below(path))


def _files_below(folder: Path) -> list[tuple[str, Path]]:
    folder.stat()  # raises where there is nothing; rglob would find no files and say no word
    return sorted((file.relative_to(folder).as_posix(), file) for file in folder.rglob("*") if file.is_file())


def read(path: Path) -> dict[str, object]:
    """A report from its file. Raises: UsageError when it cannot be read or is none of schema 1."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read the report {path}: {error}") from error
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(f"{path} is no report of schema {SCHEMA_VERSION}")
    wrong = [key for key in PARTS if not isinstance(content.get(key), dict | None)]
    if wrong:
        raise UsageError(f"{path} is no report of schema {SCHEMA_VERSION}: its {wrong[0]} is no object")
    return content


def look_up(content: object, *keys: str) -> object:
    """A value deep in a report, None where it has none."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def report_path(path: Path) -> Path:
    return path.with_name(path.name + ".report.json")


def failed_path(path: Path) -> Path:
    return path.with_name(path.name + ".failed.json")


def tool_versions() -> dict[str, str]:
    """Versions of the libraries that shape or judge a file, those that are installed."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def content(
    *,
    command: str,
    artifact: dict[str, object],
    model: object,
    verification: dict[str, object],
    timings_s: dict[str, float],
) -> dict[str, object]:
    """A whole report of schema 1, made now, with the versions of what made it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "artifact": artifact,
        "model": model,
        "verification": verification,
        "timings_s": timings_s,
        "tools": tool_versions(),
    }


def dump(content: object) -> str:
    """JSON as it is written and printed: no NaN, no infinity, readable."""
    return _encodable(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def _encodable(text: str) -> str:
    """Text without lone surrogates, in which Python holds a path that is not UTF-8: as JSON's escape \\udcff."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

"""What was measured of a file, and its JSON."""

from dataclasses import asdict, dataclass
from pathlib import Path

from mvit_deploy import report
from mvit_deploy.bench.accuracy import Accuracy
from mvit_deploy.bench.machine import processor_name, processors, threads_in_words
from mvit_deploy.bench.process import Cost
from mvit_deploy.bench.rounds import Spread, spread
from mvit_deploy.bench.subject import Subject
from mvit_deploy.errors import DamagedFileError

SCHEMA_VERSION = 1
WIDE_SPREAD = 0.2


@dataclass(frozen=True)
class Latency:
    """Of one input, with so many threads. ratio: round by round to the first file of all."""

    threads: int
    ms: Spread
    ratio: Spread


@dataclass(frozen=True)
class Measured:
    """The numbers of one file; accuracy is None where it was not asked for."""

    subject: Subject
    costs: tuple[Cost, ...]
    latencies: tuple[Latency, ...]
    accuracy: Accuracy | None

    @property
    def load_ms(self) -> Spread:
        """Opening the file, in a fresh process, with the file in the system's cache."""
        return spread([cost.load_ms for cost in self.costs])

    @property
    def first_run_ms(self) -> Spread:
        """The run after that, in which runtimes put off what they can: LiteRT packs its weights there."""
        return spread([cost.first_run_ms for cost in self.costs])

    @property
    def peak_bytes(self) -> Spread:
        """Memory beyond what the runtime's library takes, through opening and the first run."""
        return spread([cost.peak_bytes for cost in self.costs])

    @property
    def top1(self) -> float | None:
        return None if self.accuracy is None else self.accuracy.top1

    @property
    def remarks(self) -> list[str]:
        """Why a number is missing or not to be relied on."""
        lines = [self.subject.remark, "" if self.accuracy is None else self.accuracy.remark]
        wide = [latency for latency in self.latencies if latency.ms.relative > WIDE_SPREAD]
        lines += [
            f"times with {threads_in_words(w.threads)} spread widely; is there other work on this machine?"
            for w in wide
        ]
        return [line for line in lines if line]


@dataclass(frozen=True)
class Result:
    """One file of a benchmark: its numbers, or why there are none."""

    path: Path
    measured: Measured | None
    error: str = ""

    @property
    def exit_code(self) -> int:
        return DamagedFileError.exit_code if self.error else 0

    def to_json(self, command: str) -> dict[str, object]:
        """An entry of what mvit-bench prints: every key in every entry, None where there is no number."""
        found = self.measured
        return {
            "schema_version": SCHEMA_VERSION,
            "command": command,
            "path": str(self.path),
            "error": self.error or None,
            **_file_facts(found),
            **_numbers(found),
            "remarks": [] if found is None else found.remarks,
            "machine": {"processor": processor_name(), "processors": processors()},
            "tools": report.tool_versions(),
        }


def short_names(paths: list[Path]) -> list[str]:
    """File names, and whole paths for files of the same name."""
    found = [path.name for path in paths]
    return [name if found.count(name) == 1 else str(path) for name, path in zip(found, paths, strict=True)]


def _file_facts(found: Measured | None) -> dict[str, object]:
    if found is None:
        return dict.fromkeys(("target", "precision", "sha256", "size_bytes", "input", "runtime"))
    subject = found.subject
    runner = subject.runner
    return {
        "target": subject.target,
        "precision": subject.precision,
        "sha256": subject.sha256,
        "size_bytes": subject.size_bytes,
        "input": asdict(runner.interface.inputs[0]),
        "runtime": {"name": runner.name, "version": runner.version, "kind": runner.kind},
    }


def _numbers(found: Measured | None) -> dict[str, object]:
    if found is None:
        return dict.fromkeys(("latency", "load", "first_run", "peak_memory", "sqnr_db", "accuracy"))
    judged = (
        None if found.top1 is None else {"top1": found.top1, "right": found.accuracy.right, "n": found.accuracy.count}
    )
    return {
        "latency": [
            {"threads": each.threads, **each.ms.to_json("_ms"), "ratio": each.ratio.to_json()}
            for each in found.latencies
        ],
        "load": found.load_ms.to_json("_ms"),
        "first_run": found.first_run_ms.to_json("_ms"),
        "peak_memory": found.peak_bytes.to_json("_bytes"),
        "sqnr_db": found.subject.sqnr_db,
        "accuracy": judged,
    }

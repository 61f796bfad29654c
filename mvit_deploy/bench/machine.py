"""The machine that the times belong to."""

import os
import platform
from pathlib import Path

from mvit_deploy.errors import UsageError

CPUINFO = Path("/proc/cpuinfo")


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """The processor's name as its maker gives it, where the system tells, or else its architecture."""
    lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines() if CPUINFO.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def threads_in_words(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def read_threads(words: str) -> tuple[int, ...]:
    """Numbers of threads from words as `1,all`, each once. Raises: UsageError."""
    most = processors()
    found = [str(most) if word.strip() == "all" else word.strip() for word in words.split(",")]
    for word in found:
        if not (word.isascii() and word.isdigit() and 1 <= int(word) <= most):
            raise UsageError(
                f"--threads {words}: {word!r} is neither `all` nor a number up to {most}, all there are here"
            )
    return tuple(dict.fromkeys(int(word) for word in found))

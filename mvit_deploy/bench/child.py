"""One file in a process of its own, as in an app: python -m mvit_deploy.bench.child FILE THREADS.

Prints lines of JSON: first what opening the file cost, or {"error"}; then, for every line N that comes in, the times in
milliseconds of N runs. Ends when its input ends.
"""

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import numpy as np

from mvit_deploy import runtimes
from mvit_deploy.runtimes.tensors import prepare
from mvit_deploy.spec import InputSpec

QUIET_WINDOW_S = 0.02  # the kernel accounts for a running thread every few ms
QUIET_SHARE = 0.05
MOST_WINDOWS = 25


def main() -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this process ends it
    answers = _answers()
    try:
        run, cost = _open(Path(sys.argv[1]), int(sys.argv[2]))
    except Exception as error:  # noqa: BLE001  whatever a runtime raises is why the file cannot be timed
        _answer(answers, {"error": str(error)})
        return
    _answer(answers, cost)
    for line in sys.stdin:
        _answer(answers, _visit(run, int(line)))


def _answers() -> TextIO:
    """Standard output for the answers alone: what a library prints there goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _answer(answers: TextIO, content: object) -> None:
    print(json.dumps(content), file=answers, flush=True)


def _open(path: Path, threads: int) -> tuple[Callable[[], object], dict[str, float]]:
    """A run of the file on one input, and what opening it and running it for the first time cost."""
    module = runtimes.module_for(path, "mvit_deploy.runtimes", doing="timing")
    gc.disable()  # a collection in a timed run is not the file's
    before = peak_bytes()
    start = time.perf_counter()
    runner = module.open_file(path, threads=threads)
    load_s = time.perf_counter() - start
    tensor = _tensor(runner.interface.inputs[0])

    def run() -> object:
        return runner.invoke(tensor)

    first_run_ms = _timed_ms(run)
    return run, {"load_ms": load_s * 1e3, "first_run_ms": first_run_ms, "peak_bytes": peak_bytes() - before}


def _tensor(declared: InputSpec) -> np.ndarray:
    """Noise, one image where the batch is free, as the file wants it."""
    count, *sides = declared.shape
    height, width = sides[1:] if declared.layout == "NCHW" else sides[:2]
    pixels = np.random.default_rng(0).integers(0, 256, (max(1, count), height, width, 3), dtype=np.uint8)
    return prepare(pixels, declared)


def _visit(run: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of count runs after one that is not counted, which finds caches as other files have left them."""
    run()
    times = [_timed_ms(run) for _ in range(count)]
    _wait_until_quiet()
    return times


def _timed_ms(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def _wait_until_quiet() -> None:
    """Wait for threads that spin for more work, ONNX Runtime's for 40 ms after a run: the next file needs the cores."""
    for _ in range(MOST_WINDOWS):
        start = time.process_time()
        time.sleep(QUIET_WINDOW_S)
        if time.process_time() - start < QUIET_SHARE * QUIET_WINDOW_S:
            return


def peak_bytes() -> int:
    """The most memory that this process has had resident.

    Linux hands the peak of the parent down to getrusage of a child, so there the process's own record is read.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()

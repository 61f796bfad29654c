"""The order of a benchmark: fresh starts, accuracy, then latency in interleaved rounds."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mvit_deploy import chatter
from mvit_deploy.bench import accuracy
from mvit_deploy.bench.machine import threads_in_words
from mvit_deploy.bench.process import Child, Cost
from mvit_deploy.bench.results import Latency, Measured, Result
from mvit_deploy.bench.rounds import orders, paired_ratios, spread
from mvit_deploy.bench.subject import Subject, check, open_subject
from mvit_deploy.errors import DamagedFileError

STARTS = 3  # fresh processes a file
MOST_RUNS = 5  # of a file in its turn
TURN_MS = 200.0  # what a slow file's turn may take, which is one run at least


@dataclass(frozen=True)
class Options:
    """What mvit-bench takes. threads: how many a file computes with, a set of rounds for each."""

    rounds: int
    warm_up: int
    threads: tuple[int, ...]
    images: Path | None = None


class Progress(Protocol):
    """Who is told of each step, and of what goes on within one."""

    def __call__(self, step: str) -> None: ...

    def update(self, detail: str) -> None: ...


def run(paths: list[Path], options: Options, progress: Progress) -> list[Result]:
    """Measure files side by side. A damaged one is told of in its result, and the others are measured.

    Raises: UsageError and MissingLibraryError, before anything is timed; UsageError for a photo that cannot be read.
    """
    check(paths)
    photos = None if options.images is None else accuracy.find_photos(options.images)
    progress("opening the files")
    with chatter.into_log("bench"):
        opened = [open_subject(path) for path in paths]
    progress(f"starting each {STARTS} times in a process of its own")
    started = [_start(each, options.threads[0], progress) for each in opened]
    sound = [(subject, costs) for subject, costs in zip(opened, started, strict=True) if isinstance(costs, tuple)]
    subjects = [subject for subject, _ in sound]
    accuracies = _accuracies(subjects, photos, progress)
    timed = [latencies(subjects, threads, options, progress) for threads in options.threads if subjects]
    measured = iter(
        Measured(subject, costs, tuple(each[place] for each in timed), accuracies[place])
        for place, (subject, costs) in enumerate(sound)
    )
    return [
        Result(path, next(measured)) if isinstance(costs, tuple) else Result(path, None, str(costs))
        for path, costs in zip(paths, started, strict=True)
    ]


def _start(
    subject: Subject | DamagedFileError, threads: int, progress: Progress
) -> tuple[Cost, ...] | DamagedFileError:
    """What fresh starts of a file cost, or what is wrong with it."""
    if isinstance(subject, DamagedFileError):
        return subject
    progress.update(f"starting {subject.path.name}")
    try:
        return tuple(_cost(subject.path, threads) for _ in range(STARTS))
    except DamagedFileError as error:
        return error


def _cost(path: Path, threads: int) -> Cost:
    with Child(path, threads) as child:
        return child.cost


def _accuracies(
    subjects: list[Subject], photos: dict[Path, str] | None, progress: Progress
) -> list[accuracy.Accuracy | None]:
    if photos is None:
        return [None] * len(subjects)
    progress(f"running the photos, {len(photos)}")
    with chatter.into_log("bench"):
        return accuracy.measure(subjects, photos, progress.update)


def latencies(subjects: list[Subject], threads: int, options: Options, progress: Progress) -> list[Latency]:
    """Time files in turns, each in a process of its own that stays open; in the order of the files.

    Raises: DamagedFileError when one dies.
    """
    progress(f"timing with {threads_in_words(threads)}, rounds: {options.rounds}")
    with ExitStack() as stack:
        children = [stack.enter_context(Child(subject.path, threads)) for subject in subjects]
        counts = [_count(child.times_ms(options.warm_up)) for child in children]
        times: list[list[list[float]]] = [[] for _ in children]
        for number, order in enumerate(orders(len(children), options.rounds), 1):
            progress.update(f"{threads_in_words(threads)}: round {number} of {options.rounds}")
            for place in order:
                times[place].append(children[place].times_ms(counts[place]))
    return [_latency(threads, own, times[0]) for own in times]


def _count(warm_up_ms: list[float]) -> int:
    """How many runs a file's turn has; fixed beforehand, since stopping a turn by the clock would favour fast runs."""
    return max(1, min(MOST_RUNS, int(TURN_MS / np.median(warm_up_ms))))


def _latency(threads: int, times: list[list[float]], base: list[list[float]]) -> Latency:
    flat = [value for turn in times for value in turn]
    return Latency(threads, spread(flat), spread(paired_ratios(times, base)))

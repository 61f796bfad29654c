"""A short measurement of latency for a page; mvit-bench is the one with care."""

from collections.abc import Sequence

from mvit_deploy import chatter
from mvit_deploy.bench import measuring
from mvit_deploy.bench.machine import processor_name, processors
from mvit_deploy.bench.results import WIDE_SPREAD, Latency
from mvit_deploy.bench.subject import Subject, open_subject
from mvit_deploy.errors import DamagedFileError, MissingLibraryError
from mvit_deploy.html.exhibits import Time, Timing
from mvit_deploy.html.subjects import JudgedFile
from mvit_deploy.html.words import listed
from mvit_deploy.runtimes import target_of

ROUNDS, WARM_UP, THREADS = 5, 2, 1


class Silent:
    """Progress that nobody looks at."""

    def __call__(self, step: str) -> None:
        """Nobody is told."""

    def update(self, detail: str) -> None:
        """Nobody is told."""


def timing(judged: Sequence[JudgedFile], progress: measuring.Progress) -> Timing | None:
    """Of the files that are there and can be timed off a device; None where there is none."""
    there = [each for each in judged if each.is_there]
    timed = [each for each in there if target_of(each.path) != "coreml"]
    remarks = ["Core ML files are not timed: that needs an Apple device."] if len(timed) < len(there) else []
    opened: list[tuple[str, Subject]] = []
    for each in timed:
        try:
            with chatter.into_log("html-timing"):
                subject = open_subject(each.path)
        except MissingLibraryError as error:
            subject = error
        if isinstance(subject, Exception):
            remarks.append(f"{each.path.name} is not timed: {subject}")
        else:
            opened.append((each.key, subject))
    times: tuple[Time, ...] = ()
    if opened:
        options = measuring.Options(ROUNDS, WARM_UP, (THREADS,))
        try:
            found = measuring.latencies([subject for _, subject in opened], THREADS, options, progress)
            pairs = zip(opened, found, strict=True)
            times = tuple(Time(key, own.ms.median, own.ms.p25, own.ms.p75, own.ms.n) for (key, _), own in pairs)
            remarks += _spread_widely(found)
        except DamagedFileError as error:
            remarks.append(f"{listed([s.path.name for _, s in opened])}: not timed: {error}")
    if not times and not remarks:
        return None
    machine = f"{processor_name()}, {processors()} processors"
    return Timing(machine, THREADS, ROUNDS, times, tuple(dict.fromkeys(remarks)))


def _spread_widely(found: Sequence[Latency]) -> list[str]:
    wide = any(each.ms.relative > WIDE_SPREAD for each in found)
    return ["The times spread widely: there may have been other work on this machine."] if wide else []

"""What files are worth against what they cost, drawn."""

from pathlib import Path

from mvit_deploy import charts
from mvit_deploy.bench.machine import processor_name, threads_in_words
from mvit_deploy.bench.results import Measured, short_names
from mvit_deploy.charts import Panel, Point

BARS = "Bars: the middle half of the times. "
NOTE = "Measured on {machine}; a phone's times differ, and so do their ratios."


def save(measured: list[Measured], path: Path) -> list[str]:
    """Draw accuracy, or else SQNR, against latency and size; where no file has either, latency against size.

    measured: one file or more. Returns the names of files that have no such number and are not drawn. Raises: OSError.
    """
    names = short_names([each.subject.path for each in measured])
    what, worths = _worths(measured)
    drawn = [
        (name, each, worth) for name, each, worth in zip(names, measured, worths, strict=True) if worth is not None
    ]
    latency = f"latency with {threads_in_words(measured[0].latencies[0].threads)}, ms"
    if what:
        bars, title = BARS, f"{what.partition(',')[0]} against latency and size: up and to the left is better"
        panels = [
            Panel(latency, what, tuple(_by_latency(*each) for each in drawn)),
            Panel("size, MB", what, tuple(_by_size(*each) for each in drawn)),
        ]
    else:
        bars, title = "", "Latency against size: down and to the left is better"
        panels = [Panel("size, MB", latency, tuple(_by_size(*each) for each in drawn))]
    charts.save(panels, path, title=title, note=bars + NOTE.format(machine=processor_name()))
    return [name for name, worth in zip(names, worths, strict=True) if worth is None]


def _worths(measured: list[Measured]) -> tuple[str, list[float | None]]:
    """The number that files are judged by here and its value for each; no name for latency, for want of another."""
    accuracies = [None if each.top1 is None else 100 * each.top1 for each in measured]
    sqnrs = [each.subject.sqnr_db for each in measured]
    if any(value is not None for value in accuracies):
        return "Accuracy, % of photos", accuracies
    if any(value is not None for value in sqnrs):
        return "SQNR, dB", sqnrs
    return "", [each.latencies[0].ms.median for each in measured]


def _by_latency(name: str, measured: Measured, worth: float) -> Point:
    times = measured.latencies[0].ms
    return Point(name, measured.subject.target, times.median, worth, (times.p25, times.p75))


def _by_size(name: str, measured: Measured, worth: float) -> Point:
    size_mb = measured.subject.size_bytes / 1e6
    return Point(name, measured.subject.target, size_mb, worth, (size_mb, size_mb))

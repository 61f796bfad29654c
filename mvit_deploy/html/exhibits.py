"""What a page shows beside the reports: pictures with answers, errors by stage, times. Plain values, so that a page can
be made without anything being run."""

from dataclasses import dataclass

PYTORCH = "PyTorch"


@dataclass(frozen=True)
class Answer:
    """What one side says of a picture.

    by: PYTORCH, or a file's path as its report has it. lines: the first is the answer, more may follow. image: a data
    URI of what it sees, "" for none. same: as PyTorch; None where that is not the question.
    """

    by: str
    lines: tuple[str, ...]
    image: str = ""
    same: bool | None = None


@dataclass(frozen=True)
class Picture:
    """One of the images that files were judged on. image: a data URI of it as the network takes it."""

    name: str
    kind: str
    image: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Gallery:
    """Pictures of one model. left_out: how many more there were. notes: what a reader has to know about them."""

    task: str
    pictures: tuple[Picture, ...]
    left_out: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageErrors:
    """rel_max of a file's stages, from the network's input to its output, on the same images for all files; None where
    it cannot be told. path: as the report has it."""

    path: str
    stages: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True)
class Time:
    """Milliseconds of one input: the median and the ends of the middle half of n runs. path: as the report has it."""

    path: str
    median_ms: float
    p25_ms: float
    p75_ms: float
    n: int


@dataclass(frozen=True)
class Timing:
    """Files timed side by side. remarks: what was not timed and why, and what else to know."""

    machine: str
    threads: int
    rounds: int
    times: tuple[Time, ...]
    remarks: tuple[str, ...] = ()

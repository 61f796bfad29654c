"""What a page shows beside the reports: files are run once more on the images that they were judged on, and timed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mvit_deploy.bench.measuring import Progress
from mvit_deploy.html.exhibits import Gallery, StageErrors, Timing
from mvit_deploy.html.following import stage_errors
from mvit_deploy.html.page import render
from mvit_deploy.html.pictures import galleries
from mvit_deploy.html.subjects import Judged
from mvit_deploy.html.timing import timing
from mvit_deploy.report import Report
from mvit_deploy.work import Work


@dataclass(frozen=True)
class Exhibits:
    """What render takes beside the reports, by the same names."""

    galleries: tuple[Gallery, ...] = ()
    stages: tuple[StageErrors, ...] = ()
    timing: Timing | None = None


def gather(judged: Sequence[Judged], progress: Progress | None = None) -> Exhibits:
    """Pictures with answers, errors by stage, and times, as far as images, PyTorch's module and files are there.

    What cannot be run is told on the page or in the log; nothing is raised for it.
    """
    tell: Callable[[str], None] = progress or (lambda step: None)
    tell("HTML: running the files on their pictures")
    pictures = galleries(judged)
    tell("HTML: following the stages of the network")
    stages = stage_errors(judged)
    return Exhibits(tuple(pictures), tuple(stages), timing(judged, progress))


def page_of(judged: Sequence[Judged], progress: Progress | None = None) -> str:
    """The whole page about some files."""
    found = gather(judged, progress)
    reports = [each.report for each in judged]
    return render(reports, galleries=found.galleries, stages=found.stages, timing=found.timing)


def of_work(work: Work, reports: Sequence[Report]) -> list[Judged]:
    """The files of an export with what they were judged on."""
    jobs = {work.path_of(job): job for job in work.jobs}
    found = []
    for result in reports:
        judging = work.judging_of(jobs[result.path]) if work.options.verify else None
        if judging is None:
            found.append(Judged(result))
        else:
            found.append(Judged(result, judging.inputs, judging.outputs, work.reference))
    return found

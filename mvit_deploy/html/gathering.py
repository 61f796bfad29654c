"""What a page shows beside the reports: files are run once more on the images that they were judged on, and timed."""

from collections.abc import Sequence

from mvit_deploy.bench.measuring import Progress
from mvit_deploy.html.following import stage_errors
from mvit_deploy.html.page import render
from mvit_deploy.html.pictures import galleries
from mvit_deploy.html.subjects import JudgedFile
from mvit_deploy.html.timing import Silent, timing


def page_of(judged: Sequence[JudgedFile], progress: Progress | None = None) -> str:
    """A page with pictures and answers, errors by stage, and times, as far as images, PyTorch's module and files are
    there. What cannot be run is told on the page or in the log; nothing is raised for it."""
    progress = progress or Silent()
    progress("page: running the files on their pictures")
    found = galleries(judged)
    progress("page: following the stages of the network")
    stages = stage_errors(judged)
    times = timing(judged, progress)
    return render([each.report for each in judged], galleries=found, stages=stages, timing=times)

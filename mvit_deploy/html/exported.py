"""The files of an export, with what they were judged on."""

from collections.abc import Sequence

from mvit_deploy.html.subjects import JudgedFile
from mvit_deploy.report import Report
from mvit_deploy.work import Work


def of_work(work: Work, reports: Sequence[Report]) -> list[JudgedFile]:
    """In the order of the reports, which are those of the work's files; without images where nothing was verified."""
    jobs = {work.path_of(job): job for job in work.jobs}
    return [_of_job(work, result, jobs[result.path]) for result in reports]


def _of_job(work: Work, result: Report, job: object) -> JudgedFile:
    judging = work.judging_of(job) if work.options.verify else None
    if judging is None:
        return JudgedFile(result)
    return JudgedFile(result, judging.inputs, judging.outputs, work.reference)

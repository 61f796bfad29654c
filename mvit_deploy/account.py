"""What the report of an exported file says: the file, the model, how it was judged, on what, what of it is int8."""

import logging
from pathlib import Path

from mvit_deploy import chatter, preprocessing, report, verification
from mvit_deploy.errors import MvitError
from mvit_deploy.images import ImageSet
from mvit_deploy.request import Job
from mvit_deploy.runtimes import CannotRunHere
from mvit_deploy.runtimes.census import census
from mvit_deploy.verification import Verification
from mvit_deploy.work import Work

log = logging.getLogger(__name__)
# Of the classic format: the later where a block resizes. Source: coremltools, _SPECIFICATION_VERSION_IOS_….
_IOS_OF_CLASSIC = {"specification 4": 13, "specification 5": 14}


def content_of(
    work: Work, job: Job, found: Verification, partial: Path | None, timings: dict[str, float]
) -> dict[str, object]:
    """The report of one file, schema 1. partial: where it stands now, None for nowhere. timings: seconds by step."""
    artifact = {
        "path": str(work.path_of(job)),
        "target": job.target.name,
        "format": job.settings.format,
        "precision": job.precision,
        **verification.file_facts(found, partial),
        "min_ios": job.settings.min_ios or _IOS_OF_CLASSIC.get(found.interface and found.interface.opset_or_spec),
        "int8": _int8(job, partial),
    }
    content = report.content(
        command=work.options.command,
        artifact=artifact,
        model=work.model_facts,
        verification=verification.to_json(found, job.precision, _inputs(work, job), _origin(work)),
        timings_s={name: round(seconds, 3) for name, seconds in timings.items()},
    )
    if job.is_quantized:
        content["quantization"] = work.quantizer.to_json(job.precision) | {"calibration": _calibration(work)}
    return content


def _inputs(work: Work, job: Job) -> ImageSet | None:
    return work.judging_of(job).inputs if work.options.verify else None


def _int8(job: Job, partial: Path | None) -> dict[str, object]:
    """What of a file really is int8, counted from what the runtime executes; just that for a float file."""
    if not job.is_quantized or partial is None or not partial.exists():
        return {"weight_fraction": 0.0, "kept_float": []}
    try:
        with chatter.into_log(f"census-{partial.name}"):
            return census(partial).to_json()
    except (MvitError, CannotRunHere) as error:
        log.warning("%s: cannot count what runs in int8: %s", job, error)
        return {"weight_fraction": None, "kept_float": None, "reason": str(error)}


def _calibration(work: Work) -> dict[str, object] | None:
    used = work.photos.calibration
    if used is None:
        return None
    return {"folder": str(work.options.calibration), "count": len(used.names), "sha256": used.sha256}


def _origin(work: Work) -> dict[str, object]:
    options, folder = work.options, work.options.verify_images
    calibration = None if options.calibration is None else str(options.calibration)
    return {
        "seed": options.seed,
        "folder": None if folder is None else str(folder),
        "calibration": calibration,
        "calibration_count": options.calibration_count,
        "preprocessing": preprocessing.to_json(
            work.reference.preprocessing, asked=options.resize is not None or options.resampling is not None
        ),
    }

"""Files that were judged again, with what they were judged on: golden inputs, or those that PyTorch was run on."""

import logging
from collections.abc import Sequence

import numpy as np

from mvit_deploy import golden, parity, runtimes
from mvit_deploy.errors import MvitError
from mvit_deploy.golden import Golden, golden_path
from mvit_deploy.html.subjects import JudgedFile
from mvit_deploy.images import ImageSet
from mvit_deploy.report import Report
from mvit_deploy.spec import Interface
from mvit_deploy.subject import Options, Subject, read_subject

log = logging.getLogger(__name__)


def of_reports(reports: Sequence[Report], options: Options) -> list[JudgedFile]:
    """In the order of the reports of mvit-verify, with the options that it had.

    Where PyTorch or the weights are not here, golden inputs and outputs are all that there is, and there is no module.
    """
    return [_of_report(result, read_subject(result.path, options)) for result in reports]


def _of_report(result: Report, subject: Subject) -> JudgedFile:
    if not result.path.exists() or result.content["verification"]["inputs"] is None:
        return JudgedFile(result)
    kept = _golden(subject) if result.content["verification"].get("reference") == "golden" else None
    try:
        found = runtimes.open_file(result.path).interface
        return _with_module(result, subject, found, None if kept is None else kept.inputs)
    except (MvitError, ModuleNotFoundError) as error:
        log.info("%s: no module of PyTorch's to follow it with: %s", result.path.name, error)
    return JudgedFile(result) if kept is None else JudgedFile(result, kept.inputs, _whole(kept))


def _golden(subject: Subject) -> Golden | None:
    """What lies beside the file; None where that is damaged, which is a claim of its own."""
    try:
        return golden.read(golden_path(subject.path), subject.certificate.samples)
    except MvitError as error:
        log.info("%s: no golden inputs: %s", subject.path.name, error)
        return None


def _whole(kept: Golden) -> dict[str, np.ndarray]:
    """Those golden outputs of which every value was kept, as PyTorch gave them."""
    return {name: values for name, values in kept.reference.items() if values.shape[1:] == kept.samples[name].shape}


def _with_module(result: Report, subject: Subject, found: Interface, inputs: ImageSet | None) -> JudgedFile:
    """inputs: None for those of the verification. Raises: ModuleNotFoundError without PyTorch; MvitError."""
    # PyTorch takes seconds to import, and may not be here.
    from mvit_deploy import live, reference
    from mvit_deploy.checkpoints import hub

    named = str(subject.says("model", "weights", "source"))
    if inputs is not None and subject.options.weights is None and named.startswith(hub.SCHEME):
        raise MvitError(f"{named} is not downloaded where golden outputs judge")
    source, problem = live.reference_of(subject, found)
    if source is None:
        raise MvitError(problem)
    if inputs is None:
        word = str(result.content["artifact"]["precision"])
        precision = word if word in parity.TOLERANCES else "fp32"
        inputs = live.inputs_of(subject, source, tuple(result.content["model"]["image_size"]), precision)
    return JudgedFile(result, inputs, reference.run(source, inputs.pixels), source)

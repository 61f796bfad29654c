"""One file's judgement: open it, hold its interface to the contract, run it, hold its outputs to the reference's."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mvit_deploy import interface, metadata, parity, report, runtimes, suppression
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.golden import Golden, Sample
from mvit_deploy.images import ImageSet
from mvit_deploy.labelling import classes
from mvit_deploy.parity import MISMATCH, NOT_RUN, Judgement
from mvit_deploy.runtimes import suppressed
from mvit_deploy.runtimes.tensors import channels_first
from mvit_deploy.spec import NEEDS_CALIBRATION, PROBABILITIES, Contract, Interface, OutputSpec

NOTHING_FOUND = "nothing is detected on any image, so the suppression had nothing to do; give --verify-images"
NOT_ASKED = "not asked for (--no-verify)"


@dataclass(frozen=True)
class Expectation:
    """What a file is held to: the images and what the reference gives for them, and the promised interface.

    report_only is why the floors do not hold for it, so that its numbers are reported and not judged. samples: which
    values of the outputs there are, by name; all of an output without one.
    """

    contract: Contract
    precision: str
    inputs: ImageSet
    outputs: dict[str, np.ndarray]
    report_only: str = ""
    samples: dict[str, Sample] = field(default_factory=dict)

    def pick(self, name: str, values: np.ndarray) -> np.ndarray:
        """What of a file's values is compared with the reference's output of a name. Shapes: (count, …) -> same rank
        as that output has here."""
        return self.samples[name].pick(values) if name in self.samples else values


@dataclass(frozen=True)
class Verification:
    """The verdict on one file, with what was read from it on the way; judgements by the name of the file's output.

    outputs: what the file gave, by the same names, as far as it was compared; maps as PyTorch lays them out.
    """

    verdict: str
    reason: str
    interface: Interface | None = None
    runtime: dict[str, str] | None = None
    judgements: dict[str, Judgement] = field(default_factory=dict)
    findings: dict[str, object] = field(default_factory=dict)
    outputs: dict[str, np.ndarray] = field(default_factory=dict)


def golden_expectation(contract: Contract, precision: str, golden: Golden, report_only: str) -> Expectation:
    """To be held to what PyTorch gave for golden inputs."""
    return Expectation(contract, precision, golden.inputs, golden.reference, report_only, golden.samples)


def verify(path: Path, expected: Expectation) -> Verification:
    """Judge a file. What cannot be run here is not_run; what cannot be opened or says the wrong thing is a mismatch."""
    try:
        runner = runtimes.open_file(path)
        found = runner.interface
        runtime = {"name": runner.name, "version": runner.version, "kind": runner.kind}
        problems = interface.faults(expected.contract, found)
        if problems:
            return Verification(MISMATCH, "; ".join(problems), found, runtime)
        if expected.contract.suppression is not None:
            return _verify_detections(path, expected, found, runtime)
        outputs = runner.run(expected.inputs.pixels)
        findings = runner.findings(expected.inputs.pixels, outputs) | _labels(found, outputs, expected)
    except DamagedFileError as error:
        return Verification(MISMATCH, str(error))
    except runtimes.CannotRunHere as reason:
        return Verification(NOT_RUN, str(reason), found, runtime)
    numeric = numeric_outputs(found)
    given = {o.name: expected.pick(_compared_with(o), channels_first(outputs[o.name], o)) for o in numeric}
    judgements = judge_values(expected, numeric, given)
    verdict, reason = _together(judgements)
    wrong = _label_faults(found, outputs)
    if wrong:
        verdict, reason = MISMATCH, "; ".join(filter(None, [reason, wrong]))
    return Verification(verdict, reason, found, runtime, judgements, findings, given)


def _verify_detections(path: Path, expected: Expectation, found: Interface, runtime: dict[str, str]) -> Verification:
    """Judge a detector that sorts its boxes out: boxes and scores before that as ever, what it finds by the rule.

    Raises: DamagedFileError, CannotRunHere as runtimes.suppressed.detect.
    """
    inputs, rule = expected.inputs, expected.contract.suppression
    given = suppressed.detect(path, inputs.pixels)
    values = {"boxes": expected.pick("boxes", given.boxes), "scores": expected.pick("scores", given.scores)}
    judgements = judge_values(expected, [], values)
    verdict, reason = _together(judgements)
    rows = zip(inputs.names, given.detections, given.boxes, given.scores, strict=True)
    wrong = [f"{name}: {fault}" for name, *row in rows for fault in suppression.faults(*row, rule)]
    if given.rule != rule:
        wrong.insert(0, f"the file's suppression is {given.rule}, expected {rule}")
    count = sum(len(each.scores) for each in given.detections)
    if wrong:
        verdict, reason = MISMATCH, "; ".join(filter(None, [reason, *wrong[:3]]))
    elif not count and verdict != MISMATCH:
        verdict, reason = NOT_RUN, NOTHING_FOUND
    findings = {"suppression": asdict(rule) | {"detections": count, "faults": len(wrong)}}
    return Verification(verdict, reason, found, runtime, judgements, findings, values)


def judge_values(
    expected: Expectation, outputs: list[OutputSpec], values: dict[str, np.ndarray]
) -> dict[str, Judgement]:
    """Hold what a file gave, as far as it is compared, to the reference's outputs. outputs: the file's numeric ones; of
    a detector that sorts its boxes out, boxes and scores are judged."""
    if expected.contract.suppression is None:
        return {output.name: _judge(values[output.name], output, expected) for output in outputs}
    boxes = expected.outputs["boxes"], values["boxes"]
    scores = parity.foreground(expected.outputs["scores"], values["scores"])
    return {name: _held(expected, name, *pair) for name, pair in {"boxes": boxes, "scores": scores}.items()}


def _together(judgements: dict[str, Judgement]) -> tuple[str, str]:
    """The verdict on all outputs and why: the first that does not match, by name where there are several."""
    worst = next((name for name, each in judgements.items() if each.verdict == MISMATCH), next(iter(judgements)))
    found = judgements[worst]
    named = found.verdict == MISMATCH and len(judgements) > 1
    return found.verdict, f"{worst}: {found.reason}" if named else found.reason


def inspect_only(path: Path, contract: Contract) -> Verification:
    """Hold a file's interface to the contract without running it. A fault is a mismatch all the same."""
    try:
        found = runtimes.open_file(path).interface
    except DamagedFileError as error:
        return Verification(MISMATCH, str(error))
    problems = interface.faults(contract, found)
    return Verification(MISMATCH if problems else NOT_RUN, "; ".join(problems) or NOT_ASKED, found)


def numeric_outputs(found: Interface) -> list[OutputSpec]:
    """The outputs that hold numbers and not the name of a class."""
    return [output for output in found.outputs if output.meaning != "label"]


def no_floor(precision: str, weights_source: object) -> str:
    """Why the floors of a precision do not hold for weights from somewhere; nothing where they do."""
    if precision in NEEDS_CALIBRATION and weights_source == "random":
        return f"random weights: {precision} is calibrated and run, its errors are reported without a floor"
    return ""


def _compared_with(output: OutputSpec) -> str:
    """The name of the reference's output that a file's is compared with."""
    return "logits" if output.meaning == PROBABILITIES else output.name


def _judge(values: np.ndarray, output: OutputSpec, expected: Expectation) -> Judgement:
    meaning, reference = output.meaning, expected.outputs[_compared_with(output)]
    if meaning == PROBABILITIES:
        reference = parity.softmax(reference)
    return _held(expected, meaning, *(parity.comparable(each, meaning) for each in (reference, values)))


def _held(expected: Expectation, meaning: str, reference: np.ndarray, candidate: np.ndarray) -> Judgement:
    """Judge comparable values by what is expected of the file."""
    return parity.judge(
        precision=expected.precision,
        reference=reference,
        candidate=candidate,
        meaning=meaning,
        kinds=expected.inputs.kinds,
        names=expected.inputs.names,
        report_only=expected.report_only,
    )


def _label_faults(found: Interface, outputs: dict[str, np.ndarray]) -> str:
    """What is wrong with a classifier's label: it has to be the one with the largest probability."""
    label = next((output for output in found.outputs if output.meaning == "label"), None)
    if label is None or label.name not in outputs or found.labels is None:
        return ""
    values = outputs[numeric_outputs(found)[0].name]
    rows = range(len(values))
    wrong = [i for i in rows if values[i][found.labels.index(outputs[label.name][i])] < values[i].max()]
    return f"the label of {len(wrong)} of {len(values)} inputs is not the most probable class" if wrong else ""


def _labels(found: Interface, outputs: dict[str, np.ndarray], expected: Expectation) -> dict[str, object]:
    """Of a classifier, what it and the reference find on each photo that judges; nothing of anything else."""
    logits = expected.outputs.get("logits")
    if logits is None or logits.ndim != 2:
        return {}
    judged = expected.inputs.where("photo")
    names = [name for name, is_judged in zip(expected.inputs.names, judged, strict=True) if is_judged]
    answers = classes.of_outputs(found, {name: each[judged] for name, each in outputs.items()}, names)
    reference = classes.of_reference({"logits": logits[judged]}, expected.contract.labels)
    return {"labels": [asdict(row) for row in classes.rows_of(reference, answers, names)]}


def file_facts(found: Verification, path: Path | None) -> dict[str, object]:
    """What a report says of a file: its digest and size, None for one that is not there, and what it says of itself."""
    declared, is_there = found.interface, path is not None and path.exists()
    return {
        "sha256": report.sha256_of(path) if is_there else None,
        "size_bytes": report.size_of(path) if is_there else None,
        "opset_or_spec": None if declared is None else declared.opset_or_spec,
        "inputs": [] if declared is None else [asdict(i) for i in declared.inputs],
        "outputs": [] if declared is None else [asdict(o) for o in declared.outputs],
        "labels": None if declared is None else declared.labels,
        "declared": None if declared is None else metadata.facts(declared.declared),
    }


def to_json(
    found: Verification, precision: str, inputs: ImageSet | None, origin: dict[str, object]
) -> dict[str, object]:
    """The verification part of a report, schema 1. origin: seed and folder, from which the inputs can be made again.

    The tolerance is what the file was held to: none where its numbers are only reported.
    """
    judgements = list(found.judgements.values())
    tolerance = judgements[0].tolerance if judgements else parity.TOLERANCES[precision]
    return {
        "verdict": found.verdict,
        "reason": found.reason,
        "runtime": found.runtime,
        "inputs": None if inputs is None else _describe(inputs) | origin,
        "tolerance": tolerance.to_json(),
        "outputs": outputs_to_json(found),
        "photos": _photos_to_json(judgements[0]) if judgements else None,
        "worst_input": judgements[0].worst if judgements else None,
        **found.findings,
    }


def outputs_to_json(found: Verification) -> list[dict[str, object]]:
    """Errors, verdict and tolerance of each output."""
    return [_output_to_json(name, each) for name, each in found.judgements.items()]


def _output_to_json(name: str, judgement: Judgement) -> dict[str, object]:
    return {
        "name": name,
        **asdict(judgement.errors),
        "verdict": judgement.verdict,
        "tolerance": judgement.tolerance.to_json(),
        "photos": _photos_to_json(judgement),
        "worst_input": judgement.worst,
    }


def _photos_to_json(judgement: Judgement) -> dict[str, object] | None:
    return None if judgement.photo_errors is None else asdict(judgement.photo_errors)


def _describe(inputs: ImageSet) -> dict[str, object]:
    kinds = {kind: inputs.kinds.count(kind) for kind in sorted(set(inputs.kinds))}
    return {"count": len(inputs.kinds), "kinds": kinds, "sha256": inputs.sha256}

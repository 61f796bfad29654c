"""What the report of a shipped file claims, each point checked by itself and without PyTorch."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mvit_deploy import certificate, interface, parity, report, runtimes, verification
from mvit_deploy.certificate import Certificate
from mvit_deploy.errors import DamagedFileError, MissingLibraryError
from mvit_deploy.golden import Golden, golden_path
from mvit_deploy.parity import MATCH, MISMATCH, NOT_RUN, Errors
from mvit_deploy.runtimes.census import census
from mvit_deploy.spec import QUANTIZED, Interface
from mvit_deploy.subject import Subject
from mvit_deploy.verification import Verification

CHANGED = "the file is not the one that its report describes: its sha256 has changed"
ERRORS = ("max_abs", "rel_max", "sqnr_db", "cosine", "top1_agreement", "mean_kl")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # of a folder as transformers saves it
REL_TOL, ABS_TOL = 1e-4, 1e-9  # of numbers that are computed again: the order of a sum is the machine's


@dataclass(frozen=True)
class Claim:
    """holds: None where it could not be checked here. detail: why not, or what was found instead."""

    claim: str
    holds: bool | None
    detail: str = ""

    def to_json(self) -> dict[str, object]:
        return {"claim": self.claim, "holds": self.holds, "detail": self.detail}


def of_report(subject: Subject, found: Interface | None) -> Iterator[Claim]:
    """What can be checked of a report without running its file. found: what the file says of itself, None where it
    cannot be opened."""
    held = subject.certificate
    if held is not None:
        yield _claim("certificate", _edited(subject.said, held))
    if subject.says("artifact", "sha256") is not None:
        yield _claim("file", [] if report.sha256_of(subject.path) == subject.says("artifact", "sha256") else [CHANGED])
    if held is None:
        return
    yield _claim("size", _different("size", report.size_of(subject.path), subject.says("artifact", "size_bytes")))
    if found is None:
        yield from (Claim(name, None, "the file cannot be opened") for name in ("interface", "labels", "metadata"))
    else:
        facts = verification.file_facts(Verification(NOT_RUN, "", found), None)
        yield _claim("interface", _interface(subject, held, facts, found))
        yield _claim("labels", _labels(subject, held, facts))
        yield _claim("metadata", _metadata(subject, held, facts, found))
    yield _claim("tolerance", _loosened(subject, held))
    yield _claim("verdict", _contradictions(subject, held))


def of_golden(subject: Subject, held: Certificate, golden: Golden | None, problem: str) -> Iterator[Claim]:
    """What can be checked of the golden file. golden: what it holds, None and the problem where it cannot be read."""
    path = golden_path(subject.path)
    if not path.exists():
        yield Claim("golden file", None, f"{path.name} is not here")
        return
    faults = [problem] if problem else []
    if report.sha256_of(path) != held.sha256.get("golden"):
        faults.append(f"{path.name} is not the one that the certificate names: its sha256 has changed")
    yield _claim("golden file", faults)
    if golden is None:
        return
    inputs = golden.inputs
    same = inputs.sha256 == held.sha256.get("golden_inputs")
    faults = [] if same else ["the images are not those that the certificate names: their sha256 has changed"]
    faults += _different("names", inputs.names, held.names) + _different("kinds", inputs.kinds, held.kinds)
    yield _claim("golden inputs", faults)
    if held.errors:
        yield _claim("errors at export", _errors_at_export(subject, held, golden))


def of_outputs(found: Verification, whose: str) -> Claim:
    """Whether the file gives here what it is held to."""
    holds = {MATCH: True, MISMATCH: False, NOT_RUN: None}[found.verdict]
    return Claim("outputs", holds, found.reason if holds is not True else f"as {whose} within the floors")


def of_int8(subject: Subject) -> Iterator[Claim]:
    """What the report says is int8, counted again; nothing for a float file."""
    said = subject.says("artifact", "int8", "weight_fraction")
    if subject.says("artifact", "precision") not in QUANTIZED or said is None:
        return
    try:
        counted = census(subject.path).to_json()
    except DamagedFileError as error:
        yield Claim("int8", False, str(error))
        return
    except (MissingLibraryError, runtimes.CannotRunHere) as reason:
        yield Claim("int8", None, str(reason))
        return
    keys = ["weight_fraction", "weight_bytes", "int8_weight_bytes"]
    if counted["basis"] == subject.says("artifact", "int8", "basis"):  # kernels are chosen by version and processor
        keys += ["int8_macs_fraction"]
    yield _claim("int8", [f for key in keys for f in _off(key, counted[key], subject.says("artifact", "int8", key))])


def of_weights(subject: Subject) -> Iterator[Claim]:
    """Whether the weights that the report names, where they are at hand as a file, are still the same bytes; nothing
    for random ones, which only PyTorch can draw again."""
    named, expected = (subject.says("model", "weights", key) for key in ("source", "sha256"))
    if not named or named == "random" or expected is None:
        return
    path = next((p for p in (Path(str(named)), subject.path.parent / str(named)) if p.exists()), None)
    if path is not None and path.is_dir():
        path = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if path is None:
        yield Claim("weights", None, f"{named} is no file that is here")
        return
    same = report.sha256_of(path) == expected
    yield _claim("weights", [] if same else [f"the weights {named} have changed since the report"])


def _claim(name: str, faults: list[str]) -> Claim:
    return Claim(name, not faults, "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if faults[3:] else ""))


def _edited(said: dict[str, object], held: Certificate) -> list[str]:
    """The digest of the report, and what certificate and report both say."""
    faults = []
    if not certificate.is_whole(said):
        faults.append("the report has been edited since it was made: its digest is another")
    twice = {
        "artifact": ("artifact", "sha256"),
        "weights": ("model", "weights", "sha256"),
        "inputs": ("verification", "inputs", "sha256"),
    }
    for name, keys in twice.items():
        faults += _different(f"sha256 of {name}", report.look_up(said, *keys), held.sha256.get(name))
    return faults + _different("precision", report.look_up(said, "artifact", "precision"), held.precision)


def _interface(subject: Subject, held: Certificate, facts: dict[str, object], found: Interface) -> list[str]:
    facts = facts | {"format": found.format, "target": runtimes.target_of(subject.path)}
    keys = ("target", "format", "opset_or_spec", "inputs", "outputs")
    differing = [f for key in keys for f in _different(key, facts[key], subject.says("artifact", key))]
    return interface.tensor_faults(held.contract, found) + differing


def _labels(subject: Subject, held: Certificate, facts: dict[str, object]) -> list[str]:
    faults = _different("labels", facts["labels"], subject.says("artifact", "labels"))
    return faults or _different("labels", facts["labels"], held.contract.labels)


def _metadata(subject: Subject, held: Certificate, facts: dict[str, object], found: Interface) -> list[str]:
    """What the file says of itself beside its tensors and labels, and what the report says of the model."""
    faults = _different("declared", facts["declared"], subject.says("artifact", "declared"))
    faults += _different("precision", found.precision, subject.says("artifact", "precision"))
    weights = subject.says("model", "weights", "sha256")
    faults += _different("sha256 of the weights", found.declared.about.weights_sha256, weights)
    contract = certificate.contract_to_json(held.contract)
    for key in ("mode", "task", "variant", "image_size"):
        faults += _different(f"model's {key}", contract[key], subject.says("model", key))
    return faults + [f for f in interface.declared_faults(held.contract, found) if not f.startswith("labels:")]


def _loosened(subject: Subject, held: Certificate) -> list[str]:
    """Recorded tolerances that are not as strict as this version's floors."""
    outputs, floors = _outputs(subject), _floors(subject, held)
    whole = _object(subject.says("verification", "tolerance"))
    first = floors.get(outputs[0]["name"]) if outputs else None
    faults = parity.loosened(whole, first or parity.TOLERANCES[held.precision])
    for output in outputs:
        if output["name"] in floors:
            looser = parity.loosened(_object(output.get("tolerance")), floors[output["name"]])
            faults += [f"{output['name']}: {fault}" for fault in looser]
    return faults


def _contradictions(subject: Subject, held: Certificate) -> list[str]:
    """A recorded verdict that is no match, or that the recorded numbers do not bear."""
    verdict, outputs = subject.says("verification", "verdict"), _outputs(subject)
    if verdict not in (MATCH, NOT_RUN):
        return [f"the report itself says {verdict}"]
    if verdict == NOT_RUN:
        return []
    floors = _floors(subject, held)
    faults = [] if outputs else ["the report says match and has no numbers"]
    if outputs and {output["name"] for output in outputs} != set(floors):
        faults.append(f"numbers of the outputs {sorted(output['name'] for output in outputs)}, not {sorted(floors)}")
    for output in outputs:
        if output.get("verdict") != MATCH:
            faults.append(f"{output['name']}: the report says {output.get('verdict')}")
        if output["name"] in floors:
            photos = output.get("photos")
            errors = _errors(output), None if photos is None else _errors(_object(photos))
            faults += parity.recorded_faults(floors[output["name"]], *errors)
    return faults


def _floors(subject: Subject, held: Certificate) -> dict[str, parity.Tolerance]:
    """This version's floors, by the names of the outputs that a report judges."""
    contract, precision = held.contract, held.precision
    reason = verification.no_floor(precision, subject.says("model", "weights", "source"))
    if contract.suppression is not None:
        judged = [(o.name, o.name, len(o.shape) + 1) for o in contract.outputs]
    else:
        expected = interface.expected_outputs(contract, subject.path.suffix.removeprefix("."))
        judged = [(o.name, o.meaning, len(o.shape)) for o in expected if o.meaning != "label"]
    return {name: parity.floor_of(precision, meaning, rank, report_only=reason) for name, meaning, rank in judged}


def _errors_at_export(subject: Subject, held: Certificate, golden: Golden) -> list[str]:
    """Recorded errors that are not those of the outputs that the golden file says were measured."""
    reason = verification.no_floor(held.precision, subject.says("model", "weights", "source"))
    expected = verification.golden_expectation(held.contract, held.precision, golden, reason)
    outputs = interface.expected_outputs(held.contract, subject.path.suffix.removeprefix("."))
    try:
        numeric = [output for output in outputs if output.meaning != "label"]
        judged = verification.judge_values(expected, numeric, golden.measured)
    except KeyError as error:
        return [f"the golden file has no measured output {error}"]
    faults = [f"{name}: {each.reason}" for name, each in judged.items() if each.verdict == MISMATCH]
    recorded = {str(output.get("name")): output for output in held.errors}
    for name, each in judged.items():
        for key in ERRORS:
            faults += _off(f"{name}: {key}", getattr(each.errors, key), recorded.get(name, {}).get(key))
    return faults


def _outputs(subject: Subject) -> list[dict[str, object]]:
    said = subject.says("verification", "outputs")
    entries = [output for output in said if isinstance(output, dict)] if isinstance(said, list) else []
    return [output for output in entries if isinstance(output.get("name"), str)]


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _errors(said: dict[str, object]) -> Errors:
    """Numbers of a report; what is no number is None, which no floor takes."""
    values = {key: said.get(key) for key in ERRORS}
    count = said.get("count")
    numbers = {k: v if isinstance(v, int | float) and math.isfinite(v) else None for k, v in values.items()}
    return Errors(count if isinstance(count, int) else 0, **numbers)


def _different(what: str, found: object, said: object) -> list[str]:
    """A fault where what was found is not what is said, both as JSON has them."""
    if _plain(found) == _plain(said):
        return []
    return [f"{what}: found {_short(found)}, the report says {_short(said)}"]


def _off(what: str, found: float | None, said: object) -> list[str]:
    """A fault where a number that was computed again is another."""
    if found is None or not isinstance(said, int | float):
        return [] if found is None and said is None else [f"{what}: found {found}, the report says {said}"]
    if math.isclose(found, said, rel_tol=REL_TOL, abs_tol=ABS_TOL):
        return []
    return [f"{what}: found {found:.6g}, the report says {said:.6g}"]


def _plain(value: object) -> object:
    return json.loads(json.dumps(value))


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."

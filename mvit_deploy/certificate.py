"""The certificate in a report: what a file is held to, in full, and a digest over the whole report.

It shows that nothing was changed by accident or in passing. It is no signature: who edits a report can make a new
digest; who wants to be sure of its origin signs report, file and golden file, or keeps their sha256.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mvit_deploy.errors import UsageError
from mvit_deploy.golden import Golden, Sample, golden_path, sample_of
from mvit_deploy.metadata import normalization_from_json, preprocessing_from_json, preprocessing_to_json
from mvit_deploy.report import look_up, sha256_of, size_of
from mvit_deploy.spec import PRECISIONS, About, Contract, Output, Suppression
from mvit_deploy.verification import Verification, outputs_to_json

VERSION = 1
KEY = "certificate"


@dataclass(frozen=True)
class Certificate:
    """What a certificate says. sha256: of artifact, weights, inputs, golden, golden_inputs. errors: of each output on
    the golden inputs, as measured at export; none where the file was not run. runtime: what measured them."""

    contract: Contract
    precision: str
    sha256: dict[str, str | None]
    size_bytes: int
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    samples: dict[str, Sample]
    errors: tuple[dict[str, object], ...]
    runtime: str | None


def entry(content: dict[str, object], contract: Contract, golden: Golden, measured: Verification, path: Path) -> object:
    """The certificate of a report that is otherwise whole, without its digest.

    measured: the file's run on the golden inputs. path: where the file is now, the golden file beside it.
    """
    artifact, beside = content["artifact"], golden_path(path)
    return {
        "version": VERSION,
        "sha256": {
            "artifact": artifact["sha256"],
            "weights": look_up(content, "model", "weights", "sha256"),
            "inputs": look_up(content, "verification", "inputs", "sha256"),
            "golden": sha256_of(beside),
            "golden_inputs": golden.inputs.sha256,
        },
        "precision": artifact["precision"],
        "contract": contract_to_json(contract),
        "golden": {
            "file": beside.name,
            "size_bytes": size_of(beside),
            "names": golden.inputs.names,
            "kinds": golden.inputs.kinds,
            "samples": {name: sample.to_json() for name, sample in golden.samples.items()},
            "runtime": measured.runtime,
            "outputs": outputs_to_json(measured),
        },
    }


def seal(content: dict[str, object]) -> None:
    """Put the digest over a whole report into its certificate: the last thing that is done to it."""
    content[KEY]["digest"] = digest(content)


def is_whole(content: dict[str, object]) -> bool:
    """Whether a report that has a certificate is as it was made: nothing in it has been edited."""
    return content[KEY].get("digest") == digest(content)


def digest(content: dict[str, object]) -> str:
    """sha256 over a report without the digest itself, as JSON with sorted keys, no spaces and nothing but ASCII."""
    bare = content | {KEY: {key: value for key, value in content[KEY].items() if key != "digest"}}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def read(content: dict[str, object]) -> Certificate | None:
    """The certificate of a report, None where it has none. Raises: UsageError for one that makes no sense."""
    said = content.get(KEY)
    if said is None:
        return None
    try:
        if said["version"] != VERSION:
            raise ValueError(f"version {said['version']}")
        golden, contract = said["golden"], contract_from_json(said["contract"])
        return Certificate(
            contract=contract,
            precision=_known(said["precision"], PRECISIONS),
            sha256={key: _typed(value, str | None) for key, value in said["sha256"].items()},
            size_bytes=_typed(golden["size_bytes"], int),
            names=tuple(_typed(name, str) for name in golden["names"]),
            kinds=tuple(_typed(kind, str) for kind in golden["kinds"]),
            samples=_samples(golden["samples"], contract),
            errors=tuple(_typed(each, dict) for each in golden["outputs"]),
            runtime=None if golden["runtime"] is None else _runtime(golden["runtime"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"the report's certificate cannot be read ({error!r})") from error


def contract_to_json(contract: Contract) -> dict[str, object]:
    return asdict(contract) | {"preprocessing": preprocessing_to_json(contract.preprocessing)}


def contract_from_json(said: dict[str, object]) -> Contract:
    """The inverse. Raises: AttributeError, KeyError, TypeError, ValueError for what is none."""
    rule, labels = said["suppression"], said["labels"]
    contract = Contract(
        **said
        | {
            "image_size": _ints(said["image_size"]),
            "outputs": tuple(Output(_typed(each["name"], str), _ints(each["shape"])) for each in said["outputs"]),
            "labels": None if labels is None else tuple(_typed(label, str) for label in labels),
            "value_range": tuple(map(float, said["value_range"])),
            "suppression": None if rule is None else Suppression(**rule),
            "normalization": normalization_from_json(said["normalization"]),
            "preprocessing": preprocessing_from_json(said["preprocessing"]),
            "about": About(**said["about"]),
        }
    )
    _check(contract)
    return contract


def _samples(said: dict[str, dict[str, object]], contract: Contract) -> dict[str, Sample]:
    """Raises: ValueError unless there is one of each output, of its shape."""
    whole = {output.name: sample_of(output.name, output.shape, None) for output in contract.outputs}
    samples = {name: replace(sample, kept=_typed(said[name]["kept"], int)) for name, sample in whole.items()}
    wrong = [name for name, sample in samples.items() if not 0 < sample.kept <= sample.places]
    expected = {name: sample.to_json() for name, sample in samples.items()}
    if wrong or expected != said:
        raise ValueError(f"samples {said} of the outputs {list(whole)}")
    return samples


def _check(contract: Contract) -> None:
    """Raises: ValueError for outputs that such a file does not have."""
    names = [output.name for output in contract.outputs]
    if len(contract.image_size) != 2 or len(set(names)) != len(names):
        raise ValueError(f"images of {contract.image_size}, outputs {names}")
    if contract.suppression is not None and names != ["boxes", "scores"]:
        raise ValueError(f"a suppression of {names}")
    if contract.probabilities and names != ["logits"]:
        raise ValueError(f"probabilities of {names}")


def _runtime(said: dict[str, object]) -> str:
    return f"{_typed(said['name'], str)} {_typed(said['version'], str)}"


def _known(word: object, words: tuple[str, ...]) -> str:
    """Raises: ValueError for another word."""
    if word not in words:
        raise ValueError(f"{word!r} is none of {words}")
    return word


def _ints(values: list[object]) -> tuple[int, ...]:
    return tuple(_typed(value, int) for value in values)


def _typed(value: object, kind: type) -> object:
    """Raises: TypeError unless the value is of a kind."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kind}")
    return value

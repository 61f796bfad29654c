"""A contract as strings, for the metadata of any format, and back.

Keys: mvit_deploy.task, .labels and so on; values that are no plain words are JSON.
"""

import json
from dataclasses import asdict

from mvit_deploy.errors import DamagedFileError, UsageError
from mvit_deploy.spec import TASKS, VARIANTS, About, Contract, Declared, Normalization, Preprocessing, Suppression

PREFIX = "mvit_deploy."
_ABOUT = ("author", "license", "version", "weights_sha256")


def entries(contract: Contract, precision: str) -> dict[str, str]:
    """What tensors cannot say of a file, as strings by key; what nobody said is left out."""
    values = {
        "precision": precision,
        "mode": contract.mode,
        "task": contract.task,
        "variant": contract.variant,
        "color_order": contract.color_order,
        "value_range": json.dumps(contract.value_range),
        "preprocessing": json.dumps(preprocessing_to_json(contract.preprocessing)),
    }
    if contract.labels is not None:
        values["labels"] = json.dumps(contract.labels, ensure_ascii=False)
    if contract.suppression is not None:
        values["suppression"] = json.dumps(asdict(contract.suppression))
    if contract.normalization is not None:
        values["normalization"] = json.dumps(asdict(contract.normalization))
    said = {key: getattr(contract.about, key) for key in _ABOUT}
    values |= {key: value for key, value in said.items() if value is not None}
    return {PREFIX + key: value for key, value in values.items()}


def read(given: dict[str, str]) -> Declared:
    """Read back what entries() gave. Raises: DamagedFileError when the colour order or range is missing or anything is
    senseless."""

    def of(key: str) -> str | None:
        return given.get(PREFIX + key)

    def parsed(key: str) -> object:
        value = None if of(key) is None else json.loads(of(key))
        if value is None and of(key) is not None:
            raise ValueError(f"{key} is null")
        return value

    try:
        color_order = given[PREFIX + "color_order"]
        low, high = (float(v) for v in json.loads(given[PREFIX + "value_range"]))
        labels, rule, normalization, how = map(parsed, ("labels", "suppression", "normalization", "preprocessing"))
        declared = Declared(
            color_order=color_order,
            value_range=(low, high),
            labels=None if labels is None else tuple(str(label) for label in labels),
            precision=of("precision"),
            suppression=None if rule is None else _rule(rule),
            mode=of("mode"),
            task=of("task"),
            variant=of("variant"),
            normalization=normalization_from_json(normalization),
            preprocessing=None if how is None else preprocessing_from_json(how),
            about=About(**{key: of(key) for key in _ABOUT}),
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError(f"the file's metadata do not give what they should ({error!r})") from error
    known = {"colour order": (color_order, ("RGB", "BGR")), "task": (declared.task, (*TASKS, None))}
    known["variant"] = (declared.variant, (*VARIANTS, None))
    for what, (word, words) in known.items():
        if word not in words:
            raise DamagedFileError(f"the file's metadata name an unknown {what} {word!r}")
    return declared


def facts(declared: Declared) -> dict[str, object]:
    """The part of what a file declares that a report repeats, as JSON."""
    how = declared.preprocessing
    return {
        "mode": declared.mode,
        "task": declared.task,
        "variant": declared.variant,
        "normalization": None if declared.normalization is None else asdict(declared.normalization),
        "preprocessing": None if how is None else preprocessing_to_json(how),
        "about": asdict(declared.about),
    }


def said_in(facts_: dict[str, object]) -> dict[str, object]:
    """The values of a report's facts, by the names of Contract and Declared. Raises: UsageError for what is none."""
    try:
        how = facts_["preprocessing"]
        return {
            "normalization": normalization_from_json(facts_["normalization"]),
            "preprocessing": None if how is None else preprocessing_from_json(how),
            "about": About(**facts_["about"]),
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the report's account of the file's metadata cannot be read ({error!r})") from error


def preprocessing_to_json(how: Preprocessing) -> dict[str, object]:
    """Sizes as lists of height and width."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(how).items()}


def preprocessing_from_json(said: dict[str, object]) -> Preprocessing:
    """The inverse. Raises: AttributeError, TypeError, ValueError for what is none."""
    return Preprocessing(**{key: tuple(value) if isinstance(value, list) else value for key, value in said.items()})


def normalization_from_json(said: dict[str, list[float]] | None) -> Normalization | None:
    """None for None. Raises: AttributeError, TypeError, ValueError for what is none."""
    if said is None:
        return None
    return Normalization(**{key: tuple(float(number) for number in values) for key, values in said.items()})


def _rule(said: dict[str, object]) -> Suppression:
    """Raises: TypeError, ValueError for what is no suppression."""
    rule = Suppression(**said)
    thresholds, limits = (rule.score_threshold, rule.iou_threshold), (rule.kept_per_class, rule.kept)
    are_shares = all(type(each) is float and 0 <= each <= 1 for each in thresholds)
    are_counts = all(each is None or (type(each) is int and each > 0) for each in limits)
    if not (are_shares and are_counts and type(rule.one_class) is bool):
        raise ValueError(f"no suppression: {said}")
    return rule

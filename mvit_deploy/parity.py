"""Numbers and verdicts: how far a file's outputs are from PyTorch's, and whether that is near enough.

The floors stand here, fixed before any artefact exists, and are never derived from the error that they judge.
"""

from dataclasses import asdict, dataclass

import numpy as np

MATCH, MISMATCH, NOT_RUN = "match", "mismatch", "not_run"

SQNR_CAP_DB = 300.0
PROBABILITY_FLOOR = 1e-6


@dataclass(frozen=True)
class Tolerance:
    """Floors of a precision. each: on every single input; photos: on the outputs pooled over real photos;
    synthetic: on the outputs pooled over noise and extremes. None is no floor."""

    rel_max_each: float | None = None
    sqnr_db_each: float | None = None
    sqnr_db_photos: float | None = None
    rel_max_synthetic: float | None = None

    def to_json(self) -> dict[str, float]:
        return {key: value for key, value in asdict(self).items() if value is not None}


TOLERANCES = {
    "fp32": Tolerance(rel_max_each=1e-4, sqnr_db_each=80.0),
    "fp16": Tolerance(sqnr_db_photos=40.0, rel_max_synthetic=3e-2),
}


@dataclass(frozen=True)
class Errors:
    """How far a candidate is from the reference. Ratios are to the reference; a value that is not finite is None."""

    max_abs: float | None
    rel_max: float | None
    sqnr_db: float | None
    cosine: float | None
    top1_agreement: float | None


@dataclass(frozen=True)
class Judgement:
    """A verdict, why, and the errors over all inputs and over the photos alone."""

    verdict: str
    reason: str
    errors: Errors
    photo_errors: Errors | None
    worst: str  # name of the input with the largest rel_max


def measure(*, reference: np.ndarray, candidate: np.ndarray) -> Errors:
    """Errors of a candidate over all inputs pooled.

    Shapes: both (inputs, ...), alike. rel_max = max|d| / max|ref|; sqnr_db = 10 log10(sum ref^2 / sum d^2), capped at
    300; top1_agreement is the share of rows with the same argmax, None where an output is not a row of classes.
    """
    ref, got = reference.astype(np.float64), candidate.astype(np.float64)
    if not (np.isfinite(ref).all() and np.isfinite(got).all()):
        return Errors(None, None, None, None, None)
    difference = got - ref
    max_abs = float(np.abs(difference).max())
    signal, noise = float((ref**2).sum()), float((difference**2).sum())
    return Errors(
        max_abs=max_abs,
        rel_max=_ratio(max_abs, float(np.abs(ref).max())),
        sqnr_db=_sqnr_db(signal, noise),
        cosine=_ratio(float((ref * got).sum()), float(np.sqrt(signal * (got**2).sum()))),
        top1_agreement=float((ref.argmax(1) == got.argmax(1)).mean()) if ref.ndim == 2 else None,
    )


def comparable(values: np.ndarray, meaning: str) -> np.ndarray:
    """Values as they are compared: logits as they are, probabilities as mean-centred logarithms, clipped at 1e-6.

    Shapes: (inputs, classes) -> the same. Softmax loses a constant per row, so the reference's logits are passed
    through log_probabilities first.
    """
    if meaning != "probabilities":
        return values
    logs = np.log(np.clip(values.astype(np.float64), PROBABILITY_FLOOR, None))
    return logs - logs.mean(axis=1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, in float64. Shapes: (inputs, classes) -> the same."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def judge(
    *, precision: str, reference: np.ndarray, candidate: np.ndarray, kinds: tuple[str, ...], names: tuple[str, ...]
) -> Judgement:
    """Hold a candidate's outputs against the floors of its precision.

    Shapes: reference and candidate (inputs, ...), comparable values; kinds and names one per input. A value that is not
    finite, on either side, and outputs of different shapes are always a mismatch.
    """
    if reference.shape != candidate.shape:
        reason = f"outputs have shape {candidate.shape}, the reference has {reference.shape}"
        return Judgement(MISMATCH, reason, Errors(None, None, None, None, None), None, "")
    each = [measure(reference=reference[i : i + 1], candidate=candidate[i : i + 1]) for i in range(len(kinds))]
    photos = np.array([kind == "photo" for kind in kinds])
    photo_errors = measure(reference=reference[photos], candidate=candidate[photos]) if photos.any() else None
    others = measure(reference=reference[~photos], candidate=candidate[~photos]) if not photos.all() else None
    faults = _each_faults(TOLERANCES[precision], each, names) + _pooled_faults(
        TOLERANCES[precision], photo_errors, others
    )
    worst = max(range(len(each)), key=lambda i: np.inf if each[i].rel_max is None else each[i].rel_max)
    return Judgement(
        verdict=MISMATCH if faults else MATCH,
        reason="; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else ""),
        errors=measure(reference=reference, candidate=candidate),
        photo_errors=photo_errors,
        worst=names[worst],
    )


def _each_faults(floor: Tolerance, each: list[Errors], names: tuple[str, ...]) -> list[str]:
    faults = []
    for errors, name in zip(each, names, strict=True):
        if errors.max_abs is None:
            faults.append(f"{name}: a value is not finite")
            continue
        faults += _above(f"{name}: rel_max", errors.rel_max, floor.rel_max_each)
        faults += _below(f"{name}: sqnr_db", errors.sqnr_db, floor.sqnr_db_each)
    return faults


def _pooled_faults(floor: Tolerance, photos: Errors | None, others: Errors | None) -> list[str]:
    """The floors of a precision whose small outputs, as of a black image, may lose more than the rest."""
    faults = []
    if others is not None and others.max_abs is not None:
        faults += _above("noise and extremes: rel_max", others.rel_max, floor.rel_max_synthetic)
    if floor.sqnr_db_photos is not None and photos is None:
        faults.append("no photo to judge on")
    elif photos is not None:
        faults += _below("photos: sqnr_db", photos.sqnr_db, floor.sqnr_db_photos)
    return faults


def _above(what: str, value: float | None, limit: float | None) -> list[str]:
    """A fault unless value <= limit (written so that an unordered value fails)."""
    return [] if limit is None or (value is not None and value <= limit) else [f"{what} {_show(value)} > {limit:g}"]


def _below(what: str, value: float | None, limit: float | None) -> list[str]:
    return [] if limit is None or (value is not None and value >= limit) else [f"{what} {_show(value)} < {limit:g}"]


def _show(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}"


def _ratio(value: float, scale: float) -> float | None:
    """value / scale; 0 where both are 0, None (infinite) where only the scale is."""
    if scale > 0:
        return value / scale
    return 0.0 if value == 0 else None


def _sqnr_db(signal: float, noise: float) -> float | None:
    if noise == 0:
        return SQNR_CAP_DB
    return None if signal == 0 else min(SQNR_CAP_DB, 10 * float(np.log10(signal / noise)))

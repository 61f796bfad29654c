"""Numbers and verdicts: how far a file's outputs are from PyTorch's, and whether that is near enough.

The floors stand here, fixed before any artefact exists, and are never derived from the error that they judge.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from mvit_deploy.spec import CLASSES, QUANTIZED

MATCH, MISMATCH, NOT_RUN = "match", "mismatch", "not_run"

SQNR_CAP_DB = 300.0
PROBABILITY_FLOOR = 1e-6
AGREEMENT_LEAST_PHOTOS = 100  # of fewer, one photo would weigh more than the 5 % that are allowed


@dataclass(frozen=True)
class Tolerance:
    """Floors of a precision. each: on every single input; photos: on the outputs pooled over real photos;
    synthetic: on the outputs pooled over noise and extremes. None is no floor.

    mean_kl and top1_agreement are for rows of classes; top1_agreement holds from so many photos on.
    """

    rel_max_each: float | None = None
    sqnr_db_each: float | None = None
    sqnr_db_photos: float | None = None
    rel_max_synthetic: float | None = None
    mean_kl_photos: float | None = None
    top1_agreement_photos: float | None = None
    top1_agreement_least_photos: int | None = None

    def to_json(self) -> dict[str, float]:
        return {key: value for key, value in asdict(self).items() if value is not None}


_INT8_WEIGHTS = Tolerance(
    sqnr_db_photos=20.0,
    mean_kl_photos=0.02,
    top1_agreement_photos=0.95,
    top1_agreement_least_photos=AGREEMENT_LEAST_PHOTOS,
)
TOLERANCES = {
    "fp32": Tolerance(rel_max_each=1e-4, sqnr_db_each=80.0),
    "fp16": Tolerance(sqnr_db_photos=40.0, rel_max_synthetic=3e-2),
    "w8": _INT8_WEIGHTS,
    "w8a16": _INT8_WEIGHTS,
    "w8a8": replace(_INT8_WEIGHTS, sqnr_db_photos=15.0, mean_kl_photos=0.05),
}

# Share of the points of a map of classes, pooled over photos: near ties fall either way. As there is for logits, where
# many photos judge.
CLASS_MAP_AGREEMENT = {"fp32": 0.999, "fp16": 0.98, "w8": 0.95, "w8a16": 0.95, "w8a8": 0.95}

# Share of the detections of both sides that the other side has too, pooled over photos: of floats all, but for those on
# which a score or an overlap decides that is within DETECTION_SLACK of a threshold; of integers where there are as many
# as DETECTION_LEAST.
DETECTION_AGREEMENT = {"fp32": 1.0, "fp16": 1.0, "w8": 0.95, "w8a16": 0.95, "w8a8": 0.95}
DETECTION_SLACK = {"fp32": (1e-3, 1e-2), "fp16": (1e-2, 5e-2)} | dict.fromkeys(QUANTIZED, (0.1, 0.1))
DETECTION_LEAST = 100

# How far the probability of a class may be from PyTorch's on any photo. fp16: 1e-2, which is asked of Core ML's beside
# 40 dB. fp32: what logits that differ by 1e-4 of 20 can make of it. Integers move near ties at will.
PROBABILITY_TOLERANCES = {"fp32": 1e-3, "fp16": 1e-2}
PROBABILITY_SUM_SLACK = 1e-3  # of 1: a thousand classes in half precision are 5e-4 off


@dataclass(frozen=True)
class Errors:
    """How far a candidate is from the reference over count inputs. Ratios are to the reference; a value that is not
    finite is None, and so are top1_agreement and mean_kl of outputs that are no rows of classes."""

    count: int
    max_abs: float | None = None
    rel_max: float | None = None
    sqnr_db: float | None = None
    cosine: float | None = None
    top1_agreement: float | None = None
    mean_kl: float | None = None


@dataclass(frozen=True)
class Judgement:
    """A verdict, why, the errors over all inputs and over the photos alone, and the floors that were applied."""

    verdict: str
    reason: str
    errors: Errors
    photo_errors: Errors | None
    worst: str  # name of the input with the largest rel_max
    tolerance: Tolerance


def class_axis(meaning: str, rank: int) -> int | None:
    """Where an output with a batch has its classes: (B, C) and maps (B, C, H, W) of logits, anchors (B, A, C); None
    for what is no row of classes."""
    if meaning not in ("logits", "probabilities", "scores"):
        return None
    return {2: 1, 3: 2, 4: 1}.get(rank)


def measure(*, reference: np.ndarray, candidate: np.ndarray, classes: int | None = None) -> Errors:
    """Errors of a candidate over all inputs pooled.

    Shapes: both (inputs, ...), alike; classes is the axis of classes, by default 1 of two, and what is beside it are
    rows. rel_max = max|d| / max|ref|; sqnr_db = 10 log10(sum ref^2 / sum d^2), capped at 300; top1_agreement is the
    share of rows with the same argmax, mean_kl the mean over the rows of KL(softmax(reference) || softmax(candidate))
    in nats, both None where an output holds no rows of classes. Of whole numbers, as of maps of classes, there is the
    share of those that are equal.
    """
    if reference.dtype.kind == "i":
        difference = np.abs(candidate.astype(np.int64) - reference)
        agreement = float((difference == 0).mean())
        return Errors(len(reference), max_abs=float(difference.max()), top1_agreement=agreement)
    ref, got = reference.astype(np.float64), candidate.astype(np.float64)
    if not (np.isfinite(ref).all() and np.isfinite(got).all()):
        return Errors(len(ref))
    difference = got - ref
    max_abs = float(np.abs(difference).max())
    signal, noise = float((ref**2).sum()), float((difference**2).sum())
    axis = 1 if classes is None and ref.ndim == 2 else classes
    rows = None if axis is None else [np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis]) for x in (ref, got)]
    return Errors(
        count=len(ref),
        max_abs=max_abs,
        rel_max=_ratio(max_abs, float(np.abs(ref).max())),
        sqnr_db=_sqnr_db(signal, noise),
        cosine=_ratio(float((ref * got).sum()), float(np.sqrt(signal * (got**2).sum()))),
        top1_agreement=None if rows is None else float((rows[0].argmax(1) == rows[1].argmax(1)).mean()),
        mean_kl=None if rows is None else _mean_kl(*rows),
    )


def _mean_kl(reference: np.ndarray, candidate: np.ndarray) -> float | None:
    """Mean over the rows of KL(softmax(reference) || softmax(candidate)), in nats; None where it overflows."""
    log_p, log_q = _log_softmax(reference), _log_softmax(candidate)
    mean = float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean())
    return max(0.0, mean) if np.isfinite(mean) else None  # rounding alone makes it negative


def comparable(values: np.ndarray, meaning: str) -> np.ndarray:
    """Values as they are compared: logits as they are, probabilities as mean-centred logarithms, clipped at 1e-6.

    Shapes: (inputs, …, classes) -> the same. Softmax loses a constant per row, so the reference's logits are passed
    through log_probabilities first.
    """
    if meaning not in ("probabilities", "scores"):
        return values
    logs = np.log(np.clip(values.astype(np.float64), PROBABILITY_FLOOR, None))
    return logs - logs.mean(axis=-1, keepdims=True)


def foreground(reference: np.ndarray, candidate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores with the background and scores without it, as they are compared: logarithms, clipped at 1e-6, less the
    mean of the reference's whole row, so that a common factor shows. A candidate of other rows stays as it is.

    Shapes: (…, C) and (…, C - 1) -> twice (…, C - 1).
    """
    logs, others = (np.log(np.clip(v.astype(np.float64), PROBABILITY_FLOOR, None)) for v in (reference, candidate))
    mean = logs.mean(axis=-1, keepdims=True)
    return (logs - mean)[..., 1:], others - mean if others.shape[:-1] == mean.shape[:-1] else candidate


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, in float64. Shapes: (inputs, classes) -> the same."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Its own function, not log(softmax): the probability of a class far behind would be 0 and its logarithm lost."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def judge(
    *,
    precision: str,
    reference: np.ndarray,
    candidate: np.ndarray,
    kinds: tuple[str, ...],
    names: tuple[str, ...],
    meaning: str = "logits",
    report_only: str | None = None,
) -> Judgement:
    """Hold a candidate's outputs against the floors of its precision.

    Shapes: reference and candidate (inputs, ...), comparable values; kinds and names one per input: photos are judged,
    noise and extremes too where the precision says so, other kinds are reported. A value that is not finite, on either
    side, and outputs of different shapes are always a mismatch. report_only is why no floor holds: what is finite then
    matches, for that reason.
    """
    axis = class_axis(meaning, reference.ndim)
    floor = floor_of(precision, meaning, reference.ndim, report_only=report_only)
    if reference.shape != candidate.shape:
        reason = f"outputs have shape {candidate.shape}, the reference has {reference.shape}"
        return Judgement(MISMATCH, reason, Errors(0), None, "", floor)
    each = [_errors_of(reference, candidate, np.arange(len(kinds)) == i, axis) for i in range(len(kinds))]
    photos = _errors_of(reference, candidate, np.array([kind == "photo" for kind in kinds]), axis)
    synthetic = _errors_of(reference, candidate, np.array([kind in ("noise", "extreme") for kind in kinds]), axis)
    faults = _each_faults(floor, each, names) + _pooled_faults(floor, photos, synthetic)
    worst = max(range(len(each)), key=lambda i: np.inf if each[i].rel_max is None else each[i].rel_max)
    return Judgement(
        verdict=MISMATCH if faults else MATCH,
        reason=_first_three(faults) if faults else report_only or "",
        errors=measure(reference=reference, candidate=candidate, classes=axis),
        photo_errors=photos,
        worst=names[worst],
        tolerance=floor,
    )


def floor_of(precision: str, meaning: str, rank: int, *, report_only: str | None = None) -> Tolerance:
    """The floors of outputs of a meaning and a rank, the batch counted; none where numbers are only reported."""
    if report_only:
        return Tolerance()
    if meaning == CLASSES:
        return Tolerance(top1_agreement_photos=CLASS_MAP_AGREEMENT[precision])
    floor = TOLERANCES[precision]
    if class_axis(meaning, rank) is not None:
        return floor
    return replace(floor, mean_kl_photos=None, top1_agreement_photos=None, top1_agreement_least_photos=None)


def recorded_faults(floor: Tolerance, errors: Errors, photos: Errors | None) -> list[str]:
    """Where numbers over all inputs and over photos, as a report has them, cannot be of a file that keeps the floors.

    Of floors on each input the numbers over all are held to the same: none can be worse than the worst input.
    """
    faults = _above("rel_max", errors.rel_max, floor.rel_max_each)
    faults += _below("sqnr_db", errors.sqnr_db, floor.sqnr_db_each)
    return faults if photos is None else faults + _photo_faults(floor, photos)


def loosened(recorded: Mapping[str, object], floor: Tolerance) -> list[str]:
    """The floors that a recorded tolerance does not have, or has looser; empty where it is as strict."""
    faults = []
    for key, limit in floor.to_json().items():
        value, is_least = recorded.get(key), key.startswith(("sqnr_db", "top1_agreement_photos"))
        if not isinstance(value, int | float) or not (value >= limit if is_least else value <= limit):
            faults.append(f"{key} {value}, this version's is {limit:g}")
    return faults


def _errors_of(reference: np.ndarray, candidate: np.ndarray, mask: np.ndarray, axis: int | None) -> Errors | None:
    """Errors over some of the inputs pooled, None for none."""
    if not mask.any():
        return None
    return measure(reference=reference[mask], candidate=candidate[mask], classes=axis)


def _first_three(faults: list[str]) -> str:
    return "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")


def _each_faults(floor: Tolerance, each: list[Errors], names: tuple[str, ...]) -> list[str]:
    faults = []
    for errors, name in zip(each, names, strict=True):
        if errors.max_abs is None:
            faults.append(f"{name}: a value is not finite")
            continue
        faults += _above(f"{name}: rel_max", errors.rel_max, floor.rel_max_each)
        faults += _below(f"{name}: sqnr_db", errors.sqnr_db, floor.sqnr_db_each)
    return faults


def _pooled_faults(floor: Tolerance, photos: Errors | None, synthetic: Errors | None) -> list[str]:
    """The floors of a precision whose small outputs, as of a black image, may lose more than the rest."""
    faults = []
    if synthetic is not None and synthetic.max_abs is not None:
        faults += _above("noise and extremes: rel_max", synthetic.rel_max, floor.rel_max_synthetic)
    if photos is not None:
        return faults + _photo_faults(floor, photos)
    return faults if floor.sqnr_db_photos is None else [*faults, "no photo to judge on"]


def _photo_faults(floor: Tolerance, photos: Errors) -> list[str]:
    faults = _below("photos: sqnr_db", photos.sqnr_db, floor.sqnr_db_photos)
    faults += _above("photos: mean_kl", photos.mean_kl, floor.mean_kl_photos)
    if photos.count >= (floor.top1_agreement_least_photos or 0):
        faults += _below("photos: top1_agreement", photos.top1_agreement, floor.top1_agreement_photos)
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

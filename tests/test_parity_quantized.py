"""The verdicts of quantized files, and each floor of each precision as the exact boundary that it is."""

from dataclasses import asdict, dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mvit_deploy import parity
from mvit_deploy.parity import MATCH, MISMATCH, TOLERANCES, Judgement, judge, measure

QUANTIZED = ("w8", "w8a16", "w8a8")
FLOORS = {"w8": (20.0, 0.02), "w8a16": (20.0, 0.02), "w8a8": (15.0, 0.05)}  # sqnr_db, mean KL: the design's table
HAIR = 1e-6
LEVEL = 1000.0  # a common part of all logits: softmax does not see it, sqnr_db has it as signal
rows = hnp.arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32))


def judged(
    precision: str, reference: np.ndarray, candidate: np.ndarray, kinds: tuple[str, ...] | None = None, **more: object
) -> Judgement:
    kinds = kinds or ("photo",) * len(reference)
    names = tuple(map(str, range(len(kinds))))
    return judge(precision=precision, reference=reference, candidate=candidate, kinds=kinds, names=names, **more)


def kl_by_sums(reference: np.ndarray, candidate: np.ndarray) -> float:
    """The definition, on probabilities."""
    p, q = parity.softmax(reference), parity.softmax(candidate)
    return float(
        np.mean([sum(a * np.log(a / b) for a, b in zip(x, y, strict=True)) for x, y in zip(p, q, strict=True)])
    )


def test_mean_kl_by_hand() -> None:
    """(1/2, 1/2) against (1/4, 3/4): ln 2 - ln 3 / 2; the other row is equal, so half of that."""
    reference = np.zeros((2, 2))
    candidate = np.log([[1, 3], [5, 5]])

    assert measure(reference=reference, candidate=candidate).mean_kl == pytest.approx((np.log(2) - np.log(3) / 2) / 2)


def test_mean_kl_is_from_the_reference_to_the_candidate() -> None:
    """The other way round it is ln(3) 3/4 - ln 2, by hand."""
    reference = np.log([[1.0, 3.0]])

    found = measure(reference=reference, candidate=np.zeros((1, 2))).mean_kl

    assert found == pytest.approx(0.75 * np.log(3) - np.log(2))


@given(rows, rows)
def test_mean_kl_is_its_definition_and_never_below_the_distance(reference: np.ndarray, candidate: np.ndarray) -> None:
    """Pinsker: KL >= (sum |p - q|)^2 / 2, so it is 0 only where the probabilities are equal."""
    found = measure(reference=reference, candidate=candidate).mean_kl
    distance = np.abs(parity.softmax(reference) - parity.softmax(candidate)).sum(axis=1)

    assert found >= (distance**2).mean() / 2 - 1e-12
    assert found >= 0
    if np.ptp(reference) < 50 and np.ptp(candidate) < 50:
        assert found == pytest.approx(kl_by_sums(reference, candidate), rel=1e-6, abs=1e-12)


@given(rows, hnp.arrays(np.float32, (3, 1), elements=st.floats(-100, 100, width=32)))
def test_mean_kl_is_0_for_rows_that_differ_by_a_constant(values: np.ndarray, shift: np.ndarray) -> None:
    moved = values.astype(np.float64) + shift

    assert measure(reference=values, candidate=moved).mean_kl == pytest.approx(0, abs=1e-12)


@given(st.floats(min_value=2.0**100, max_value=float(np.finfo(np.float32).max), width=32))
def test_mean_kl_is_finite_for_whatever_a_float32_holds(huge: float) -> None:
    reference = np.array([[huge, -huge, 0]], np.float32)

    found = measure(reference=reference, candidate=-reference).mean_kl

    assert found == pytest.approx(2 * huge)


def test_mean_kl_and_agreement_are_for_rows_of_classes_alone() -> None:
    maps = np.ones((2, 3, 4, 4))

    errors = measure(reference=maps, candidate=maps)

    assert (errors.mean_kl, errors.top1_agreement) == (None, None)


@dataclass(frozen=True)
class Case:
    """Outputs as many times a floor's error as asked, all other floors held with ease."""

    reference: np.ndarray
    error: np.ndarray  # added to the reference where the error is just at the floor
    kinds: tuple[str, ...]


def sqnr_case(sqnr_db: float, kind: str = "photo") -> Case:
    """Rows of a 10 and 99 zeros, moved by a constant, which neither KL nor agreement sees: 10 log10(1 / error^2)."""
    reference = np.tile([10.0] + [0.0] * 99, (8, 1))
    return Case(reference, np.full((8, 100), 10 ** (-sqnr_db / 20)), (kind,) * 8)


def rel_max_case(rel_max: float, kind: str) -> Case:
    """One value in two rows; a photo that is right stands beside it, since some precisions cannot do without."""
    reference = np.array([[10.0, -10.0] * 50, [10.0, -10.0] * 50])
    error = np.zeros_like(reference)
    error[1, 0] = 10 * rel_max
    return Case(reference, error, ("photo", kind))


def kl_case(mean_kl: float) -> Case:
    """Of (1/2, 1/2), moved by (a, -a), KL is ln cosh a."""
    a = np.arccosh(np.exp(mean_kl))
    return Case(np.full((8, 2), LEVEL), np.tile([a, -a], (8, 1)), ("photo",) * 8)


BOUNDARIES = [
    ("fp32", "rel_max", rel_max_case(1e-4, "photo")),
    ("fp32", "rel_max", rel_max_case(1e-4, "noise")),
    ("fp32", "sqnr_db", sqnr_case(80.0)),
    ("fp32", "sqnr_db", sqnr_case(80.0, "extreme")),
    ("fp16", "sqnr_db", sqnr_case(40.0)),
    ("fp16", "rel_max", rel_max_case(3e-2, "noise")),
    *[(precision, "sqnr_db", sqnr_case(FLOORS[precision][0])) for precision in QUANTIZED],
    *[(precision, "mean_kl", kl_case(FLOORS[precision][1])) for precision in QUANTIZED],
]


@pytest.mark.parametrize(("precision", "floor", "case"), BOUNDARIES, ids=lambda value: value if str(value) else "")
def test_each_floor_is_an_exact_boundary(precision: str, floor: str, case: Case) -> None:
    within = judged(precision, case.reference, case.reference + case.error * (1 - HAIR), case.kinds)
    beyond = judged(precision, case.reference, case.reference + case.error * (1 + HAIR), case.kinds)

    assert (within.verdict, within.reason) == (MATCH, "")
    assert beyond.verdict == MISMATCH
    assert all(f": {floor} " in fault for fault in beyond.reason.split("; ") if not fault.startswith("and "))


def with_flips(count: int, flips: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose first class is ahead by a hair, and the same with the second ahead in some."""
    reference = np.tile([LEVEL + 1e-3, LEVEL], (count, 1))
    candidate = reference.copy()
    candidate[:flips] = candidate[:flips, ::-1]
    return reference, candidate


@pytest.mark.parametrize("precision", QUANTIZED)
@pytest.mark.parametrize(
    ("count", "flips", "verdict"),
    [(100, 5, MATCH), (100, 6, MISMATCH), (101, 5, MATCH), (101, 6, MISMATCH), (400, 20, MATCH), (400, 21, MISMATCH),
     (99, 99, MATCH)],
)  # fmt: skip
def test_95_of_100_agree_where_there_are_100(precision: str, count: int, flips: int, verdict: str) -> None:
    """Of 99 photos none needs to: one photo there is no proof."""
    result = judged(precision, *with_flips(count, flips))

    assert result.verdict == verdict
    assert ("top1_agreement" in result.reason) == (verdict == MISMATCH)


@pytest.mark.parametrize("precision", QUANTIZED)
def test_only_photos_count_towards_the_100_and_the_agreement(precision: str) -> None:
    reference, candidate = with_flips(120, 40)
    kinds = ("builtin",) * 20 + ("noise",) * 20 + ("photo",) * 80

    result = judged(precision, reference, candidate, kinds)

    assert result.verdict == MATCH
    assert (result.photo_errors.count, result.photo_errors.top1_agreement) == (80, 1.0)
    assert (result.errors.count, result.errors.top1_agreement) == (120, pytest.approx(80 / 120))


@pytest.mark.parametrize("precision", QUANTIZED)
@pytest.mark.parametrize("kind", ["builtin", "noise", "extreme"])
def test_what_is_no_photo_of_theirs_is_reported_but_has_to_be_finite(precision: str, kind: str) -> None:
    reference = np.tile([10.0, -10.0], (2, 1))
    wrong, broken = reference * [[1], [-1]], reference.copy()
    broken[1, 0] = np.nan

    reported = judged(precision, reference, wrong, ("photo", kind))

    assert reported.verdict == MATCH
    assert reported.errors.rel_max == pytest.approx(2.0)
    assert reported.worst == "1"
    assert judged(precision, reference, broken, ("photo", kind)).verdict == MISMATCH


@pytest.mark.parametrize("precision", QUANTIZED)
def test_without_a_photo_nothing_is_proven(precision: str) -> None:
    result = judged(precision, np.ones((2, 4)), np.ones((2, 4)), ("builtin", "noise"))

    assert (result.verdict, result.reason) == (MISMATCH, "no photo to judge on")


@pytest.mark.parametrize("precision", QUANTIZED)
def test_outputs_that_are_no_classes_are_held_to_sqnr_alone(precision: str) -> None:
    """Of maps and boxes there is no softmax over the second axis to speak of."""
    maps = np.random.default_rng(0).normal(size=(120, 3, 4, 4))

    result = judged(precision, maps, maps * 1.01, meaning="features")

    assert result.verdict == MATCH
    assert result.tolerance.to_json() == {"sqnr_db_photos": FLOORS[precision][0]}
    assert judged(precision, maps, maps * 1.3, meaning="features").verdict == MISMATCH


@pytest.mark.parametrize("axis", [1, 2])
def test_every_pixel_of_a_map_and_every_anchor_is_a_row_of_classes(axis: int) -> None:
    """A map of logits has its classes first (B, C, H, W), anchors have them last (B, A, C)."""
    rows = np.random.default_rng(0).normal(size=(4 * 6, 3))
    wrong = rows.copy()
    wrong[:6] = -wrong[:6]
    grouped = [x.reshape(4, 6, 3) if axis == 2 else x.reshape(4, 2, 3, 3).transpose(0, 3, 1, 2) for x in (rows, wrong)]

    found = judged("w8", *grouped, kinds=("photo",) * 4)
    flat = parity.measure(reference=rows, candidate=wrong)

    assert found.errors.top1_agreement == flat.top1_agreement
    assert found.errors.mean_kl == pytest.approx(flat.mean_kl)
    assert found.errors.count == 4


def test_the_report_says_every_floor_and_from_how_many_photos_agreement_holds() -> None:
    expected = {"top1_agreement_photos": 0.95, "top1_agreement_least_photos": parity.AGREEMENT_LEAST_PHOTOS}

    for precision, (sqnr_db, mean_kl) in FLOORS.items():
        assert TOLERANCES[precision].to_json() == {"sqnr_db_photos": sqnr_db, "mean_kl_photos": mean_kl} | expected
    assert parity.AGREEMENT_LEAST_PHOTOS == 100


@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_reason_to_report_only_lifts_the_floors(precision: str) -> None:
    reference = np.tile([10.0, -10.0], (120, 1))

    result = judged(precision, reference, -reference, report_only="the weights are random")

    assert (result.verdict, result.reason) == (MATCH, "the weights are random")
    assert result.photo_errors.sqnr_db == pytest.approx(-20 * np.log10(2))
    assert result.tolerance.to_json() == {}
    assert judged(precision, reference, -reference, report_only="").verdict == MISMATCH


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("kind", ["photo", "builtin", "noise", "extreme"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_reason_to_report_only_excuses_neither_infinity_nor_a_wrong_shape(
    precision: str, kind: str, bad: float
) -> None:
    reference = np.ones((2, 4))
    broken = reference.copy()
    broken[1, 2] = bad

    result = judged(precision, reference, broken, ("photo", kind), report_only="the weights are random")
    reshaped = judged(precision, reference, np.ones((2, 5)), ("photo", kind), report_only="the weights are random")

    assert (result.verdict, result.reason) == (MISMATCH, "1: a value is not finite")
    assert reshaped.verdict == MISMATCH
    assert "(2, 5)" in reshaped.reason


def test_errors_that_are_not_finite_still_say_how_many_were_judged() -> None:
    errors = measure(reference=np.ones((3, 2)), candidate=np.full((3, 2), np.nan))

    assert errors.count == 3
    assert all(value is None for name, value in asdict(errors).items() if name != "count")


def test_probabilities_are_judged_by_the_kl_of_what_was_clipped() -> None:
    """Softmax of mean-centred log-probabilities gives the probabilities again, clipped ones renormalised."""
    p, q = np.array([[0.5, 0.5, 0.0]]), np.array([[0.4, 0.6, 0.0]])
    by_hand = 0.5 * np.log(0.5 / 0.4) + 0.5 * np.log(0.5 / 0.6)

    found = measure(
        reference=parity.comparable(p, "probabilities"), candidate=parity.comparable(q, "probabilities")
    ).mean_kl

    assert found == pytest.approx(by_hand, rel=1e-4)

"""Numbers and verdicts, checked by hand arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mvit_deploy import parity
from mvit_deploy.parity import MATCH, MISMATCH, TOLERANCES, Judgement, judge, measure

PHOTO_AND_NOISE = ("photo", "noise")
rows = hnp.arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32))


def judged(precision: str, reference: np.ndarray, candidate: np.ndarray, kinds: tuple[str, ...]) -> Judgement:
    return judge(
        precision=precision,
        reference=reference,
        candidate=candidate,
        kinds=kinds,
        names=tuple(map(str, range(len(kinds)))),
    )


def logits(*values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_measure_by_hand() -> None:
    errors = measure(reference=logits((3, 4), (0, 5)), candidate=logits((3, 4), (0, 4)))

    assert errors.max_abs == 1.0
    assert errors.rel_max == pytest.approx(1 / 5)
    assert errors.sqnr_db == pytest.approx(10 * np.log10(50 / 1))
    assert errors.cosine == pytest.approx((25 + 20) / np.sqrt(50 * 41))
    assert errors.top1_agreement == 1.0


def test_measure_is_not_symmetric_and_so_takes_names_only() -> None:
    """The roles are forced by keyword: swapped, the ratios would silently change."""
    with pytest.raises(TypeError):
        measure(logits((1, 2)), logits((1, 2)))


def test_agreement_is_the_share_of_rows_with_the_same_argmax() -> None:
    errors = measure(reference=logits((1, 2), (2, 1), (1, 2), (1, 2)), candidate=logits((1, 2), (1, 2), (1, 2), (1, 2)))

    assert errors.top1_agreement == 0.75


@given(rows)
def test_a_copy_is_perfect(values: np.ndarray) -> None:
    errors = measure(reference=values, candidate=values.copy())

    assert (errors.max_abs, errors.rel_max, errors.sqnr_db, errors.top1_agreement) == (0.0, 0.0, 300.0, 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("side", ["reference", "candidate"])
def test_what_is_not_finite_is_always_a_mismatch(bad: float, precision: str, side: str) -> None:
    """On either side: a NaN in both would otherwise compare as equal or as nothing."""
    arrays = {name: np.ones((2, 4), np.float32) for name in ("reference", "candidate")}
    arrays[side][1, 2] = bad

    result = judged(precision, arrays["reference"], arrays["candidate"], PHOTO_AND_NOISE)

    assert result.verdict == MISMATCH
    assert "1: a value is not finite" in result.reason
    assert result.errors.max_abs is None


def test_both_nan_is_a_mismatch() -> None:
    nan = np.full((2, 4), np.nan, np.float32)

    assert judged("fp32", nan, nan, PHOTO_AND_NOISE).verdict == MISMATCH


def test_measuring_leaves_the_callers_arrays_alone() -> None:
    values = np.array([[np.nan, 1.0]], np.float32)

    measure(reference=np.ones((1, 2), np.float32), candidate=values)

    assert np.isnan(values[0, 0])


@given(rows, st.floats(1e-6, 1e-2), st.integers(0, 2), st.integers(0, 3))
@settings(deadline=None)
def test_fp32_holds_every_single_input_to_its_floor(values: np.ndarray, shift: float, row: int, column: int) -> None:
    """An error in one input is not diluted by the others."""
    reference = values.astype(np.float64) + 1000 * np.eye(3, 4)
    candidate = reference.copy()
    candidate[row, column] += shift * np.abs(reference[row]).max()
    shift_db = 10 * np.log10((reference[row] ** 2).sum() / (shift * np.abs(reference[row]).max()) ** 2)

    result = judged("fp32", reference, candidate, ("photo", "noise", "extreme"))

    within = shift <= 1e-4 * (1 - 1e-6) and shift_db >= 80 + 1e-6
    beyond = shift >= 1e-4 * (1 + 1e-6) or shift_db <= 80 - 1e-6
    if within:
        assert result.verdict == MATCH
    if beyond:
        assert result.verdict == MISMATCH


def test_fp16_pools_photos_and_holds_the_rest_by_rel_max() -> None:
    reference = np.full((3, 4), 10.0)
    kinds = ("photo", "photo", "extreme")
    one_bad_photo = reference + [[0.12], [0.0], [0.0]]  # 38.4 dB alone, 41.4 dB pooled
    bad_extreme = reference + [[0.0], [0.0], [0.31]]

    assert judged("fp16", reference, one_bad_photo, kinds).verdict == MATCH
    assert judged("fp16", reference, reference + [[0.12], [0.12], [0.0]], kinds).verdict == MISMATCH
    assert judged("fp16", reference, reference + [[0.0], [0.0], [0.29]], kinds).verdict == MATCH
    assert judged("fp16", reference, bad_extreme, kinds).verdict == MISMATCH


def test_fp16_pools_noise_and_extremes_so_that_a_nearly_silent_input_is_no_false_alarm() -> None:
    """All black alone gives a trained network small logits: 29 dB, where noise and extremes together have 38."""
    reference = np.array([[10.0, -10.0], [10.0, -10.0], [0.4, -0.4]])
    kinds = ("photo", "noise", "extreme")

    assert judged("fp16", reference, reference + [[0, 0], [0, 0], [0.02, 0]], kinds).verdict == MATCH
    assert judged("fp16", reference, reference + [[0, 0], [0, 0], [0.31, 0]], kinds).verdict == MISMATCH


def test_fp16_without_a_photo_cannot_match() -> None:
    values = np.ones((1, 4))

    assert judged("fp16", values, values, ("noise",)).verdict == MISMATCH


def test_outputs_of_another_shape_are_a_mismatch() -> None:
    result = judged("fp32", np.ones((2, 4)), np.ones((2, 5)), PHOTO_AND_NOISE)

    assert result.verdict == MISMATCH
    assert "(2, 5)" in result.reason


def test_an_output_that_is_all_zero_is_not_hidden_by_a_zero_reference() -> None:
    zeros, ones = np.zeros((1, 4)), np.ones((1, 4))

    assert judged("fp32", zeros, zeros, ("photo",)).verdict == MATCH
    assert judged("fp32", zeros, ones, ("photo",)).verdict == MISMATCH


def test_the_worst_input_is_named() -> None:
    reference = np.ones((2, 4))
    candidate = reference + [[0.0], [0.5]]

    result = judge(
        precision="fp32", reference=reference, candidate=candidate, kinds=PHOTO_AND_NOISE, names=("cat.jpg", "noise 0")
    )

    assert result.worst == "noise 0"
    assert "noise 0: rel_max 0.5 > 0.0001" in result.reason


def test_probabilities_compare_as_mean_centred_logarithms() -> None:
    """By hand: of (1/2, 1/4, 1/4) the logarithms less their mean are (2, -1, -1) * ln(2)/3."""
    found = parity.comparable(np.array([[0.5, 0.25, 0.25]]), "probabilities")

    assert np.allclose(found, np.array([[2, -1, -1]]) * np.log(2) / 3)


@given(hnp.arrays(np.float64, (2, 5), elements=st.floats(-5, 5)), st.floats(-50, 50))
def test_softmax_then_logarithm_gives_logits_back_up_to_a_constant(values: np.ndarray, shift: float) -> None:
    found = parity.comparable(parity.softmax(values + shift), "probabilities")

    assert np.allclose(found, values - values.mean(axis=1, keepdims=True), atol=1e-6)


def test_the_floors_are_at_least_as_tight_as_the_design() -> None:
    assert TOLERANCES["fp32"].rel_max_each <= 1e-4
    assert TOLERANCES["fp32"].sqnr_db_each >= 80
    assert TOLERANCES["fp16"].sqnr_db_photos >= 40
    assert TOLERANCES["fp16"].rel_max_synthetic <= 3e-2
    for precision, sqnr_db, mean_kl in (("w8", 20, 0.02), ("w8a16", 20, 0.02), ("w8a8", 15, 0.05)):
        assert TOLERANCES[precision].sqnr_db_photos >= sqnr_db
        assert TOLERANCES[precision].mean_kl_photos <= mean_kl
        assert TOLERANCES[precision].top1_agreement_photos >= 0.95
        assert TOLERANCES[precision].top1_agreement_least_photos <= 100

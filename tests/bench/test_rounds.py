"""Statistics held to arithmetic by hand, and the fairness of the order."""

import pytest

from mvit_deploy.bench.rounds import Spread, orders, paired_ratios, spread


def test_the_spread_is_the_median_and_the_middle_half() -> None:
    """Of 5 sorted values the quartiles are the second and the fourth; of 4 they lie a quarter inside their gaps."""
    assert spread([50.0, 10.0, 30.0, 20.0, 40.0]) == Spread(median=30, p25=20, p75=40, n=5)
    assert spread([4.0, 1.0, 3.0, 2.0]) == Spread(median=2.5, p25=1.75, p75=3.25, n=4)
    assert spread([7.0]) == Spread(median=7, p25=7, p75=7, n=1)


def test_the_relative_width_is_that_of_the_middle_half_to_the_median() -> None:
    assert spread([10.0, 20.0, 30.0, 40.0, 50.0]).relative == pytest.approx(20 / 30)


def test_no_values_have_no_spread() -> None:
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_units_stand_in_the_names_of_the_json() -> None:
    assert spread([1.0, 2.0, 3.0]).to_json("_ms") == {"median_ms": 2.0, "p25_ms": 1.5, "p75_ms": 2.5, "n": 3}


def test_ratios_are_taken_within_a_round_so_that_drift_cancels() -> None:
    """The machine is three times slower in the second round; the file is half as slow as the other in both."""
    base = [[10.0, 12.0, 11.0], [33.0, 36.0, 30.0]]
    own = [[5.0, 5.5, 9.0], [16.5, 15.0, 90.0]]

    assert paired_ratios(own, base) == [0.5, 0.5]


def test_a_file_is_as_fast_as_itself() -> None:
    times = [[3.0, 4.0], [9.0, 8.0]]

    assert paired_ratios(times, times) == [1, 1]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_every_file_runs_once_in_every_round(count: int) -> None:
    found = orders(count, 17)

    assert len(found) == 17
    assert all(sorted(order) == list(range(count)) for order in found)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_file_has_every_place_equally_often(count: int) -> None:
    """In as many rounds as there are files, and in any multiple of them."""
    found = orders(count, 3 * count)

    for place in range(count):
        assert sorted(order[place] for order in found) == sorted(list(range(count)) * 3)


def test_a_file_does_not_always_follow_the_same_other() -> None:
    followed = {order[order.index(0) - 1] for order in orders(4, 40) if order.index(0) > 0}

    assert followed == {1, 2, 3}


def test_the_order_is_the_same_each_time() -> None:
    assert orders(4, 10) == orders(4, 10)
    assert orders(4, 10) != orders(4, 10, seed=1)


def test_no_files_have_empty_rounds() -> None:
    assert orders(0, 2) == [[], []]

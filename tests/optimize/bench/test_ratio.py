from __future__ import annotations

import math

import numpy as np
import pytest

from optimize.bench.ratio import ratio, slope


def test_ratio_is_of_sums_of_medians() -> None:
    found = ratio([[8.0, 100.0, 9.0], [3.0]], [[4.0, 2.0, 1.0], [2.0]])
    assert found.value == (9 + 3) / (2 + 2)
    assert found.low <= found.value <= found.high


def test_items_are_drawn_together_so_that_equal_ratios_leave_no_doubt() -> None:
    below = [[1.0], [10.0], [100.0]]
    found = ratio([[3 * run for run in runs] for runs in below], below)
    assert found.value == found.low == found.high == pytest.approx(3)


def test_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    draws = np.random.default_rng(1)
    inside = 0
    for _ in range(40):
        noisy = [(2 * draws.lognormal(0, 0.2, 1)).tolist() for _ in range(30)]
        found = ratio(noisy, [[1.0]] * 30)
        inside += found.low <= 2 * math.exp(0.02) <= found.high
    assert 33 <= inside <= 40


def test_one_item_is_judged_by_its_runs_alone() -> None:
    found = ratio([[1.0, 2.0, 3.0]], [[1.0]])
    assert (found.low, found.value, found.high) == (1.0, 2.0, 3.0)


def test_a_single_run_of_one_item_has_no_interval() -> None:
    found = ratio([[3.0]], [[2.0]])
    assert (found.value, found.low, found.high) == (1.5, None, None)


def test_the_same_data_give_the_same_interval() -> None:
    above, below = [[1.0, 2.0], [4.0, 3.0]], [[1.0, 1.5], [2.0, 2.0]]
    assert ratio(above, below) == ratio(above, below)


@pytest.mark.parametrize(("above", "below"), [([], []), ([[1.0]], [[1.0], [2.0]])])
def test_other_items_do_not_compare(above: list[list[float]], below: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="do not compare"):
        ratio(above, below)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_slope_is_the_power_of_growth(power: float) -> None:
    sizes = [1, 2, 4, 8]
    assert slope(sizes, [3 * size**power for size in sizes]) == pytest.approx(power, abs=1e-9)

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from training.uncertainty import best_gate, interval_width, paired_test, pavpu


def test_the_interval_is_that_of_the_middle_95_percent() -> None:
    p = np.linspace(0.2, 0.6, 101)
    draws = np.log(p / (1 - p))
    assert interval_width(draws[None]) == pytest.approx([0.95 * 0.4])
    assert interval_width(-draws[None]) == pytest.approx([0.95 * 0.4])
    assert interval_width(np.full((2, 9), 3.0)) == pytest.approx([0, 0])


def test_the_test_is_the_paired_one_on_probabilities() -> None:
    draws = np.random.default_rng(0).normal([[0.1], [2.0]], 1.0, (2, 30))
    p = 1 / (1 + np.exp(-draws))
    assert paired_test(draws) == pytest.approx(stats.ttest_rel(p, 1 - p, axis=1).pvalue)
    assert paired_test(draws)[1] < 0.001 < paired_test(draws)[0]
    assert paired_test(np.array([[5.0] * 4, [0.0] * 4])).tolist() == [0, 1]
    with pytest.raises(ValueError, match="two draws"):
        paired_test(np.zeros((3, 1)))


def test_pavpu_counts_the_certain_right_and_the_uncertain_wrong() -> None:
    certain, wrong = np.array([True, True, False, False]), np.array([False, True, True, False])
    assert pavpu(certain, wrong, np.ones(4)) == 0.5
    assert pavpu(~wrong, wrong, np.ones(4)) == 1
    assert pavpu(certain, wrong, np.array([3.0, 1, 1, 1])) == pytest.approx(4 / 6)


def test_the_gate_parts_right_from_wrong_where_sureness_does() -> None:
    sure = np.linspace(0, 1, 11)
    gate = best_gate(sure, sure < 0.35, np.ones(11))
    assert 0.3 <= gate < 0.4
    assert best_gate(sure, np.zeros(11, bool), np.ones(11)) == -np.inf  # nothing is wrong: everything may be certain

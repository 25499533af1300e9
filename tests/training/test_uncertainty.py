from __future__ import annotations

import numpy as np
import pytest

from training.uncertainty import best_gate, pavpu


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

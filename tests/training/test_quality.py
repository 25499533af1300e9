"""Poor faces tell less only where the data show it, out of fold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.calibration import Clips
from training.quality import fit_quality, fit_temperature


def made(n: int, seed: int, slope: float) -> Clips:
    """Logits whose truth is p = sigmoid(logit / exp(slope * (0.8 - quality))), in pairs of one group."""
    rng = np.random.default_rng(seed)
    quality_n = rng.uniform(0.1, 0.8, n)
    logits_n = rng.normal(0.0, 3.0, n)
    p_n = 1 / (1 + np.exp(-logits_n / np.exp(slope * (0.8 - quality_n))))
    labels_n = (rng.random(n) < p_n).astype(np.int64)
    return Clips(logits_n=logits_n, labels_n=labels_n, groups_n=np.array([f"g{i // 2}" for i in range(n)]), quality_n=quality_n)


def test_the_slope_that_was_made_is_found() -> None:
    assert fit_temperature(made(4000, 0, 3.0), [0.3, 0.8]) == (0.8, pytest.approx(3.0, abs=1.0))
    assert fit_temperature(made(4000, 0, 0.0), [0.8])[1] <= 0.5


def test_it_is_kept_where_it_helps_out_of_fold_and_said() -> None:
    good, poor = made(300, 1, 0.0), made(300, 2, 4.0)
    good = replace(good, quality_n=np.full(300, 0.8))
    found = fit_quality(good, poor, n_folds=3)
    assert found.kept
    assert found.full == 0.8
    assert found.used == (0.8, found.slope)
    assert found.tempered < found.plain - found.gain_error
    assert "kept" in str(found)
    assert "300 degraded copies" in str(found)


def test_it_is_left_out_where_quality_says_nothing() -> None:
    found = fit_quality(made(400, 3, 0.0), n_folds=3)
    assert not found.kept
    assert found.used == (1.0, 0.0)
    assert "not kept" in str(found)

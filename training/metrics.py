"""Numbers that judge scores: ranks, decisions, and how far a second sample of groups could move them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def auc(fake_N: Bools, score_N: Floats) -> float:
    """Chance that a random fake scores above a random real one, ties half; nan where a class is missing."""
    if fake_N.all() or not fake_N.any():
        return float("nan")
    return float(roc_auc_score(fake_N, score_N))


def balanced_accuracy(fake_N: Bools, called_fake_N: Bools) -> float:
    """Mean of the two classes' recalls; nan where a class is missing."""
    if fake_N.all() or not fake_N.any():
        return float("nan")
    return float((called_fake_N[fake_N].mean() + (~called_fake_N[~fake_N]).mean()) / 2)


def grouped_interval(
    groups: Sequence[str], statistic: Callable[[npt.NDArray[np.int64]], float], *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of ``statistic(rows)`` when whole groups are drawn again with replacement; (nan, nan) where undefined."""
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    rows = [np.flatnonzero(place == number) for number in range(len(names))]
    rng = np.random.default_rng(seed)
    values = [statistic(np.concatenate([rows[k] for k in rng.integers(len(rows), size=len(rows))])) for _ in range(draws)]
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)

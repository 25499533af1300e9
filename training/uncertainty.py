"""What the draws of a CARD head say about its own doubt (Han, Zheng, Zhou 2022, section 4.2), and how such doubt is judged.

Axes: F crops, N draws.
"""

from __future__ import annotations

import numpy as np
from scipy import stats
from scipy.special import expit

from training.metrics import Bools, Floats


def interval_width(draws_FN: Floats) -> Floats:
    """PIW: the width of the interval from the 2.5th to the 97.5th percentile of p of the predicted class, [F] in 0..1.

    ``draws_FN``: logits of fake against real. For two classes the width is the same whichever is predicted.
    """
    low_F, high_F = np.percentile(expit(draws_FN), [2.5, 97.5], axis=1)
    return np.asarray(high_F - low_F, np.float64)


def paired_test(draws_FN: Floats) -> Floats:
    """p-values [F] of the paired two-sided t-test that fake and real are equally probable over the draws.

    Draws that all agree have no spread to test with: 0 where they prefer a class, 1 where they prefer none. Raises ValueError for
    fewer than two draws. With many draws nearly everything is significant: gate on the width too.
    """
    if draws_FN.shape[1] < 2:
        raise ValueError("a t-test needs two draws or more")
    difference_FN = 2 * expit(draws_FN) - 1
    value_F = np.where(difference_FN.mean(1) == 0, 1.0, 0.0)
    spread = np.ptp(difference_FN, axis=1) > 1e-9
    if spread.any():
        value_F[spread] = stats.ttest_1samp(difference_FN[spread], 0.0, axis=1).pvalue
    return value_F


def pavpu(certain_F: Bools, wrong_F: Bools, weight_F: Floats) -> float:
    """Accuracy versus uncertainty (Mukhoti & Gal 2018): the share that is certain and right, or uncertain and wrong."""
    return float(weight_F @ (certain_F != wrong_F) / weight_F.sum())


def best_gate(sure_F: Floats, wrong_F: Bools, weight_F: Floats, *, candidates: int = 200) -> float:
    """The threshold on ``sure`` (certain above it) with the greatest PAvPU, of so many candidates; among equals the lowest."""
    values = np.unique(np.quantile(sure_F, np.linspace(0, 1, candidates), method="lower"))
    thresholds = np.concatenate([[-np.inf], values])
    return float(thresholds[int(np.argmax([pavpu(sure_F > value, wrong_F, weight_F) for value in thresholds]))])

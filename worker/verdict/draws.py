"""What the draws of a CARD head say about its own doubt (Han, Zheng, Zhou 2022, arXiv 2206.07275, section 4.2).

Axes: F crops or media, N draws. Draws are logits, or calibrated log odds, of fake against real.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from worker.types import Doubt, Face

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def by_draw(faces: Sequence[Face]) -> Iterator[list[Face]]:
    """Voting faces as each draw scored them, draw by draw; nothing where one of them has no draws."""
    draws = [face.draws_N for face in faces if face.draws_N is not None]
    if draws and len(draws) == len(faces):
        for logits_F in np.stack(draws, axis=1).tolist():
            yield [replace(face, logit=logit, draws_N=None) for face, logit in zip(faces, logits_F, strict=True)]


def doubt(log_odds_N: Sequence[float]) -> Doubt | None:
    """Of a score, from what each draw would make of it. None without draws."""
    if not log_odds_N:
        return None
    draws_1N = np.array([log_odds_N], np.float64)
    ttest_p = float(paired_test(draws_1N)[0]) if len(log_odds_N) > 1 else None
    return Doubt(piw=float(interval_width(draws_1N)[0]), ttest_p=ttest_p, n_samples=len(log_odds_N))


def interval_width(draws_FN: Floats) -> npt.NDArray[np.float64]:
    """PIW: the width of the interval from the 2.5th to the 97.5th percentile of p of the predicted class, [F] in 0..1.

    For two classes the width is the same whichever is predicted.
    """
    low_F, high_F = np.percentile(_probabilities(draws_FN), [2.5, 97.5], axis=1)
    return np.asarray(high_F - low_F, np.float64)


def paired_test(draws_FN: Floats) -> npt.NDArray[np.float64]:
    """p-values [F] of the paired two-sided t-test that fake and real are equally probable over the draws.

    Draws that all agree have no spread to test with: 0 where they prefer a class, 1 where they prefer none. Raises ValueError for
    fewer than two draws. With many draws nearly everything is significant: gate on the width too.
    """
    count = draws_FN.shape[1]
    if count < 2:
        raise ValueError("a t-test needs two draws or more")
    difference_FN = 2 * _probabilities(draws_FN) - 1
    mean_F, std_F = difference_FN.mean(1), difference_FN.std(1, ddof=1)
    spread_F = np.ptp(difference_FN, axis=1) > 1e-9
    t_F = mean_F / np.where(spread_F, std_F, 1.0) * math.sqrt(count)
    agreed_F = np.where(mean_F == 0, 1.0, 0.0)
    return np.where(spread_F, [two_sided(float(t), count - 1) for t in t_F], agreed_F)


def two_sided(t: float, freedom: int) -> float:
    """Chance that Student's t of so many degrees of freedom lies further from 0 than ``t``, within 1e-14.

    The finite series for whole degrees of freedom: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0 if freedom == 1 else term
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return min(1.0, max(0.0, 1.0 - inside))


def _probabilities(draws_FN: Floats) -> npt.NDArray[np.float64]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * draws_FN.astype(np.float64))), np.float64)

"""A ratio of two sides' times over the same items, with a bootstrap interval (Efron & Tibshirani 1993, percentiles).

Items are drawn with replacement, the same ones for both sides, and of each item's runs as many again: the interval covers what
other items of the kind, and other runs, would have given. One item: runs alone. One run: items alone.
One item with one run: no interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DRAWS = 2000
LEVEL = 0.95

Runs = Sequence[Sequence[float]]
"""Times of one side: for each item, its runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """``low`` and ``high`` bound it at ``LEVEL``; None: of one item's single run nothing is known about others."""

    value: float
    low: float | None
    high: float | None


def sum_of_medians(runs: Runs) -> float:
    return float(sum(np.median(one) for one in runs))


def ratio(above: Runs, below: Runs) -> Ratio:
    """The sum of the items' median runs above, over that below. Raises ValueError unless both have the same items."""
    if len(above) != len(below) or not above:
        raise ValueError(f"{len(above)} and {len(below)} items do not compare")
    value = _quotient(sum_of_medians(above), sum_of_medians(below))
    if len(above) == len(above[0]) == len(below[0]) == 1:
        return Ratio(value=value, low=None, high=None)
    draws = np.random.default_rng(0)
    items_DC = draws.integers(0, len(above), (DRAWS, len(above)))
    drawn = [_drawn_sums(side, items_DC, draws) for side in (above, below)]
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.nanquantile(drawn[0] / drawn[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Ratio(value=value, low=float(low), high=float(high))


def _drawn_sums(side: Runs, items_DC: npt.NDArray[np.int64], draws: np.random.Generator) -> npt.NDArray[np.float64]:
    """The statistic of each draw: [D]."""
    medians_DC = np.empty(items_DC.shape)
    for item, runs in enumerate(side):
        at = np.nonzero(items_DC == item)
        again = draws.integers(0, len(runs), (len(at[0]), len(runs)))
        medians_DC[at] = np.median(np.asarray(runs, np.float64)[again], axis=1)
    return np.asarray(medians_DC.sum(axis=1), np.float64)


def _quotient(above: float, below: float) -> float:
    return above / below if below else math.nan


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """By which power of the size the cost grows: the line through the logarithms; 1 is proportional, 0 constant."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])

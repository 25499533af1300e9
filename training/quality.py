"""Fits how much less poor faces tell: a temperature that grows as their quality falls, kept only where it helps out of fold.

Axes: n clips. The temperature is exp(slope * max(0, full - quality)), ``full`` one of a few quantiles of the quality of the clips
as they are; it divides the log odds, so that poor material comes out undecided, neither real nor fake.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.calibration import Clips, Floats, fit_platt, folds_by_group, joined, temperatures
from training.metrics import EDGE, class_weights

SLOPES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
FULL_AT = (0.1, 0.25, 0.5)
"""Shares of the clips as they are that may count as poor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityFit:
    """What was fitted, and the log loss out of fold without and with it (nats, both classes alike)."""

    full: float
    slope: float
    plain: float
    tempered: float
    gain_error: float
    """Standard error of ``plain - tempered`` over groups."""
    n: int
    n_degraded: int

    @property
    def kept(self) -> bool:
        """Whether it helps by more than a standard error."""
        return self.slope > 0.0 and self.plain - self.tempered > self.gain_error

    @property
    def used(self) -> tuple[float, float]:
        """(full, slope) for the calibration; (1, 0), without effect, where it is not kept."""
        return (self.full, self.slope) if self.kept else (1.0, 0.0)

    def __str__(self) -> str:
        return (
            f"Quality: slope {self.slope:g} below {self.full:.2f}; log loss out of fold on {self.n} files and {self.n_degraded} "
            f"degraded copies {self.plain:.4f} without, {self.tempered:.4f} with (error of the gain {self.gain_error:.4f}): "
            + ("kept" if self.kept else "not kept, quality does not count")
        )


def fit_temperature(clips: Clips, fulls: Sequence[float]) -> tuple[float, float]:
    """(full, slope) of the greatest penalised likelihood, slope 0 among them; a and b are fitted anew for each."""
    weight_n = class_weights(clips.labels_n == 1)

    def loss(pair: tuple[float, float]) -> float:
        temperature_n = temperatures(clips.qualities_n, *pair)
        a, b = fit_platt(clips, temperature_n=temperature_n)
        penalty = 0.5 * ((a - 1.0) ** 2 + b**2)
        return float(weight_n @ _losses(clips, a, b, temperature_n)) + penalty

    return min([(max(fulls), 0.0), *itertools.product(fulls, SLOPES)], key=loss)


def fit_quality(clips: Clips, degraded: Clips | None = None, n_folds: int = 5) -> QualityFit:
    """Fit on the clips and, where there are some, degraded copies of them (same groups); judge out of fold over groups.

    What is compared, on both alike: a and b fitted on the clips as they are, against the same with the temperature that the
    copies of the other folds give. Raises ValueError for fewer groups than two.
    """
    everything = clips if degraded is None else joined(clips, degraded)
    own_n = np.arange(len(everything.labels_n)) < len(clips.labels_n)
    fulls = sorted({float(full) for full in np.quantile(clips.qualities_n, FULL_AT)})
    n_folds = min(n_folds, len(np.unique(everything.groups_n)))
    fold_n = folds_by_group(everything.groups_n, everything.labels_n, n_folds, seed=0)
    plain_n, tempered_n = np.zeros(len(fold_n)), np.zeros(len(fold_n))
    for fold in range(n_folds):
        held = fold_n == fold
        learnt = everything.take(~held)
        own = everything.take(~held & own_n)
        for pair, losses_n in (((1.0, 0.0), plain_n), (fit_temperature(learnt, fulls), tempered_n)):
            a, b = fit_platt(own, temperature_n=temperatures(own.qualities_n, *pair))
            losses_n[held] = _losses(everything, a, b, temperatures(everything.qualities_n, *pair))[held]
    weight_n = class_weights(everything.labels_n == 1)
    full, slope = fit_temperature(everything, fulls)
    return QualityFit(
        full=full,
        slope=slope,
        plain=float(np.mean(weight_n * plain_n)),
        tempered=float(np.mean(weight_n * tempered_n)),
        gain_error=_error_over_groups(weight_n * (plain_n - tempered_n), everything.groups_n.tolist()),
        n=len(clips.labels_n),
        n_degraded=len(everything.labels_n) - len(clips.labels_n),
    )


def _losses(clips: Clips, a: float, b: float, temperature_n: Floats) -> Floats:
    """-log p(the truth) of each clip [n]."""
    x_n = (a * clips.logits_n + b) / temperature_n
    most = float(np.log(1 / EDGE))
    return np.asarray(np.minimum(np.logaddexp(0.0, np.where(clips.labels_n == 1, -x_n, x_n)), most), dtype=np.float64)


def _error_over_groups(values_n: Floats, groups: list[str]) -> float:
    """Standard error of the mean, groups being what is independent."""
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.bincount(place, weights=values_n - values_n.mean())
    return float(np.sqrt((sums**2).sum() * len(names) / (len(names) - 1)) / len(values_n))

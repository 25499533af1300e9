"""Fits the verdict's calibration and thresholds on held-out clips, and says honestly how good they are.

Axes: n clips, f folds. Labels are 1 fake, 0 real. A *group* holds clips that share a person or a source video; all of a group
lie in one fold. Probabilities are for equal shares of fake and real, whatever the table's own shares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from training.metrics import class_weights
from worker.types import MediaKind, Strategy
from worker.verdict.calibrate import Calibration

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


RULE = "mean_logit"
"""Calibrated are the logits of this aggregation rule."""
LEAST_A = 0.01
LEVELS = (0.75, 0.80, 0.85, 0.90)
"""Shares of single clips below the thresholds at which several chances are compared with one; above, few dozen clips hold one or
two, and a single odd one would decide."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clips:
    """Track logits float64 [n] of single-track clips (or composites) with their labels and groups."""

    logits_n: Floats
    labels_n: Ints
    groups_n: npt.NDArray[np.str_]
    chances_n: Ints | None = None
    """Number of tracks or windows of which the logit is the greatest; None means 1 everywhere."""
    quality_n: Floats | None = None
    """Median quality of the deciding faces, 0 to 1; None means 1 everywhere."""

    def __post_init__(self) -> None:
        if not self.logits_n.shape == self.labels_n.shape == self.groups_n.shape:
            raise ValueError(f"logits {self.logits_n.shape}, labels {self.labels_n.shape}, groups {self.groups_n.shape}")
        if not np.all(np.isfinite(self.logits_n)):
            raise ValueError("a logit is not a finite number")
        if set(np.unique(self.labels_n).tolist()) != {0, 1}:
            real, fake = (int((self.labels_n == label).sum()) for label in (0, 1))
            raise ValueError(f"a fit needs files of both classes, 0 for real and 1 for fake: {real} real and {fake} fake")

    @property
    def counts_n(self) -> Ints:
        """``chances_n``, 1 where there are none."""
        return np.ones(len(self.labels_n), dtype=np.int64) if self.chances_n is None else self.chances_n

    @property
    def qualities_n(self) -> Floats:
        return np.ones(len(self.labels_n)) if self.quality_n is None else self.quality_n

    def take(self, rows: npt.NDArray[np.intp] | Bools) -> Clips:
        return Clips(
            logits_n=self.logits_n[rows],
            labels_n=self.labels_n[rows],
            groups_n=self.groups_n[rows],
            chances_n=None if self.chances_n is None else self.chances_n[rows],
            quality_n=None if self.quality_n is None else self.quality_n[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the thresholds must keep to, on the clips they are chosen on."""

    fpr: float = 0.05
    """Greatest share of real clips called fake."""
    fnr: float = 0.10
    """Greatest share of fake clips called real."""
    coverage: float = 0.70
    """Least share of clips that get fake or real; where it cannot be had within ``fpr`` and ``fnr``, coverage wins."""


def _sigmoid(x_n: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x_n)), dtype=np.float64)


def fit_platt(clips: Clips, penalty: float = 1.0, temperature_n: Floats | None = None) -> tuple[float, float]:
    """(a, b) of p = sigmoid(a * logit + b) by penalised maximum likelihood (Platt 1999), Newton's method with halved steps.

    ``temperature_n`` divides each clip's a * logit + b. ``penalty`` is that of a Gaussian prior about the identity (a = 1,
    b = 0), in clips: it matters for a few dozen clips and keeps a finite where the classes do not overlap. a is
    ``LEAST_A`` or more: a calibration must rise, also where the clips do not show it.
    """
    weight_n = class_weights(clips.labels_n == 1)
    prior = np.array([1.0, 0.0])

    inverse_n = np.ones_like(clips.logits_n) if temperature_n is None else 1.0 / temperature_n
    design_n2 = np.stack([clips.logits_n, np.ones_like(clips.logits_n)], axis=1) * inverse_n[:, None]

    def loss(theta: Floats) -> float:
        x_n = design_n2 @ theta
        return float(weight_n @ (np.logaddexp(0.0, x_n) - clips.labels_n * x_n) + 0.5 * penalty * ((theta - prior) ** 2).sum())

    def newton(theta: Floats, free: list[int]) -> Floats:
        for _ in range(100):
            p_n = _sigmoid(design_n2 @ theta)
            gradient = (design_n2.T @ (weight_n * (p_n - clips.labels_n)) + penalty * (theta - prior))[free]
            curved = design_n2.T @ (design_n2 * (weight_n * p_n * (1.0 - p_n))[:, None]) + (penalty + 1e-9) * np.eye(2)
            step = np.zeros(2)
            step[free] = np.linalg.solve(curved[np.ix_(free, free)], gradient)
            while np.abs(step).max() > 1e-9 and loss(theta - step) > loss(theta):
                step *= 0.5
            theta = theta - step
            if np.abs(step).max() <= 1e-8:
                return theta
        raise ValueError("Platt scaling did not converge; are the logits of a usable scale?")

    theta = newton(prior, [0, 1])
    if theta[0] < LEAST_A:
        theta = newton(np.array([LEAST_A, 0.0]), [1])
    return float(theta[0]), float(theta[1])


def composites(clips: Clips, seed: int, sizes: Sequence[int] = (2, 3, 4, 5), per_size: int = 400) -> Clips:
    """Stand-ins for clips of several tracks: the greatest logit of k clips from k different groups.

    Half of them all real, half with one fake among the real ones (the hardest that is still fake). ``chances_n`` is k.
    """
    rng = np.random.default_rng(seed)
    logits: list[float] = []
    labels: list[int] = []
    chances: list[int] = []
    fake = np.flatnonzero(clips.labels_n == 1)
    real = {name: np.flatnonzero((clips.labels_n == 0) & (clips.groups_n == name)) for name in np.unique(clips.groups_n)}
    names = np.array([name for name, rows in real.items() if len(rows)])
    for k in sizes:
        if k > len(names):
            raise ValueError(f"composites of {k} tracks need real clips of as many groups")
        for place in range(per_size):
            chosen = [int(rng.choice(fake))] if place % 2 else []
            others = names[names != clips.groups_n[chosen[0]]] if chosen else names
            chosen += [int(rng.choice(real[name])) for name in rng.permutation(others)[: k - len(chosen)]]
            logits.append(float(clips.logits_n[chosen].max()))
            labels.append(place % 2)
            chances.append(k)
    return Clips(
        logits_n=np.array(logits),
        labels_n=np.array(labels, dtype=np.int64),
        groups_n=np.array([f"composite-{i}" for i in range(len(logits))]),
        chances_n=np.array(chances, dtype=np.int64),
    )


def fit_chances(clips: Clips, a: float, b: float) -> float:
    """c >= 0 of p = sigmoid(a * logit + b - c * ln(chances)) that keeps false alarms where one track (or window) has them.

    For each c the false-alarm rates at several thresholds, one for each number of chances, are compared with the rate that the
    same threshold has among the clips of one chance; the c with the least squared difference wins. Maximum likelihood would
    instead trade false alarms for misses, since a fake among many real ones is harder to see.
    """
    real = clips.labels_n == 0
    x_n, chances_n = a * clips.logits_n[real] + b, clips.counts_n[real]
    single = x_n[chances_n == 1]
    if len(single) == 0 or not (chances_n > 1).any():
        raise ValueError("needs real clips of one chance and of several")
    levels = np.quantile(single, LEVELS)
    wanted = np.array([(single > level).mean() for level in levels])

    def misfit(c: float) -> float:
        total = 0.0
        for k in np.unique(chances_n[chances_n > 1]):
            shifted = x_n[chances_n == k] - c * np.log(k)
            total += float(sum(((shifted > level).mean() - rate) ** 2 for level, rate in zip(levels, wanted, strict=True)))
        return total

    candidates = np.arange(0.0, 5.0, 0.05)
    return float(candidates[np.argmin([misfit(float(c)) for c in candidates])])


def joined(first: Clips, second: Clips) -> Clips:
    """Both tables under one another."""
    return Clips(
        logits_n=np.concatenate([first.logits_n, second.logits_n]),
        labels_n=np.concatenate([first.labels_n, second.labels_n]),
        groups_n=np.concatenate([first.groups_n, second.groups_n]),
        chances_n=np.concatenate([first.counts_n, second.counts_n]),
        quality_n=np.concatenate([first.qualities_n, second.qualities_n]),
    )


def choose_thresholds(p_n: Floats, labels_n: Ints, target: Target) -> tuple[float, float]:
    """(t_real, t_fake) with the smallest band between that keeps to the target.

    t_fake is the lowest threshold with at most ``target.fpr`` of real clips above, t_real the highest with at most ``target.fnr``
    of fake clips below. Crossing ones meet in the middle. A band that holds more than 1 - ``target.coverage`` of the clips
    (classes weighted equally) shrinks towards the middle, both sides by the same share, until it does not.
    """
    real, fake = np.sort(p_n[labels_n == 0]), np.sort(p_n[labels_n == 1])
    t_fake = float(real[max(0, len(real) - 1 - int(target.fpr * len(real)))])
    t_real = float(fake[min(len(fake) - 1, int(target.fnr * len(fake)))])
    if t_real >= t_fake:
        middle = 0.5 * (t_real + t_fake)
        return middle, middle
    middle = 0.5 * (t_real + t_fake)
    for share in np.linspace(1.0, 0.0, 101):
        low, high = middle - share * (middle - t_real), middle + share * (t_fake - middle)
        undecided = 0.5 * (((real >= low) & (real <= high)).mean() + ((fake >= low) & (fake <= high)).mean())
        if undecided <= 1.0 - target.coverage:
            return float(low), float(high)
    return middle, middle


def folds_by_group(groups_n: npt.NDArray[np.str_], labels_n: Ints, n_folds: int, seed: int) -> Ints:
    """Fold of each clip [n]: whole groups, in random order, each into the fold with the fewest clips of its commonest class."""
    rng = np.random.default_rng(seed)
    fold_n = np.zeros(len(groups_n), dtype=np.int64)
    counts_f2 = np.zeros((n_folds, 2), dtype=np.int64)
    names = np.unique(groups_n)
    if len(names) < n_folds:
        raise ValueError(f"{n_folds} folds need as many groups, got {len(names)}")
    for name in rng.permutation(names):
        rows = groups_n == name
        of_group_2 = np.bincount(labels_n[rows], minlength=2)
        fold = int(np.argmin(counts_f2[:, int(of_group_2.argmax())] + 1e-3 * counts_f2.sum(axis=1)))
        counts_f2[fold] += of_group_2
        fold_n[rows] = fold
    return fold_n


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutOfFold:
    """Probability and thresholds that each clip [n] got from a calibration which never saw its group."""

    p_n: Floats
    t_real_n: Floats
    t_fake_n: Floats


Fit = Callable[[Clips], Calibration]


def crossfit(clips: Clips, fit: Fit, n_folds: int = 5, seed: int = 0, judged: Clips | None = None) -> OutOfFold:
    """``fit`` on all folds but one, apply to that one, in turn; what is reported comes from here.

    ``judged``: other clips of the same groups, that nothing is fitted on, in place of the clips themselves; the result is theirs.
    Raises ValueError where one is of a group that the clips do not know.
    """
    fold_n = folds_by_group(clips.groups_n, clips.labels_n, n_folds, seed)
    judged = clips if judged is None else judged
    fold_of = dict(zip(clips.groups_n.tolist(), fold_n.tolist(), strict=True))
    if unknown := sorted(set(judged.groups_n.tolist()) - fold_of.keys()):
        raise ValueError(f"no clip of the group {unknown[0]} to fit on")
    judged_fold_n = np.array([fold_of[group] for group in judged.groups_n.tolist()], dtype=np.int64)
    p_n, t_real_n, t_fake_n = (np.zeros(len(judged_fold_n)) for _ in range(3))
    for fold in range(n_folds):
        held = judged_fold_n == fold
        calibration = fit(clips.take(fold_n != fold))
        pairs = zip(judged.logits_n[held], judged.qualities_n[held], strict=True)
        p_n[held] = [calibration.apply(float(logit), quality=float(quality)) for logit, quality in pairs]
        t_real_n[held], t_fake_n[held] = calibration.t_real, calibration.t_fake
    return OutOfFold(p_n=p_n, t_real_n=t_real_n, t_fake_n=t_fake_n)


def fit_single(
    clips: Clips,
    *,
    kind: MediaKind,
    rule: str,
    strategies: frozenset[Strategy],
    frames: tuple[int, int],
    target: Target | None = None,
    quality: tuple[float, float] = (1.0, 0.0),
    seed: int = 0,
) -> Calibration:
    """a and b on single-track clips, thresholds on the same by cross-fitting over groups; several tracks or windows cost nothing.

    ``quality`` is (full, slope) of ``training.quality``.
    """
    full, slope = quality

    def platt(part: Clips) -> Calibration:
        a, b = fit_platt(part, temperature_n=temperatures(part.qualities_n, full, slope))
        return Calibration(
            kind=kind, rule=rule, strategies=strategies, frames=frames, a=a, b=b, quality_full=full, quality_slope=slope
        )

    n_folds = min(5, len(np.unique(clips.groups_n)))
    p_n = crossfit(clips, platt, n_folds, seed).p_n
    t_real, t_fake = choose_thresholds(p_n, clips.labels_n, target or Target())
    return replace(platt(clips), t_real=t_real, t_fake=t_fake)


def with_chances(
    calibration: Calibration, clips: Clips, *, several: Clips | None = None, long_tracks: Clips | None = None, seed: int = 0
) -> Calibration:
    """c_tracks on composites of one and ``several`` tracks (``training.composites``; without, on the greatest logits of several
    clips), c_windows on ``long_tracks`` (0 without; ``training.longtracks`` makes them)."""

    def cost(table: Clips) -> float:
        return fit_chances(table, calibration.a, calibration.b)

    return replace(
        calibration,
        c_tracks=cost(joined(clips, composites(clips, seed)) if several is None else several),
        c_windows=0.0 if long_tracks is None else cost(joined(clips, long_tracks)),
    )


def temperatures(quality_n: Floats, full: float, slope: float) -> Floats:
    """``worker.verdict.calibrate.Calibration.temperature`` of many clips."""
    return np.asarray(np.exp(slope * np.maximum(0.0, full - quality_n)), dtype=np.float64)

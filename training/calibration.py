"""Fits the verdict's calibration and thresholds on held-out clips, and says honestly how good they are.

Axes: n clips, f folds. Labels are 1 fake, 0 real. A *group* holds clips that share a person or a source video; all of a group
lie in one fold. Probabilities are for equal shares of fake and real, whatever the table's own shares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from training.metrics import auc, grouped_interval
from worker.types import MediaKind, Strategy
from worker.verdict.calibrate import Calibration

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clips:
    """Track logits float64 [n] of single-track clips (or composites) with their labels and groups."""

    logits_n: Floats
    labels_n: Ints
    groups_n: npt.NDArray[np.str_]
    chances_n: Ints | None = None
    """Number of tracks or windows of which the logit is the greatest; None means 1 everywhere."""

    def __post_init__(self) -> None:
        if not self.logits_n.shape == self.labels_n.shape == self.groups_n.shape:
            raise ValueError(f"logits {self.logits_n.shape}, labels {self.labels_n.shape}, groups {self.groups_n.shape}")
        if not np.all(np.isfinite(self.logits_n)):
            raise ValueError("a logit is not a finite number")
        if set(np.unique(self.labels_n).tolist()) != {0, 1}:
            raise ValueError("a calibration needs clips of both classes, labelled 0 real and 1 fake")

    def take(self, rows: npt.NDArray[np.intp] | Bools) -> Clips:
        chances_n = None if self.chances_n is None else self.chances_n[rows]
        return Clips(
            logits_n=self.logits_n[rows], labels_n=self.labels_n[rows], groups_n=self.groups_n[rows], chances_n=chances_n
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Quality of out-of-fold predictions."""

    n_real: int
    n_fake: int
    auc: float
    auc_interval: tuple[float, float]
    """95 % percentile interval over resampled groups."""
    coverage: float
    balanced_accuracy: float
    """Of the decided clips; nan if one class has none decided."""
    fpr: float
    """Share of all real clips called fake."""
    fnr: float
    """Share of all fake clips called real."""


def _class_weights(labels_n: Ints) -> Floats:
    share = float(labels_n.mean())
    return np.where(labels_n == 1, 0.5 / share, 0.5 / (1.0 - share))


def _sigmoid(x_n: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x_n)), dtype=np.float64)


def fit_platt(clips: Clips, penalty: float = 1.0, least_a: float = 0.01) -> tuple[float, float]:
    """(a, b) of p = sigmoid(a * logit + b) by penalised maximum likelihood (Platt 1999), Newton's method with halved steps.

    ``penalty`` is that of a Gaussian prior about the identity (a = 1, b = 0), in clips: it matters for a few dozen clips and
    keeps a finite where the classes do not overlap. ``least_a``: a calibration must rise, also where the clips do not show it.
    """
    weight_n = _class_weights(clips.labels_n)
    prior = np.array([1.0, 0.0])

    def loss(theta: Floats) -> float:
        x_n = theta[0] * clips.logits_n + theta[1]
        return float(weight_n @ (np.logaddexp(0.0, x_n) - clips.labels_n * x_n) + 0.5 * penalty * ((theta - prior) ** 2).sum())

    def newton(design_n2: Floats, theta: Floats, free: list[int]) -> Floats:
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

    design_n2 = np.stack([clips.logits_n, np.ones_like(clips.logits_n)], axis=1)
    theta = newton(design_n2, prior, [0, 1])
    if theta[0] < least_a:
        theta = newton(design_n2, np.array([least_a, 0.0]), [1])
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


def fit_chances(clips: Clips, a: float, b: float, grid: Floats | None = None) -> float:
    """c >= 0 of p = sigmoid(a * logit + b - c * ln(chances)) that keeps false alarms where one track (or window) has them.

    For each c the false-alarm rates at several thresholds, one for each number of chances, are compared with the rate that the
    same threshold has among the clips of one chance; the c with the least squared difference wins. Maximum likelihood would
    instead trade false alarms for misses, since a fake among many real ones is harder to see.
    """
    if clips.chances_n is None or not (clips.chances_n == 1).any() or not (clips.chances_n > 1).any():
        raise ValueError("needs clips of one chance and of several")
    real = clips.labels_n == 0
    x_n, chances_n = a * clips.logits_n[real] + b, clips.chances_n[real]
    single = x_n[chances_n == 1]
    if len(single) == 0 or not (chances_n > 1).any():
        raise ValueError("needs real clips of one chance and of several")
    levels = np.quantile(single, [0.80, 0.85, 0.90, 0.95])
    wanted = np.array([(single > level).mean() for level in levels])

    def misfit(c: float) -> float:
        total = 0.0
        for k in np.unique(chances_n[chances_n > 1]):
            shifted = x_n[chances_n == k] - c * np.log(k)
            total += float(sum(((shifted > level).mean() - rate) ** 2 for level, rate in zip(levels, wanted, strict=True)))
        return total

    candidates = np.arange(0.0, 5.0, 0.05) if grid is None else grid
    return float(candidates[np.argmin([misfit(float(c)) for c in candidates])])


def joined(first: Clips, second: Clips) -> Clips:
    """Both tables under one another."""

    def chances(clips: Clips) -> Ints:
        return np.ones(len(clips.labels_n), dtype=np.int64) if clips.chances_n is None else clips.chances_n

    return Clips(
        logits_n=np.concatenate([first.logits_n, second.logits_n]),
        labels_n=np.concatenate([first.labels_n, second.labels_n]),
        groups_n=np.concatenate([first.groups_n, second.groups_n]),
        chances_n=np.concatenate([chances(first), chances(second)]),
    )


def choose_thresholds(p_n: Floats, labels_n: Ints, target: Target) -> tuple[float, float]:
    """(t_real, t_fake) with the smallest band between that keeps to the target.

    t_fake is the lowest threshold with at most ``target.fpr`` of real clips above, t_real the highest with at most ``target.fnr``
    of fake clips below. Crossing ones meet in the middle. A band that holds more than 1 - ``target.coverage`` of the clips
    (classes weighted equally) shrinks towards the middle, both sides by the same share, until it does not.
    """
    real, fake = np.sort(p_n[labels_n == 0]), np.sort(p_n[labels_n == 1])
    t_fake = float(real[len(real) - 1 - int(target.fpr * len(real))])
    t_real = float(fake[int(target.fnr * len(fake))])
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


def crossfit(clips: Clips, fit: Fit, n_folds: int = 5, seed: int = 0) -> OutOfFold:
    """``fit`` on all folds but one, apply to that one, in turn; what is reported comes from here."""
    fold_n = folds_by_group(clips.groups_n, clips.labels_n, n_folds, seed)
    p_n, t_real_n, t_fake_n = (np.zeros(len(fold_n)) for _ in range(3))
    for fold in range(n_folds):
        held = fold_n == fold
        calibration = fit(clips.take(~held))
        p_n[held] = [calibration.apply(float(logit)) for logit in clips.logits_n[held]]
        t_real_n[held], t_fake_n[held] = calibration.t_real, calibration.t_fake
    return OutOfFold(p_n=p_n, t_real_n=t_real_n, t_fake_n=t_fake_n)


def score(clips: Clips, found: OutOfFold, n_bootstrap: int = 1000, seed: int = 0) -> Scores:
    """AUC with an interval that resamples whole groups, coverage, and accuracy of the decided clips."""
    y_n = clips.labels_n
    called_fake, called_real = found.p_n > found.t_fake_n, found.p_n < found.t_real_n
    decided = called_fake | called_real
    recalls = [(called_fake if label else called_real)[decided & (y_n == label)] for label in (0, 1)]
    balanced = float(np.mean([r.mean() for r in recalls])) if all(len(r) for r in recalls) else float("nan")
    return Scores(
        n_real=int((y_n == 0).sum()),
        n_fake=int((y_n == 1).sum()),
        auc=auc(y_n == 1, found.p_n),
        auc_interval=grouped_interval(
            clips.groups_n.tolist(), lambda rows: auc(y_n[rows] == 1, found.p_n[rows]), draws=n_bootstrap, seed=seed
        ),
        coverage=float(decided.mean()),
        balanced_accuracy=balanced,
        fpr=float(called_fake[y_n == 0].mean()),
        fnr=float(called_real[y_n == 1].mean()),
    )


def fit_calibration(
    clips: Clips,
    *,
    kind: MediaKind,
    rule: str,
    strategies: frozenset[Strategy],
    frames: tuple[int, int],
    target: Target | None = None,
    long_tracks: Clips | None = None,
    seed: int = 0,
) -> Calibration:
    """The whole fit: a and b on single-track ``clips``, c_tracks on their composites, c_windows on ``long_tracks`` (0 without;
    ``training.longtracks`` makes them), thresholds on the clips by cross-fitting over groups."""
    a, b = fit_platt(clips)
    c_tracks = fit_chances(joined(clips, composites(clips, seed)), a, b)
    c_windows = 0.0 if long_tracks is None else fit_chances(joined(clips, long_tracks), a, b)
    plain = Calibration(
        kind=kind, rule=rule, strategies=strategies, frames=frames, a=a, b=b, c_tracks=c_tracks, c_windows=c_windows
    )

    def platt_only(part: Clips) -> Calibration:
        part_a, part_b = fit_platt(part)
        return replace(plain, a=part_a, b=part_b)

    n_folds = min(5, len(np.unique(clips.groups_n)))
    p_n = crossfit(clips, platt_only, n_folds, seed).p_n
    t_real, t_fake = choose_thresholds(p_n, clips.labels_n, target or Target())
    return replace(plain, t_real=t_real, t_fake=t_fake)

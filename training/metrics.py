"""Numbers that judge scores: ranks, decisions, calibration, and how far another sample of groups could move them.

Axes: N files. ``fake_N`` is True for fakes; scores rise with fakeness; ``p_N`` are probabilities of fake for equal shares of both
(``worker.verdict.calibrate``): what judges them weighs both classes alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn import metrics

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
CONFIDENCE = 0.95
LEAST_GROUPS = 5
"""Groups of each class without which what compares both gets no interval: drawing the same few again tells nothing."""
EDGE = 1e-7
"""Probabilities are kept this far from 0 and 1 where their logarithm is taken."""


def one_class(fake_N: Bools) -> bool:
    """Whether a class is missing, so that nothing can be ranked."""
    return bool(fake_N.all() or not fake_N.any())


def least_groups(fake_N: Bools, groups: Sequence[str]) -> int:
    """Groups of the class that has fewer; 0 where one is missing."""
    group_N = np.asarray(groups)
    return min(len(np.unique(group_N[fake_N])), len(np.unique(group_N[~fake_N])))


def auc(fake_N: Bools, score_N: Floats) -> float:
    """Chance that a random fake scores above a random real one, ties half; nan where a class is missing or a score is nan."""
    if one_class(fake_N) or np.isnan(score_N).any():
        return float("nan")
    fakes_M, reals_K = score_N[fake_N], np.sort(score_N[~fake_N])
    below = reals_K.searchsorted(fakes_M, "left").sum() + reals_K.searchsorted(fakes_M, "right").sum()
    return float(below) / 2 / (len(fakes_M) * len(reals_K))  # Mann and Whitney's U over the number of pairs


def average_precision(fake_N: Bools, score_N: Floats) -> float:
    """Area under precision over recall of the fakes, both classes weighing alike; nan where a class is missing."""
    if one_class(fake_N):
        return float("nan")
    return float(metrics.average_precision_score(fake_N, score_N, sample_weight=class_weights(fake_N)))


def equal_error_rate(fake_N: Bools, score_N: Floats) -> float:
    """Where the share of real ones called fake equals that of fakes missed, on the straight lines between the steps of the ROC
    curve; nan where a class is missing."""
    if one_class(fake_N):
        return float("nan")
    fpr_T, tpr_T, _ = metrics.roc_curve(fake_N, score_N, drop_intermediate=False)
    gap_T = fpr_T - (1 - tpr_T)  # rises from -1 to 1
    after = int(np.argmax(gap_T >= 0))
    share = -gap_T[after - 1] / (gap_T[after] - gap_T[after - 1])
    return float(fpr_T[after - 1] + share * (fpr_T[after] - fpr_T[after - 1]))


def balanced_accuracy(fake_N: Bools, called_fake_N: Bools) -> float:
    """Mean of the two classes' recalls; nan where a class is missing."""
    if one_class(fake_N):
        return float("nan")
    return float((called_fake_N[fake_N].mean() + (~called_fake_N[~fake_N]).mean()) / 2)


def class_weights(fake_N: Bools) -> Floats:
    """Weights of mean 1 under which both classes count alike; all 1 where there is one class only."""
    if one_class(fake_N):
        return np.ones(len(fake_N))
    share = float(fake_N.mean())
    return np.where(fake_N, 0.5 / share, 0.5 / (1 - share))


def log_loss(fake_N: Bools, p_N: Floats) -> float:
    """Mean of -log p(the truth) in nats, both classes weighing alike; nan for nothing."""
    if not len(fake_N):
        return float("nan")
    clipped_N = np.clip(p_N, EDGE, 1 - EDGE)
    return float(metrics.log_loss(fake_N, clipped_N, labels=[False, True], sample_weight=class_weights(fake_N)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reliability:
    """Bins of equal weight in rising probability, [B]: mean probability, share of fakes, and share of the weight."""

    p_B: Floats
    fake_B: Floats
    weight_B: Floats

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean distance of the two, by weight."""
        return float(self.weight_B @ np.abs(self.p_B - self.fake_B))


def reliability(fake_N: Bools, p_N: Floats, bins: int | None = None) -> Reliability | None:
    """The reliability diagram in bins of equal mass (Nixon et al. 2019), both classes weighing alike; None for a missing class.

    Equal probabilities stay in one bin. By default a bin for 20 files, 2 to 15 of them: more would measure noise.
    """
    if one_class(fake_N):
        return None
    count = bins or int(np.clip(len(fake_N) // 20, 2, 15))
    weight_N = class_weights(fake_N) / len(fake_N)
    place_N = np.unique(p_N, return_inverse=True)[1]
    mass_U = np.bincount(place_N, weights=weight_N)
    middle_U = np.cumsum(mass_U) - mass_U / 2
    bin_N = (middle_U * count).astype(int)[place_N]
    mass_B = np.bincount(bin_N, weights=weight_N, minlength=count).astype(np.float64)
    full = mass_B > 0
    return Reliability(
        p_B=np.bincount(bin_N, weights=weight_N * p_N, minlength=count)[full] / mass_B[full],
        fake_B=np.bincount(bin_N, weights=weight_N * fake_N, minlength=count)[full] / mass_B[full],
        weight_B=mass_B[full],
    )


def expected_calibration_error(fake_N: Bools, p_N: Floats, bins: int | None = None) -> float:
    """The ``ece`` of ``reliability``; nan where a class is missing. For few files see ``calibration_error_floor``."""
    found = reliability(fake_N, p_N, bins)
    return float("nan") if found is None else found.ece


def calibration_error_floor(fake_N: Bools, p_N: Floats, *, draws: int = 200) -> float:
    """The mean calibration error that *perfectly* calibrated probabilities like these would show: labels are drawn from them.

    The estimate is biased upwards by chance alone, most for few files; an error near this floor is none that could be seen.
    """
    if one_class(fake_N):
        return float("nan")
    # p is for equal shares; among these files the odds of fake are those of the files' own shares
    share = float(fake_N.mean())
    odds_N = np.clip(p_N, EDGE, 1 - EDGE) / (1 - np.clip(p_N, EDGE, 1 - EDGE)) * share / (1 - share)
    own_N = odds_N / (1 + odds_N)
    rng = np.random.default_rng(0)
    errors = [expected_calibration_error(rng.random(len(own_N)) < own_N, p_N) for _ in range(draws)]
    return float(np.nanmean(errors)) if not np.all(np.isnan(errors)) else float("nan")


def risk_coverage(sure_N: Floats, wrong_N: Bools, weight_N: Floats | None = None) -> tuple[Floats, Floats]:
    """(coverage_K, risk_K): the share of files that are answered when the surest come first, and of errors among them.

    K counts the different values of ``sure_N``: files that are equally sure are answered together. ``weight_N``: what one counts.
    """
    weight_N = np.ones(len(sure_N)) if weight_N is None else weight_N
    order = np.argsort(-sure_N, kind="stable")
    taken_N = np.cumsum(weight_N[order])
    errors_N = np.cumsum((weight_N * wrong_N)[order])
    last = np.append(np.diff(sure_N[order]) != 0, True) if len(order) else np.zeros(0, bool)
    return taken_N[last] / taken_N[-1:], errors_N[last] / taken_N[last]


def area_under_risk_coverage(sure_N: Floats, wrong_N: Bools, weight_N: Floats | None = None) -> float:
    """Mean risk over all coverages (AURC, Geifman & El-Yaniv 2017): low where errors are foreseen; nan for nothing."""
    if not len(sure_N):
        return float("nan")
    coverage_K, risk_K = risk_coverage(sure_N, wrong_N, weight_N)
    return float(np.diff(coverage_K, prepend=0.0) @ risk_K)


def grouped_interval(
    groups: Sequence[str], statistic: Callable[[npt.NDArray[np.int64]], float], *, draws: int = 1000
) -> tuple[float, float]:
    """95 % interval of ``statistic(rows)`` when whole groups are drawn again with replacement; (nan, nan) where undefined."""
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    rows = [np.flatnonzero(place == number) for number in range(len(names))]
    rng = np.random.default_rng(0)
    values = [statistic(np.concatenate([rows[k] for k in rng.integers(len(rows), size=len(rows))])) for _ in range(draws)]
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def interval_of_both(
    fake_N: Bools, groups: Sequence[str], statistic: Callable[[npt.NDArray[np.int64]], float], *, draws: int = 1000
) -> tuple[float, float]:
    """``grouped_interval`` of what compares fakes with real files; (nan, nan) where either are of few groups."""
    if least_groups(fake_N, groups) < LEAST_GROUPS:
        return float("nan"), float("nan")
    return grouped_interval(groups, statistic, draws=draws)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion:
    """A share with its interval. ``upper`` is the one-sided bound that the same confidence gives: what may be promised."""

    count: int
    total: int
    groups: int
    effective: float
    """How many independent files the groups are worth: at most ``total``."""
    share: float
    low: float
    high: float
    upper: float


def clopper_pearson(count: float, total: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact two-sided interval of a share (Clopper & Pearson 1934), also for effective sizes that are no whole numbers."""
    if not 0 <= count <= total or total <= 0:
        raise ValueError(f"{count} of {total} is no share")
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(stats.beta.ppf(tail, count, total - count + 1))
    high = 1.0 if count == total else float(stats.beta.ppf(1 - tail, count + 1, total - count))
    return low, high


def clustered_clopper_pearson(alarms: Sequence[bool] | Bools, groups: Sequence[str]) -> Proportion:
    """A share among files that come in groups (Korn & Graubard 1998): Clopper-Pearson at the effective sample size.

    The design effect is the between-group variance of the share over that of independent files, at least 1; few groups are
    corrected by the ratio of Student quantiles. Where all files agree, that variance is nothing, and each group counts as one
    file: 59 groups without an alarm promise at most 5 % (``upper``). The bounds with some alarms lie no lower than
    those without any, and so the other way round: a variance that one group makes says little. Raises ValueError for no files.
    """
    alarm_N = np.asarray(alarms, dtype=bool)
    if len(alarm_N) == 0 or len(alarm_N) != len(groups):
        raise ValueError(f"{len(alarm_N)} alarms of {len(groups)} files")
    n, count = len(alarm_N), int(alarm_N.sum())
    share = count / n
    effective = _effective(alarm_N, groups)
    low, high = clopper_pearson(min(share * effective, effective), effective)
    upper = clopper_pearson(min(share * effective, effective), effective, 2 * CONFIDENCE - 1)[1]
    k = len(set(groups))
    return Proportion(
        count=count,
        total=n,
        groups=k,
        effective=effective,
        share=share,
        low=min(low, clopper_pearson(k, k)[0]),
        high=max(high, clopper_pearson(0, k)[1]),
        upper=max(upper, clopper_pearson(0, k, 2 * CONFIDENCE - 1)[1]),
    )


def _effective(alarm_N: Bools, groups: Sequence[str]) -> float:
    n = len(alarm_N)
    names, place_N = np.unique(np.asarray(groups), return_inverse=True)
    k = len(names)
    if k == n or k == 1 or alarm_N.all() or not alarm_N.any():
        return float(k)
    share = float(alarm_N.mean())
    excess_G = np.bincount(place_N, weights=alarm_N - share)
    between = k / (k - 1) * float((excess_G**2).sum()) / n**2
    design = between / (share * (1 - share) / (n - 1))
    few = float(stats.t.ppf(0.975, n - 1) / stats.t.ppf(0.975, k - 1)) ** 2
    return float(min(n, max(1.0, min(n, n / max(design, 1e-9)) * few)))

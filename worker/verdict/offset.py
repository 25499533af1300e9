"""How far a user's own real files lie from what a calibration expects of real files, and what they let one promise.

Log odds are calibrated, at full quality, before any offset. All files are taken for real and for independent of one another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from worker.verdict.calibrate import log_odds_of, probability, tempered, undecided

LEAST_FILES = 8
"""Fewer say nothing about the footage, only about themselves."""
PRIOR_FILES = 10
"""The offset 0 counts as much as this many files: n files move it by n / (n + 10) of their distance."""
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFile:
    """What a scan said of one real file."""

    name: str
    log_odds: float
    temperature: float
    thresholds: tuple[float, float]
    """(t_real, t_fake)."""
    held_back: bool
    """Poor or contradictory faces: ``uncertain`` whatever the score."""

    def score(self, offset: float) -> float:
        """p(fake) with this offset, as ``worker.verdict.decide`` would give it; of more tracks than a calibration is fitted on,
        no less."""
        return probability(tempered(self.log_odds + offset, undecided(*self.thresholds), self.temperature))

    @property
    def level(self) -> float:
        """Log odds above which good faces are called fake."""
        return log_odds_of(self.thresholds[1])

    def alarms(self, offset: float) -> bool:
        """Whether it would be called fake."""
        return not self.held_back and self.score(offset) > self.thresholds[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset:
    """``value`` is added to log odds. ``distance``: how far the files' median lies above the expected one."""

    value: float
    distance: float
    capped: bool


def fit_offset(log_odds: Sequence[float], expected: float, most: float) -> Offset:
    """Minus the distance of the medians (fakes among the files hardly move a median), shrunk towards 0, at most ``most``.

    Shrunk by n / (n + ``PRIOR_FILES``). Raises ValueError for no files.
    """
    if not log_odds:
        raise ValueError("an offset needs files")
    distance = median(log_odds) - expected
    shrunk = -distance * len(log_odds) / (len(log_odds) + PRIOR_FILES)
    value = max(-most, min(most, shrunk))
    return Offset(value=value, distance=distance, capped=value != shrunk)


def alarms_left_out(files: Sequence[OwnFile], expected: float, most: float) -> int:
    """How many files would be called fake, each with the offset that the others alone give."""
    odds = [file.log_odds for file in files]
    return sum(
        file.alarms(fit_offset(odds[:place] + odds[place + 1 :], expected, most).value) for place, file in enumerate(files)
    )


def largest_offset(real: Sequence[float], fake: Sequence[float], most: float) -> float:
    """Half the distance between the medians of held-out real and fake log odds, at most ``most``; beyond it, a usual fake
    would look more like a usual real file than like a fake. Half of ``most`` where the fakes are not known."""
    if not fake:
        return 0.5 * most
    return max(0.0, min(most, 0.5 * (median(fake) - median(real))))


def share_above(quantiles: Sequence[float], level: float) -> float:
    """Share of a distribution above ``level``, straight between its evenly spaced quantiles."""
    if level < quantiles[0]:
        return 1.0
    if level >= quantiles[-1]:
        return 0.0
    low = max(place for place, value in enumerate(quantiles[:-1]) if value <= level)
    width = quantiles[low + 1] - quantiles[low]
    return 1.0 - (low + (level - quantiles[low]) / width) / (len(quantiles) - 1)


def at_most(alarms: int, n: int, p: float) -> float:
    """Chance of ``alarms`` or fewer among ``n`` independent files, each called fake with chance ``p``."""
    if p <= 0.0 or alarms >= n:
        return 1.0
    if p >= 1.0:
        return 0.0
    ways = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(alarms + 1))
    return min(1.0, math.fsum(math.exp(w + k * math.log(p) + (n - k) * math.log1p(-p)) for k, w in enumerate(ways)))


def rate_bound(alarms: int, n: int, confidence: float = CONFIDENCE) -> float:
    """Upper bound of the rate of false alarms, one-sided (Clopper and Pearson 1934), by halving: 1 where nothing is known.

    The rate at which so few alarms would have had the chance 1 - ``confidence``: the Beta(alarms + 1, n - alarms) quantile.
    """
    if not 0 <= alarms <= n or not 0.0 < confidence < 1.0:
        raise ValueError(f"{alarms} alarms among {n} files at confidence {confidence}")
    if alarms == n:
        return 1.0
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if at_most(alarms, n, middle) > 1.0 - confidence else (low, middle)
    return 0.5 * (low + high)


def files_needed(rate: float, alarms: int = 0) -> int:
    """Least number of files that, with so many alarms among them, bound the rate by ``rate``."""
    if not 0.0 < rate < 1.0:
        raise ValueError(f"no number of files promises a rate of {rate}")
    high = 2 * (alarms + 1)
    while at_most(alarms, high, rate) > 1.0 - CONFIDENCE:
        high *= 2
    low = alarms
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at_most(alarms, middle, rate) > 1.0 - CONFIDENCE else (low, middle)
    return high

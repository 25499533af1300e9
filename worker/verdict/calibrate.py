"""From a track's logit to the probability that the video or picture is fake, where a fitted calibration holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.types import MediaKind, Strategy

Floats = npt.NDArray[np.float64]
MOST_TRACKS = 5
"""``c_tracks`` is fitted on media of up to so many tracks (``training.composites``)."""
_EPSILON = 1e-6
"""Probabilities are kept this far from 0 and 1 where their log odds are asked for."""


def probability(log_odds: float) -> float:
    """In [0, 1]; exact at the extremes."""
    return 0.5 * (1.0 + math.tanh(0.5 * log_odds))


def log_odds_of(p: float) -> float:
    """Inverse of ``probability``, finite."""
    p = min(max(p, _EPSILON), 1.0 - _EPSILON)
    return math.log(p) - math.log1p(-p)


def undecided(t_real: float, t_fake: float) -> float:
    """Log odds in the middle of uncertain: 0, or the middle of the band between the thresholds where 0.5 lies outside it."""
    return 0.0 if t_real < 0.5 < t_fake else log_odds_of(0.5 * (t_real + t_fake))


def tempered(log_odds: float, middle: float, temperature: float) -> float:
    """Log odds with their distance from ``middle`` divided by the temperature."""
    return middle + (log_odds - middle) / temperature


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """log odds = a * logit + b - c_tracks * ln(n_tracks) - c_windows * ln(n_windows), for equal shares of fake and real.

    Platt scaling (1999) of the greatest track logit. The greatest of several tracks, or of several windows, is high by chance:
    ``c_*`` take that back, and cannot be negative. What holds up to MOST_TRACKS is not drawn out for ever: tracks beyond can
    still take ``fake`` away, but lower nothing below undecided. Poor faces tell less: their log odds are divided by a temperature
    above 1 (Guo et al. 2017, here one that grows as quality falls). It was fitted, and holds, for one media kind and aggregation
    rule, some sampling strategies and a range of requested frames.

    ``n_tracks`` is a number of chances, and need not be whole: the second of eight tracks is the highest of four
    (``worker.verdict.decide``).
    """

    kind: MediaKind
    rule: str
    strategies: frozenset[Strategy]
    frames: tuple[int, int]
    """Least and greatest number of requested frames, inclusive."""
    a: float
    b: float
    c_tracks: float = 0.0
    c_windows: float = 0.0
    t_real: float = 0.35
    """Below this probability: real."""
    t_fake: float = 0.65
    """Above this probability: fake."""
    quality_full: float = 1.0
    """Faces of this quality or better are as good as any."""
    quality_slope: float = 0.0
    """Log temperature gained for each unit of quality below ``quality_full``; 0: quality does not count."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.a) and self.a > 0.0 and math.isfinite(self.b)):
            raise ValueError(f"a calibration must rise with the logit: a {self.a}, b {self.b}")
        if not (self.c_tracks >= 0.0 and self.c_windows >= 0.0):
            raise ValueError(f"more tracks or windows cannot raise p: c_tracks {self.c_tracks}, c_windows {self.c_windows}")
        if not 0.0 <= self.t_real <= self.t_fake <= 1.0:
            raise ValueError(f"thresholds must be 0 <= {self.t_real} <= {self.t_fake} <= 1")
        if not 0 <= self.frames[0] <= self.frames[1]:
            raise ValueError(f"frame range {self.frames}")
        if not (0.0 <= self.quality_full <= 1.0 and 0.0 <= self.quality_slope < math.inf):
            raise ValueError(f"poor faces cannot be surer: quality_full {self.quality_full}, quality_slope {self.quality_slope}")

    def log_odds(self, logit: float, n_tracks: float = 1, n_windows: int = 1) -> float:
        """Calibrated log odds at full quality."""
        alone = self.a * logit + self.b - self.c_windows * math.log(n_windows)
        return float(self.held_against(n_tracks, np.array([alone]))[0])

    def held_against(self, n_tracks: float, alone_N: Floats) -> Floats:
        """Log odds of tracks, each as the highest of so many, by those that they have alone."""
        fitted_N = alone_N - self.c_tracks * math.log(min(n_tracks, MOST_TRACKS))
        odds_N: Floats = np.maximum(alone_N - self.c_tracks * math.log(n_tracks), np.minimum(fitted_N, self.undecided))
        return odds_N

    def together(self, logits: Iterable[float]) -> float:
        """Log odds of several tracks, at full quality: the greatest, over all k, of the k-th highest as the highest of n / k.

        That one of n tracks is high may be chance; that k are is no more of one than that one of n / k is. So one high track
        among many is held against their number, and media full of them are not.
        """
        falling = sorted(logits, reverse=True)
        return max(self.log_odds(logit, len(falling) / place) for place, logit in enumerate(falling, 1))

    def temperature(self, quality: float) -> float:
        """What faces of this quality (0 to 1) divide the log odds by: 1 or more."""
        return math.exp(self.quality_slope * max(0.0, self.quality_full - quality))

    @property
    def undecided(self) -> float:
        """The log odds that poor faces are pulled to."""
        return undecided(self.t_real, self.t_fake)

    def tempered(self, log_odds: float, quality: float) -> float:
        """Log odds as faces of this quality allow."""
        return tempered(log_odds, self.undecided, self.temperature(quality))

    def apply(self, logit: float, n_tracks: float = 1, n_windows: int = 1, quality: float = 1.0) -> float:
        """Probability that the media are fake, in [0, 1]."""
        return probability(self.tempered(self.log_odds(logit, n_tracks, n_windows), quality))

    def logit_at(self, p: float, n_tracks: float = 1, n_windows: int = 1, quality: float = 1.0) -> float:
        """The least track logit at which ``apply`` gives ``p``, about so at 0 and 1; the level for segments and timelines."""
        full = self.undecided + (log_odds_of(p) - self.undecided) * self.temperature(quality)
        counted = n_tracks if full > self.undecided else min(n_tracks, MOST_TRACKS)
        return (full - self.b + self.c_tracks * math.log(counted) + self.c_windows * math.log(n_windows)) / self.a

    def holds_for(self, kind: MediaKind, rule: str, strategy: Strategy, requested: int) -> bool:
        """Whether it was fitted for this; a picture has no sampling, so only its kind and rule count."""
        if kind is not self.kind or rule != self.rule:
            return False
        return kind is MediaKind.PICTURE or (strategy in self.strategies and self.frames[0] <= requested <= self.frames[1])


def choose(
    calibrations: Sequence[Calibration],
    kind: MediaKind,
    rule: str,
    strategy: Strategy,
    requested: int,
    default_thresholds: tuple[float, float],
) -> tuple[Calibration, bool]:
    """The calibration to use and whether it holds.

    Where none holds, the nearest stands in and the verdict says ``calibrated: false``: of the same kind before another, then of
    the same rule, then of the same strategy, then the closest range of frames, then the earliest. With none at all: the logit
    taken at its word (a = 1, b = 0) and ``default_thresholds``, (t_real, t_fake).
    """

    def distance(entry: Calibration) -> tuple[bool, bool, bool, int]:
        outside = max(entry.frames[0] - requested, requested - entry.frames[1], 0)
        return entry.kind is not kind, entry.rule != rule, strategy not in entry.strategies, outside

    if not calibrations:
        t_real, t_fake = default_thresholds
        word = Calibration(
            kind=kind, rule=rule, strategies=frozenset(), frames=(0, 0), a=1.0, b=0.0, t_real=t_real, t_fake=t_fake
        )
        return word, False
    nearest = min(calibrations, key=distance)
    return nearest, nearest.holds_for(kind, rule, strategy, requested)

"""From the frame logits of one track to the track's logit: rules over all votes, and windows that find a short splice.

Axes: n votes in rising time, m bins of time, v votes at least a second or so apart, k windows of w of these. Logits are
uncalibrated log p(fake) - log p(real), float32 in, Python floats out. Everything here is a pure function.
docs/decisions/0006-verdict.md tells how the defaults were chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.types import Face, Segment
from worker.verdict.calibrate import log_odds_of

Float = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Rule = Callable[[Float], float]


def _checked(logits_n: Float) -> npt.NDArray[np.float64]:
    if logits_n.ndim != 1 or len(logits_n) == 0:
        raise ValueError(f"a rule needs at least one vote, got {logits_n.shape}")
    if not np.all(np.isfinite(logits_n)):
        raise ValueError("a vote is not a finite number")
    return logits_n.astype(np.float64)


def _probability(logits_n: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits_n)), dtype=np.float64)


def mean_logit(logits_n: Float) -> float:
    """The mean over all votes (Bonettini et al. 2020, arXiv 2004.07676)."""
    return float(_checked(logits_n).mean())


def confident(logits_n: Float) -> float:
    """Mean probability of the confident votes, if they are many (the DFDC winner's rule, Seferbekov 2020; t = 0.8)."""
    p_n = _probability(_checked(logits_n))
    high_n, low_n = p_n > 0.8, p_n < 0.2
    if high_n.sum() > len(p_n) // 2.5 and high_n.sum() > 11:
        return log_odds_of(float(p_n[high_n].mean()))
    if low_n.sum() > 0.9 * len(p_n):
        return log_odds_of(float(p_n[low_n].mean()))
    return log_odds_of(float(p_n.mean()))


def weighted(logits_n: Float) -> float:
    """Mean probability weighted by |p - 0.5|: undecided votes count for nothing (NTech's rule in DFDC)."""
    p_n = _probability(_checked(logits_n))
    weight_n = np.abs(p_n - 0.5)
    if weight_n.sum() == 0.0:
        return 0.0
    return log_odds_of(float(np.average(p_n, weights=weight_n)))


def consecutive(logits_n: Float) -> float:
    """Mean of the positive votes if two follow each other or they are a tenth of all, else of the others (TrueMedia's rule)."""
    x_n = _checked(logits_n)
    positive_n = x_n > 0.0
    alarmed = bool(np.any(positive_n[1:] & positive_n[:-1])) or positive_n.sum() >= max(1.0, 0.1 * len(x_n))
    return float(x_n[positive_n].mean() if alarmed else x_n[~positive_n].mean())


RULES: dict[str, Rule] = {
    "mean_logit": mean_logit,
    "confident": confident,
    "weighted": weighted,
    "consecutive": consecutive,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """How a long track is searched for a short splice."""

    min_span_s: float = 30.0
    """A track no longer than this is one window: the rule alone decides."""
    bin_s: float = 5.0
    """Votes closer than this count as one for the track as a whole, so that the second pass does not outweigh the first."""
    vote_s: float = 0.9
    """Votes closer than this count as one where windows are searched: else six of one moment, alike as neighbours are, would be a
    window, and ``n_windows`` says nothing of how many. The second pass looks once a second, give or take a frame."""
    votes: int = 6
    """Votes of a window; it is judged by their mean without the lowest and the highest quarter (rounded down), so that an outlier
    leaves no trace."""
    span_s: float = 10.0
    """Length of an independent window; where windows this dense exist (after a second pass), only they are judged."""
    gain: float = 5.0
    """Track logit gained for each logit by which a window exceeds what chance allows."""
    margin: float = 0.25
    """Standard deviations that a window must stand out beyond the usual greatest of n_windows."""
    noise_floor: float = 0.25
    """Least standard deviation of a window's mean, in logits: guards against tracks that look too steady."""
    usual_noise: float = 0.6
    """Standard deviation of a window's mean to expect in a real track, in logits. A track's own is drawn towards it, as that of a
    few scenes often seems to be none."""
    usual_weight: float = 6.0
    """Windows that ``usual_noise`` counts for, where the track's own counts for one in two bins: the lower half tells it."""
    tail_share: float = 0.1
    """Of the bins outside a window the highest: by them it is told how far up the track comes by itself."""
    tail_margin: float = 3.0
    """Mean excesses that a window must stand out beyond the usual greatest of as many bins of an exponential tail, which comes so
    far once in 20 times. Windows are no bins, though: docs/decisions/0006-verdict.md counts."""
    tail_bins: int = 60
    """With fewer bins outside the window, as in videos below five minutes, nothing is told by their tail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one track's votes say."""

    logit: float
    whole: float
    """The rule over the whole track; equals ``logit`` unless a window sticks out."""
    n_windows: int
    """Independent windows that the track was searched in; 1 for a short track."""
    window_s: tuple[float, float] | None
    """First and last vote of the window that sticks out."""
    level: float | None
    """Halfway between the track's usual logit and that window's: what lies above belongs to the splice."""
    std: float | None
    """Standard deviation of the votes that decided (the window's, or the whole track's); None below two votes."""


def _binned(
    times_n: Float, logits_n: npt.NDArray[np.float64], bin_s: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Mean logit of each occupied bin of time [m], and the bin of each vote [n]."""
    _, place_n = np.unique(np.floor((times_n - times_n[0]) / bin_s), return_inverse=True)
    return np.asarray(np.bincount(place_n, weights=logits_n) / np.bincount(place_n), dtype=np.float64), place_n


def _middle_mean(rows_kw: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    cut = rows_kw.shape[1] // 4
    return np.asarray(np.sort(rows_kw, axis=1)[:, cut : rows_kw.shape[1] - cut].mean(axis=1), dtype=np.float64)


def _lower_deviation(values_n: npt.NDArray[np.float64]) -> float:
    """Root mean square distance below the median: a deviation that what sticks out above cannot widen."""
    median = float(np.median(values_n))
    return float(np.sqrt(np.mean((values_n[values_n <= median] - median) ** 2)))


def _window_noise(bins_m: npt.NDArray[np.float64], rows_kw: npt.NDArray[np.float64], windows: Windows) -> float:
    """Standard deviation of a window's mean where nothing is spliced: from what the bins vary more than the votes inside a window
    do, and from the latter; and from what is usual, the more the fewer bins there are. Too high where the sampling beats with the
    content: then neighbouring votes differ most."""
    within = float(np.median(rows_kw.var(axis=1, ddof=1)))
    between = max(_lower_deviation(bins_m) ** 2 - within, 0.0)
    own, own_weight = between + within / rows_kw.shape[1], len(bins_m) / 2
    usual = windows.usual_weight * windows.usual_noise**2
    return math.sqrt((usual + own_weight * own) / (windows.usual_weight + own_weight))


def _tail_reach(others_m: npt.NDArray[np.float64], windows: Windows) -> float:
    """The logit up to which one more window may come by chance, from the highest bins outside it: peaks over a threshold
    (Pickands 1975), with an exponential tail. Infinite where they are too few to tell."""
    if len(others_m) < windows.tail_bins:
        return math.inf
    count = round(windows.tail_share * len(others_m))
    threshold, *highest = np.sort(others_m)[-count - 1 :].tolist()
    excess = sum(highest) / count - threshold
    return float(threshold + excess * (math.log(count) + windows.tail_margin))


def _outside(bins_m: npt.NDArray[np.float64], first: int, last: int, level: float) -> npt.NDArray[np.float64]:
    """All bins but ``first`` to ``last``, what is above ``level`` next to them, and one more on either side."""
    while first > 0 and bins_m[first - 1] > level:
        first -= 1
    while last < len(bins_m) - 1 and bins_m[last + 1] > level:
        last += 1
    return np.concatenate([bins_m[: max(0, first - 1)], bins_m[last + 2 :]])


def _std(logits_n: Float) -> float | None:
    return float(np.std(logits_n, ddof=1)) if len(logits_n) > 1 else None


def track_evidence(times_n: Float, logits_n: Float, rule: str = "mean_logit", windows: Windows | None = None) -> Evidence:
    """Judge one track by its votes in rising time [n]; ``windows`` None leaves it to the rule alone.

    A long track's logit is the rule over evenly weighted time, plus ``gain`` times the height of its worst window over the
    track's own usual logit, as far as that exceeds the reach of chance. That is the lower one of two: noise * (sqrt(2 ln
    n_windows) + margin), about the greatest of so many Gaussian windows; and how far the highest bins outside the window come.
    Each track is its own control: an offset of the whole video (compression, camera) cancels. The usual logit and the noise are
    those of the lower half of the bins, so that neither a splice nor several hide themselves. The tail is blunt there; it is
    sharp where the usual votes have a clear upper end.
    """
    x_n = _checked(logits_n)
    times_n = np.asarray(times_n, dtype=np.float64)
    if times_n.shape != x_n.shape or np.any(np.diff(times_n) < 0):
        raise ValueError("votes must come with their times, in rising order")
    span_s = float(times_n[-1] - times_n[0])
    if windows is None or span_s <= windows.min_span_s:
        whole = RULES[rule](x_n)
        return Evidence(logit=whole, whole=whole, n_windows=1, window_s=None, level=None, std=_std(x_n))
    bins_m, bin_n = _binned(times_n, x_n, windows.bin_s)
    whole = RULES[rule](bins_m)
    n_windows = max(1, round(span_s / windows.span_s))
    alone = Evidence(logit=whole, whole=whole, n_windows=n_windows, window_s=None, level=None, std=_std(x_n))
    apart_v, place_n = _binned(times_n, x_n, windows.vote_s)
    if len(apart_v) < 2 * windows.votes:
        return alone
    rows_kw = np.lib.stride_tricks.sliding_window_view(apart_v, windows.votes)
    ends_v = np.cumsum(np.bincount(place_n))
    first_k, last_k = np.append(0, ends_v)[: len(rows_kw)], ends_v[windows.votes - 1 :] - 1
    dense_k = times_n[last_k] - times_n[first_k] <= windows.span_s
    if dense_k.any():
        rows_kw, first_k, last_k = rows_kw[dense_k], first_k[dense_k], last_k[dense_k]
    usual = float(np.median(bins_m))
    middle_k = _middle_mean(rows_kw)
    worst = int(np.argmax(middle_k))
    first, last = int(first_k[worst]), int(last_k[worst])
    level = 0.5 * (usual + float(middle_k[worst]))
    chance = math.sqrt(2.0 * math.log(max(n_windows, 2))) + windows.margin
    tail = _tail_reach(_outside(bins_m, int(bin_n[first]), int(bin_n[last]), level), windows) - usual
    reach = max(windows.noise_floor * chance, min(_window_noise(bins_m, rows_kw, windows) * chance, tail))
    excess = float(middle_k[worst]) - usual - reach
    if excess <= 0.0:
        return alone
    return Evidence(
        logit=whole + windows.gain * excess,
        whole=whole,
        n_windows=n_windows,
        window_s=(float(times_n[first]), float(times_n[last])),
        level=level,
        std=_std(x_n[first : last + 1]),
    )


def _smoothed(logits_n: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Running median over ``width`` votes (odd), at the ends that of the first and of the last ones: an outlier alone leaves no
    trace, wherever it is."""
    if len(logits_n) < width:
        return np.full_like(logits_n, np.median(logits_n))
    medians = np.median(np.lib.stride_tricks.sliding_window_view(logits_n, width), axis=1)
    return np.asarray(np.pad(medians, width // 2, mode="edge"), dtype=np.float64)


def segments(
    times_n: Float,
    logits_n: Float,
    level: float,
    *,
    start_s: float = 0.0,
    end_s: float = math.inf,
    apart_s: float = math.inf,
) -> tuple[Segment, ...]:
    """Stretches of one track whose votes (running median of 3, of all and of those that the face was there for) lie above
    ``level`` logits.

    A segment reaches half-way to the neighbouring votes; at the track's first and last vote as far as on the other side, within
    [``start_s``, ``end_s``]. Looked-at frames lie no more than ``apart_s`` apart: where votes are more than twice as far, the
    face was not there, and segments end half of it beyond the one and begin half of it before the other.
    """
    t_n, x_n = np.asarray(times_n, dtype=np.float64), _checked(logits_n)
    is_away_n = np.diff(t_n) > 2.0 * apart_s
    half_n = np.where(is_away_n, apart_s, np.diff(t_n)) / 2.0
    there = np.split(x_n, np.flatnonzero(is_away_n) + 1)
    x_n = np.minimum(_smoothed(x_n, 3), np.concatenate([_smoothed(part, 3) for part in there]))
    before_n = np.concatenate([half_n[:1], half_n]) if len(half_n) else np.zeros(1)
    after_n = np.concatenate([half_n, half_n[-1:]]) if len(half_n) else np.zeros(1)
    is_high_n = x_n > level
    goes_on_n = is_high_n[1:] & is_high_n[:-1] & ~is_away_n
    first_m = np.flatnonzero(is_high_n & ~np.concatenate([[False], goes_on_n]))
    last_m = np.flatnonzero(is_high_n & ~np.concatenate([goes_on_n, [False]]))
    return tuple(
        Segment(
            start_s=max(start_s, float(t_n[first] - before_n[first])),
            end_s=min(end_s, float(t_n[last] + after_n[last])),
            max_logit=float(x_n[first : last + 1].max()),
        )
        for first, last in zip(first_m, last_m, strict=True)
    )


def votes_in_time(faces: Sequence[Face]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Times and logits [n] of the voting faces, in rising time; faces of one moment in rising logit."""
    votes = sorted((face.pts_s, face.logit) for face in faces if face.logit is not None)
    rows_n2 = np.array(votes, dtype=np.float64).reshape(-1, 2)
    return rows_n2[:, 0], rows_n2[:, 1]


def faces_by_track(faces: Sequence[Face]) -> dict[int, list[Face]]:
    """The voting faces of each track, tracks in rising number."""
    tracks: dict[int, list[Face]] = {}
    for face in faces:
        if face.votes:
            tracks.setdefault(face.track, []).append(face)
    return {number: tracks[number] for number in sorted(tracks)}

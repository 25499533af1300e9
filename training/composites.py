"""Makes videos of several tracks of single clips, as votes: joined in time or side by side; for c_tracks and what it is worth.

Axes: n votes. A composite's tracks come from different groups, since people who meet on a screen are not related.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from training.calibration import RULE, Clips, Floats, Target, choose_thresholds, fit_chances, fit_platt, folds_by_group
from training.longtracks import Layout
from worker.types import MediaKind
from worker.verdict.aggregate import Windows, track_evidence
from worker.verdict.calibrate import MOST_TRACKS, Calibration, probability

SIZES = tuple(range(1, MOST_TRACKS + 1))
CUTS = 6
"""With checkpoint 4 five real tracks were called fake in .26 of one cut's composites, in .11 of six cuts' (docs/model-card.md);
the standard deviation between cuts is .13."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrackVotes:
    """Moments (seconds, rising) and logits [n] of the deciding track of one labelled clip."""

    times_n: Floats
    logits_n: Floats
    fake: bool
    group: str

    def logit(self, n_votes: int | None = None) -> float:
        """The track's logit as the verdict takes it, from all votes or from ``n_votes`` of them, evenly taken."""
        n = len(self.logits_n)
        places = np.linspace(0, n - 1, min(n, n_votes or n)).round().astype(np.int64)
        return track_evidence(self.times_n[places], self.logits_n[places], RULE, Windows()).logit


def votes_left(clip: TrackVotes, size: int, layout: Layout) -> int:
    """Votes of the clip's track where ``size`` such clips follow each other in one video, looked at as a scan does."""
    span_s = float(clip.times_n[-1] - clip.times_n[0])
    asked = int(min(max(size * span_s / layout.first_gap_s, layout.min_first), layout.max_first))
    return asked // size


def composite_clips(clips: Sequence[TrackVotes], *, sizes: Sequence[int] = SIZES, per_size: int = 400) -> Clips:
    """The greatest track logit of ``per_size`` composites of each size: half joined in time, half side by side; of either half
    one in two all real, one in two with one fake among real ones (the hardest that is still fake). ``chances_n`` is the size.

    Joined in time, the frames of a scan are shared among the clips; side by side, every track keeps all. Groups are equally
    likely, at every size: rates of different sizes can be compared. Raises ValueError where there are not real clips of as many
    groups, and one fake clip.
    """
    made = _composites(clips, 0, sizes, per_size)
    return Clips(
        logits_n=np.array([max(logits) for logits, _ in made]),
        labels_n=np.array([int(fake) for _, fake in made], dtype=np.int64),
        groups_n=np.array([f"composite-{i}" for i in range(len(made))]),
        chances_n=np.array([len(logits) for logits, _ in made], dtype=np.int64),
    )


def _composites(clips: Sequence[TrackVotes], seed: int, sizes: Sequence[int], per_size: int) -> list[tuple[list[float], bool]]:
    """The logits of each composite's tracks, and whether one is fake."""
    layout, rng = Layout(), np.random.default_rng(seed)
    real: dict[str, list[TrackVotes]] = {}
    for clip in clips:
        if not clip.fake:
            real.setdefault(clip.group, []).append(clip)
    fakes = [clip for clip in clips if clip.fake]
    if not fakes or len(real) < max(sizes):
        raise ValueError(f"composites of {max(sizes)} tracks need a fake clip, and real ones of as many groups, got {len(real)}")

    logit = cache(TrackVotes.logit)
    by_group = sorted(real.items())
    without = cache(lambda group: [members for name, members in by_group if name != group])
    made: list[tuple[list[float], bool]] = []
    for size in sizes:
        for place in range(per_size):
            chosen = [fakes[int(rng.integers(len(fakes)))]] if place % 2 else []
            others = without(chosen[0].group if chosen else None)
            for k in rng.permutation(len(others))[: size - len(chosen)]:
                chosen.append(others[int(k)][int(rng.integers(len(others[int(k)])))])
            in_time = place % 4 < 2
            logits = [logit(clip, votes_left(clip, size, layout) if in_time else None) for clip in chosen]
            made.append((logits, bool(place % 2)))
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    """Composites of one size, out of fold: shares of the real called fake, without and with c_tracks, and of the fake with it."""

    size: int
    n: int
    uncorrected: float
    real: float
    fake: float


def crossfit_alarms(clips: Sequence[TrackVotes], target: Target, *, n_folds: int = 3, per_size: int = 200) -> list[Alarms]:
    """How often composites of each size are called fake, where a, b, c_tracks and the threshold were fitted on clips of other
    groups; in ``CUTS`` cuts into folds, since of a few dozen groups one cut tells little. Raises ValueError where the clips of a
    fold, or of the others, lack a class."""
    found = [row for cut in range(CUTS) for row in _called(clips, target, n_folds, per_size, cut)]
    return [_alarms(size, [row for row in found if row[0] == size]) for size in sorted({row[0] for row in found})]


def _called(
    clips: Sequence[TrackVotes], target: Target, n_folds: int, per_size: int, cut: int
) -> Iterator[tuple[int, bool, bool, bool]]:
    """Of each composite of one cut: its size, whether one track is fake, whether it is called so without and with c_tracks."""
    groups_n = np.array([clip.group for clip in clips])
    fold_n = folds_by_group(groups_n, np.array([int(clip.fake) for clip in clips], dtype=np.int64), n_folds, seed=cut)
    for fold in range(n_folds):
        learnt = [clip for clip, its in zip(clips, fold_n, strict=True) if its != fold]
        held = [clip for clip, its in zip(clips, fold_n, strict=True) if its == fold]
        single = composite_clips(learnt, sizes=(1,))
        a, b = fit_platt(single)
        c = fit_chances(composite_clips(learnt, sizes=_possible(learnt)), a, b)
        p_n = np.array([probability(a * logit + b) for logit in single.logits_n])
        level = choose_thresholds(p_n, single.labels_n, target)[1]
        fitted = Calibration(kind=MediaKind.VIDEO, rule=RULE, strategies=frozenset(), frames=(0, 0), a=a, b=b, c_tracks=c)
        for logits, fake in _composites(held, seed=1 + cut, sizes=_possible(held), per_size=per_size):
            alone, together = a * max(logits) + b, fitted.together(logits)
            yield len(logits), fake, probability(alone) > level, probability(together) > level


def _alarms(size: int, rows: Sequence[tuple[int, bool, bool, bool]]) -> Alarms:
    real = [row for row in rows if not row[1]]
    fake = [row for row in rows if row[1]]
    return Alarms(
        size=size,
        n=len(rows),
        uncorrected=float(np.mean([row[2] for row in real])),
        real=float(np.mean([row[3] for row in real])),
        fake=float(np.mean([row[3] for row in fake])),
    )


def _possible(clips: Sequence[TrackVotes]) -> tuple[int, ...]:
    groups = len({clip.group for clip in clips if not clip.fake})
    return tuple(size for size in SIZES if size <= groups) or SIZES[:1]

"""Which moments of a video deserve a closer look after the first sampling pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worker.types import Coverage, Face
from worker.verdict.aggregate import faces_by_track, votes_in_time


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondPass:
    """How the second sampling pass spends its frames."""

    min_gap_s: float = 1.0
    """Media looked at more closely than this need no second pass."""
    frames: int = 8
    """Frames around each moment, evenly within ``reach_s`` on either side."""
    reach_s: float = 4.0
    few_votes: int = 3
    """Tracks with fewer votes than this are looked at again ..."""
    few_step_s: float = 0.4
    """... this far before and after a vote."""
    few_share: float = 0.25
    """At most this share of the budget goes to them."""


def _moments(faces: Sequence[Face], few_votes: int) -> list[tuple[float, float]]:
    """(height, time) of the local maxima of each track's lightly smoothed logits over its own median."""
    found: list[tuple[float, float]] = []
    for times_n, logits_n in map(votes_in_time, faces_by_track(faces).values()):
        if len(logits_n) < few_votes:
            continue
        smooth_n = np.convolve(np.pad(logits_n, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
        padded = np.pad(smooth_n, 1, constant_values=-np.inf)
        peak_n = (smooth_n >= padded[:-2]) & (smooth_n > padded[2:])
        found += zip((smooth_n[peak_n] - np.median(logits_n)).tolist(), times_n[peak_n].tolist(), strict=True)
    return sorted(found, key=lambda moment: (-moment[0], moment[1]))


def second_pass_times(
    faces: Sequence[Face], coverage: Coverage, budget: int = 128, plan: SecondPass | None = None
) -> tuple[float, ...]:
    """Moments (seconds, rising) at which a second pass should look, at most ``budget``, all in the window of ``coverage``.

    First a share for tracks too short to vote, the highest logits first, then the highest moments of the others, each track
    measured against its own median. Nothing where the first pass was dense.
    """
    plan = plan or SecondPass()
    if coverage.max_gap_s <= plan.min_gap_s:
        return ()
    seen = sorted({face.pts_s for face in faces})
    chosen: list[float] = []

    def add(times: Sequence[float], limit: int) -> None:
        for time_s in times:
            near = any(abs(time_s - other) < plan.few_step_s / 2 for other in (*seen, *chosen))
            if len(chosen) < limit and coverage.start_s <= time_s < coverage.end_s and not near:
                chosen.append(time_s)

    tracks = map(votes_in_time, faces_by_track(faces).values())
    short = sorted((-x_n.max(), float(t_n[x_n.argmax()])) for t_n, x_n in tracks if len(x_n) < plan.few_votes)
    for _, time_s in short:
        add((time_s - plan.few_step_s, time_s + plan.few_step_s), int(budget * plan.few_share))
    offsets = (np.arange(plan.frames) + 0.5) / plan.frames * 2.0 * plan.reach_s - plan.reach_s
    for _, time_s in _moments(faces, plan.few_votes):
        if len(chosen) + plan.frames > budget:
            break
        add((time_s + offsets).tolist(), budget)
    return tuple(sorted(chosen))

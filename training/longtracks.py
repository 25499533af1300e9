"""Makes long one-track videos of short labelled clips, as votes: for the splice windows and their calibration.

A real clip is looped to length, with frames of a fake clip spliced in or not, and looked at just as a scan does: an even first
pass, the second pass around the worst moments, then the windows. Axes: n votes, v videos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.calibration import RULE, Clips
from worker.types import Coverage, Face, MediaKind, Strategy
from worker.verdict.aggregate import Evidence, Windows, track_evidence
from worker.verdict.second_pass import second_pass_times

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipVotes:
    """Frame logits [n] of one clip's only track, evenly spaced ``step_s`` apart."""

    logits_n: Floats
    step_s: float
    fake: bool
    group: str

    def at(self, times_s: Floats) -> Floats:
        """Logits at these moments of the endlessly looped clip."""
        return np.asarray(self.logits_n[np.floor(times_s / self.step_s).astype(np.int64) % len(self.logits_n)], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A long video and how it is looked at; the defaults are those of the scanner."""

    duration_s: float = 1200.0
    splice_s: float = 10.0
    first_gap_s: float = 5.0
    max_first: int = 512
    min_first: int = 32
    budget: int = 128


def look_at(real: ClipVotes, splice: ClipVotes | None, start_s: float, layout: Layout, windows: Windows) -> Evidence:
    """Evidence of the looped ``real`` clip with ``splice`` from ``start_s`` on, by both sampling passes."""

    def votes(times_s: Floats) -> Floats:
        if splice is None:
            return real.at(times_s)
        inside = (times_s >= start_s) & (times_s < start_s + layout.splice_s)
        return np.where(inside, splice.at(times_s), real.at(times_s))

    return look_through(votes, layout, windows)


def look_through(votes: Callable[[Floats], Floats], layout: Layout, windows: Windows) -> Evidence:
    """Evidence of one track whose logits [n] at rising times in seconds [n] are ``votes``, by both sampling passes."""
    n = int(np.clip(layout.duration_s / layout.first_gap_s, layout.min_first, layout.max_first))
    first_n = (np.arange(n) + 0.5) * layout.duration_s / n
    box = (0.0, 0.0, 200.0, 200.0)
    faces = [
        Face(pts_s=float(t), box_xyxy=box, det_prob=1.0, track=0, quality=1.0, logit=float(x))
        for t, x in zip(first_n, votes(first_n), strict=True)
    ]
    coverage = Coverage(
        kind=MediaKind.VIDEO,
        strategy=Strategy.AUTO,
        requested=n,
        decoded=n,
        with_face=n,
        max_gap_s=layout.duration_s / n,
        end_s=layout.duration_s,
    )
    second = np.array(second_pass_times(faces, coverage, layout.budget), dtype=np.float64)
    times_n = np.sort(np.concatenate([first_n, second]))
    return track_evidence(times_n, votes(times_n), RULE, windows)


def long_tracks(clips: Sequence[ClipVotes], seed: int, n_videos: int, layout: Layout, windows: Windows) -> Clips:
    """``n_videos`` long tracks, every second one with a splice from a fake clip (of the same group if there is one)."""
    rng = np.random.default_rng(seed)
    real = [clip for clip in clips if not clip.fake]
    fake = [clip for clip in clips if clip.fake]
    if not real or not fake:
        raise ValueError("long tracks need real and fake clips")
    logits: list[float] = []
    chances: list[int] = []
    groups: list[str] = []
    for place in range(n_videos):
        base = real[int(rng.integers(len(real)))]
        related = [clip for clip in fake if clip.group == base.group] or fake
        splice = related[int(rng.integers(len(related)))] if place % 2 else None
        start_s = float(rng.uniform(0.0, layout.duration_s - layout.splice_s))
        found = look_at(base, splice, start_s, layout, windows)
        logits.append(found.logit)
        chances.append(found.n_windows)
        groups.append(base.group)
    return Clips(
        logits_n=np.array(logits),
        labels_n=np.arange(n_videos, dtype=np.int64) % 2,
        groups_n=np.array(groups),
        chances_n=np.array(chances, dtype=np.int64),
    )

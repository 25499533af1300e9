"""The frames and faces of the last window or so, and the verdict on a window of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from worker.run import max_gap_s
from worker.types import Coverage, Face, Json, Label, MediaKind, NoVerdict, Strategy, Verdict
from worker.verdict.decide import Policy, decide
from worker.watch.events import TrackResult, WindowResult
from worker.watch.packed import pack_times, pack_votes, unpack_times, unpack_votes

MOST_FACES = 320
"""Faces that are held, and stored in a cursor, at most."""
FACES_PER_FRAME = 8
MOST_GAPS = 100
"""Beyond that the shortest are not held, and no window counts them."""
MOST_AT_ONCE = 200
"""Frames of one piece that are looked at, at most: of longer ones, more thinly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """A window of ``window_s`` every ``hop_s``, looked at ``fps`` times a second."""

    window_s: float
    hop_s: float
    fps: float

    def __post_init__(self) -> None:
        if not 0 < self.hop_s <= self.window_s:
            raise ValueError(f"hop {self.hop_s:g} s must be above 0 and no longer than the window of {self.window_s:g} s")
        if not self.fps > 0 or self.frames_held > MOST_FACES:
            raise ValueError(f"{self.fps:g} frames a second are too many for windows of {self.window_s:g} s")

    @property
    def frames_held(self) -> int:
        return math.ceil((self.window_s + 2 * self.hop_s) * self.fps) + 1

    @property
    def faces_per_frame(self) -> int:
        """Of a crowd only the largest are looked at, so that what is remembered has a bound."""
        return self.faces_for(0)

    def faces_for(self, frames: int) -> int:
        """The same where so many frames come at once, before the windows that they end are told."""
        return max(1, min(FACES_PER_FRAME, MOST_FACES // (self.frames_held + frames)))

    def window(self, number: int) -> tuple[float, float]:
        return number * self.hop_s, number * self.hop_s + self.window_s


class Recent:
    """Frames' times and faces in rising time, no older than a window may still need, and the stretches that were not seen."""

    def __init__(self, rhythm: Rhythm, state: Json | None = None) -> None:
        self._rhythm = rhythm
        self._times_s = unpack_times(state["times"]) if state else []
        self._faces = unpack_votes(state["faces"]) if state else []
        self._gaps = [(float(start_s), float(end_s)) for start_s, end_s in state["gaps"]] if state else []
        self._crowded_s = unpack_times(state["crowded"]) if state and "crowded" in state else []
        """Frames with faces that could vote and were not looked at."""

    def state(self) -> Json:
        crowded = {"crowded": pack_times(self._crowded_s)} if self._crowded_s else {}
        return {"times": pack_times(self._times_s), "faces": pack_votes(self._faces), "gaps": self._gaps} | crowded

    def add(self, time_s: float, faces: Sequence[Face], *, is_crowded: bool = False) -> None:
        """``is_crowded``: ``faces`` are not all of the frame that could vote."""
        self._times_s.append(time_s)
        self._faces += faces
        if is_crowded:
            self._crowded_s.append(time_s)

    def miss(self, start_s: float, end_s: float) -> None:
        if self._gaps and start_s <= self._gaps[-1][1] + 1e-6:
            self._gaps[-1] = (self._gaps[-1][0], end_s)
        else:
            self._gaps.append((start_s, end_s))
            if len(self._gaps) > MOST_GAPS:
                self._gaps.remove(min(self._gaps, key=lambda gap: gap[1] - gap[0]))

    def forget(self, before_s: float) -> None:
        """What lies before this moment is not needed any more."""
        self._times_s = [time_s for time_s in self._times_s if time_s >= before_s][-2 * self._rhythm.frames_held :]
        self._crowded_s = [time_s for time_s in self._crowded_s if time_s >= self._times_s[0]] if self._times_s else []
        self._faces = [face for face in self._faces if face.pts_s >= before_s]
        self._gaps = [gap for gap in self._gaps if gap[1] > before_s]

    def judge(self, start_s: float, end_s: float, policy: Policy) -> tuple[Verdict | NoVerdict, Coverage]:
        """All that was seen in [start, end)."""
        times_s = [time_s for time_s in self._times_s if start_s <= time_s < end_s]
        faces = [face for face in self._faces if start_s <= face.pts_s < end_s]
        gap_s = max_gap_s(times_s, start_s, end_s)
        coverage = Coverage(
            kind=MediaKind.VIDEO,
            strategy=Strategy.FPS,
            requested=max(1, round((end_s - start_s) * self._rhythm.fps)),
            decoded=len(times_s),
            with_face=len({face.pts_s for face in faces}),
            max_gap_s=gap_s,
            apart_s=gap_s,
            is_crowded=any(start_s <= time_s < end_s for time_s in self._crowded_s),
            start_s=start_s,
            end_s=max(end_s, start_s + 1e-3),
        )
        return decide(faces, coverage, policy), coverage

    def dropped_ms(self, start_s: float, end_s: float) -> int:
        """How much of [start, end) lies in gaps."""
        return round(1e3 * sum(max(0.0, min(end, end_s) - max(start, start_s)) for start, end in self._gaps))

    def tracks_in(self, start_s: float, end_s: float) -> dict[int, list[float]]:
        """Moments at which each track was seen in [start, end), voting or not."""
        seen: dict[int, list[float]] = {}
        for face in self._faces:
            if start_s <= face.pts_s < end_s:
                seen.setdefault(face.track, []).append(face.pts_s)
        return seen


def result_of(
    number: int, verdict: Verdict | NoVerdict, coverage: Coverage, *, dropped_ms: int, behind_s: float, is_last: bool = False
) -> WindowResult:
    """A window's verdict on the wire."""
    scored = verdict if isinstance(verdict, Verdict) else None
    return WindowResult(
        number=number,
        start_ms=round(1e3 * coverage.start_s),
        end_ms=round(1e3 * coverage.end_s),
        verdict=scored.label if scored else Label.NOT_APPLICABLE,
        score=scored.score if scored else None,
        reasons=tuple(str(reason) for reason in verdict.reasons),
        tracks=_tracks(scored) if scored else (),
        frames=coverage.decoded,
        with_face=coverage.with_face,
        crowded=coverage.is_crowded,
        dropped_ms=dropped_ms,
        behind_ms=round(1e3 * behind_s),
        is_last=is_last,
    )


def _tracks(verdict: Verdict) -> tuple[TrackResult, ...]:
    votes = {one.track: one.votes for one in verdict.tracks}
    return tuple(
        TrackResult(track=track, verdict=verdict.track_labels[track], score=score, votes=votes[track])
        for track, score in verdict.track_scores.items()
    )

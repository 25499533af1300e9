"""What is remembered of each track for events and the report: how often and when it was seen, its worst faces, what was told."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Final

from worker.types import Face, Json, Label

MOST_TRACKS: Final = 32


@dataclass(slots=True)
class TrackTotals:
    """``worst``: heap of (logit, minus the face's number in the watch, time, box) of its highest votes."""

    track: int
    start_s: float
    end_s: float
    faces: int = 0
    votes: int = 0
    worst: list[tuple[float, int, float, tuple[float, float, float, float]]] = field(default_factory=list)
    is_told: bool = False
    label: Label | None = None

    def state(self) -> Json:
        return {
            "track": self.track,
            "span": [self.start_s, self.end_s],
            "faces": self.faces,
            "votes": self.votes,
            "worst": [[logit, minus, time_s, list(box)] for logit, minus, time_s, box in self.worst],
            "is_told": self.is_told,
            "label": self.label,
        }


def _totals(data: Json) -> TrackTotals:
    start_s, end_s = data["span"]
    worst = [
        (float(a), int(b), float(c), (float(x1), float(y1), float(x2), float(y2))) for a, b, c, (x1, y1, x2, y2) in data["worst"]
    ]
    label = data["label"]
    return TrackTotals(
        track=int(data["track"]),
        start_s=float(start_s),
        end_s=float(end_s),
        faces=int(data["faces"]),
        votes=int(data["votes"]),
        worst=worst,
        is_told=bool(data["is_told"]),
        label=None if label is None else Label(label),
    )


class Tracks:
    """The totals of at most ``MOST_TRACKS`` tracks: beyond that the one with the fewest votes goes, of these the oldest."""

    def __init__(self, worst_per_track: int, state: Json | None = None) -> None:
        self._worst_per_track = worst_per_track
        self._totals = {int(one["track"]): _totals(one) for one in state["held"]} if state else {}
        self.left_out = int(state["left_out"]) if state else 0

    def state(self) -> Json:
        return {"held": [one.state() for one in self._totals.values()], "left_out": self.left_out}

    def note(self, face: Face, number: int) -> int | None:
        """``number``: the face's in the watch. Returns the track that had to go, if one had."""
        gone: int | None = None
        totals = self._totals.get(face.track)
        if totals is None:
            if len(self._totals) >= MOST_TRACKS:
                gone = min(self._totals.values(), key=lambda one: (one.votes, one.end_s, one.track)).track
                del self._totals[gone]
                self.left_out += 1
            totals = self._totals[face.track] = TrackTotals(track=face.track, start_s=face.pts_s, end_s=face.pts_s)
        totals.end_s = face.pts_s
        totals.faces += 1
        if face.logit is not None:
            totals.votes += 1
            x1, y1, x2, y2 = (round(value, 1) for value in face.box_xyxy)
            heapq.heappush(totals.worst, (face.logit, -number, face.pts_s, (x1, y1, x2, y2)))
            if len(totals.worst) > self._worst_per_track:
                heapq.heappop(totals.worst)
        return gone

    def get(self, track: int) -> TrackTotals | None:
        return self._totals.get(track)

    def held(self) -> list[TrackTotals]:
        return sorted(self._totals.values(), key=lambda one: one.track)

"""The votes of hours in bounded memory: all of them at first, then means of stretches that double when they are too many.

A watch shorter than some minutes is judged by its votes as a scan would be; of a longer one a splice that is short against the
stretches is seen by the rolling windows alone, and a report says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from worker.types import Face, Json
from worker.watch.packed import pack_votes, unpack_votes

MOST_VOTES: Final = 240
FIRST_STRETCH_S: Final = 1.0
OTHERS: Final = -2
"""Number of all tracks that are not held by themselves any more. As faces each has another number, below this one: seen too
rarely to be judged, they are judged together (``worker.verdict.decide``)."""
_NO_BOX = (0.0, 0.0, 0.0, 0.0)


@dataclass(slots=True)
class _Vote:
    track: int
    pts_s: float
    logit: float
    quality: float
    weight: int


class Votes:
    """Votes by track, in rising time."""

    def __init__(self, state: Json | None = None) -> None:
        self._stretch_s = float(state["stretch_s"]) if state else 0.0
        self._votes: list[_Vote] = []
        if state:
            for face, weight in zip(unpack_votes(state["votes"]), state["weights"], strict=True):
                self._votes.append(_Vote(face.track, face.pts_s, face.logit or 0.0, face.quality, int(weight)))

    def state(self) -> Json:
        return {
            "stretch_s": self._stretch_s,
            "votes": pack_votes([_face(one, one.track) for one in self._votes]),
            "weights": [one.weight for one in self._votes],
        }

    def add(self, face: Face) -> None:
        if face.logit is None:
            return
        self._votes.append(_Vote(face.track, face.pts_s, face.logit, face.quality, 1))
        while len(self._votes) > MOST_VOTES:
            self._stretch_s = max(FIRST_STRETCH_S, 2 * self._stretch_s)
            self._votes = self._joined()

    def leave_out(self, track: int) -> None:
        """This track is not held by itself any more."""
        for vote in self._votes:
            if vote.track == track:
                vote.track = OTHERS

    def faces(self) -> list[Face]:
        """As faces without a place, for a verdict."""
        return [_face(one, one.track if one.track != OTHERS else OTHERS - i) for i, one in enumerate(self._votes)]

    def _joined(self) -> list[_Vote]:
        """One vote for each track and stretch, its weighted means in single precision as a cursor holds them."""
        groups: dict[tuple[int, int], list[_Vote]] = {}
        for vote in self._votes:
            groups.setdefault((vote.track, int(vote.pts_s // self._stretch_s)), []).append(vote)
        return sorted((_mean(group) for group in groups.values()), key=lambda one: (one.pts_s, one.track))


def _mean(votes: Sequence[_Vote]) -> _Vote:
    weights = [vote.weight for vote in votes]
    return _Vote(
        track=votes[0].track,
        pts_s=float(np.average([vote.pts_s for vote in votes], weights=weights)),
        logit=float(np.float32(np.average([vote.logit for vote in votes], weights=weights))),
        quality=float(np.float32(np.average([vote.quality for vote in votes], weights=weights))),
        weight=sum(weights),
    )


def _face(vote: _Vote, track: int) -> Face:
    return Face(pts_s=vote.pts_s, box_xyxy=_NO_BOX, det_prob=1.0, track=track, quality=vote.quality, logit=vote.logit)

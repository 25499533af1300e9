"""A bounded choice of the looked-at frames for the report: evenly spaced ones, and the most suspicious."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from worker.types import Face, Json
from worker.watch.packed import pack_faces, unpack_faces

MOST_EVEN: Final = 40
MOST_WORST: Final = 20
FACES: Final = 2
"""Of a frame's faces the most suspicious are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFrame:
    index: int
    pts_s: float
    faces: tuple[Face, ...]


class KeptFrames:
    """Every ``step``-th frame, where ``step`` doubles when there are too many, and those of the highest logits."""

    def __init__(self, state: Json | None = None) -> None:
        self.count = int(state["count"]) if state else 0
        self._step = int(state["step"]) if state else 1
        self._frames: dict[int, KeptFrame] = {}
        self._worst: list[tuple[float, int]] = [(float(a), int(b)) for a, b in state["worst"]] if state else []
        """Heap of (highest logit, minus the index)."""
        if state:
            faces = iter(unpack_faces(state["faces"]))
            for index, pts_s, n in state["frames"]:
                kept = KeptFrame(index=int(index), pts_s=float(pts_s), faces=tuple(next(faces) for _ in range(int(n))))
                self._frames[kept.index] = kept

    def state(self) -> Json:
        held = [self._frames[index] for index in sorted(self._frames)]
        return {
            "count": self.count,
            "step": self._step,
            "worst": [list(pair) for pair in self._worst],
            "frames": [[one.index, one.pts_s, len(one.faces)] for one in held],
            "faces": pack_faces([face for one in held for face in one.faces]),
        }

    def add(self, pts_s: float, faces: Sequence[Face]) -> None:
        index = self.count
        self.count += 1
        suspicious = sorted(faces, key=lambda face: -math.inf if face.logit is None else face.logit, reverse=True)[:FACES]
        self._frames[index] = KeptFrame(index=index, pts_s=pts_s, faces=tuple(suspicious))
        if suspicious and suspicious[0].logit is not None:
            heapq.heappush(self._worst, (suspicious[0].logit, -index))
            if len(self._worst) > MOST_WORST:
                heapq.heappop(self._worst)
        if self.count > MOST_EVEN * self._step:
            self._step *= 2
        worst = {-minus for _, minus in self._worst}
        self._frames = {at: one for at, one in self._frames.items() if at % self._step == 0 or at in worst}

    def held(self) -> list[KeptFrame]:
        return [self._frames[index] for index in sorted(self._frames)]

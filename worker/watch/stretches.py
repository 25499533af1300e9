"""The stretches of a watch that its report names: where rolling verdicts said fake, and where nobody could look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker.types import Json, Label
from worker.watch.events import WindowResult

MOST: Final = 48
"""Of each kind; beyond that the shortest are only counted."""


@dataclass(slots=True)
class FakeStretch:
    """Windows one after the other, or overlapping, in which a track was taken for fake."""

    track: int
    start_ms: int
    end_ms: int
    max_score: float


@dataclass(slots=True)
class Missed:
    """A gap; ``cause`` as ``worker.source.live.pieces.Cause``."""

    start_ms: int
    end_ms: int
    cause: str


class Stretches:
    def __init__(self, state: Json | None = None) -> None:
        self.fake = [FakeStretch(*one) for one in state["fake"]] if state else []
        self.missed = [Missed(*one) for one in state["missed"]] if state else []
        self.missed_ms: dict[str, int] = dict(state["missed_ms"]) if state else {}
        """By cause, those that are only counted included."""
        self.more_missed = int(state["more_missed"]) if state else 0

    def state(self) -> Json:
        return {
            "fake": [[one.track, one.start_ms, one.end_ms, one.max_score] for one in self.fake],
            "missed": [[one.start_ms, one.end_ms, one.cause] for one in self.missed],
            "missed_ms": dict(self.missed_ms),
            "more_missed": self.more_missed,
        }

    def note(self, window: WindowResult) -> None:
        """Those tracks of a window that were taken for fake."""
        for one in window.tracks:
            if one.verdict is not Label.FAKE:
                continue
            for stretch in self.fake:
                if stretch.track == one.track and stretch.end_ms >= window.start_ms:
                    stretch.end_ms = max(stretch.end_ms, window.end_ms)
                    stretch.max_score = max(stretch.max_score, one.score)
                    break
            else:
                self.fake.append(FakeStretch(one.track, window.start_ms, window.end_ms, one.score))
        if len(self.fake) > MOST:
            self.fake.remove(min(self.fake, key=lambda one: (one.end_ms - one.start_ms, one.max_score)))

    def miss(self, start_s: float, end_s: float, cause: str) -> None:
        """Nobody looks at [start, end). Gaps of one cause that touch are one."""
        start_ms, end_ms = round(1e3 * start_s), round(1e3 * end_s)
        self.missed_ms[cause] = self.missed_ms.get(cause, 0) + end_ms - start_ms
        last = self.missed[-1] if self.missed else None
        if last is not None and last.cause == cause and last.end_ms >= start_ms:
            last.end_ms = end_ms
            return
        self.missed.append(Missed(start_ms, end_ms, cause))
        if len(self.missed) > MOST:
            self.missed.remove(min(self.missed, key=lambda one: one.end_ms - one.start_ms))
            self.more_missed += 1

"""A byte stream cut at key frames into small files, and the stream's own clock laid onto the watch's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from worker.source.live.pieces import LONGEST_GAP_S
from worker.types import Json

FRAME_S: Final = 0.04
"""How long a single frame is shown, and at least a cut whose frames all have one time: the watch's clock must move."""
LONGEST_CUT_S: Final = 60.0
"""A stream that says that a cut is longer has jumped."""
SLACK_S: Final = 0.5
PLAUSIBLE_S: Final = 30.0
"""The stream's clock may go on by so much more than the time that passed without us; beyond, or backwards, it began anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """``begin_s`` and ``end_s``: where it begins and the next one does, on the stream's own clock, which wraps; ``span_s``: its
    length by its own frames. ``end_at``: the place of the next one's first byte in the stream."""

    data: bytes
    begin_s: float
    end_s: float
    span_s: float
    end_at: int


class Cutter(Protocol):
    """Fed with a stream's bytes in any portions."""

    wrap_s: float
    """When the stream's clock begins anew."""

    def feed(self, data: bytes) -> Iterator[Cut]:
        """What is whole now. Raises CorruptMedia, UnsupportedMedia."""
        ...

    def rest(self) -> Cut | None:
        """What there is of the last one; a stream that is fed then begins anew."""
        ...

    def skip_to(self, at: int) -> None:
        """What is fed next is the stream from this place on; what was learned of it before still holds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A cut on the watch's clock; ``gap_s`` lies before it."""

    gap_s: float
    start_s: float
    duration_s: float


class StreamClock:
    """From a stream's own clock to the watch's: wraps and jumps of the former do not show. ``state``: as an earlier one's."""

    def __init__(self, wrap_s: float, state: Json | None = None) -> None:
        self._wrap_s = wrap_s
        self._clock_s = 0.0 if state is None else float(state["clock_s"])
        self._raw_s: float | None = None if state is None else float(state["raw_s"])

    def state(self) -> Json:
        return {"clock_s": self._clock_s, "raw_s": self._raw_s or 0.0}

    def jump_s(self, cut: Cut) -> float:
        """From where the last cut ended to where this one begins; 0 for the first."""
        if self._raw_s is None:
            return 0.0
        jump_s = (cut.begin_s - self._raw_s) % self._wrap_s
        return jump_s - self._wrap_s if jump_s > self._wrap_s / 2 else jump_s

    def place(self, cut: Cut, away_s: float = 0.0) -> Placed:
        """``away_s``: for so long we were not there to hear."""
        jump_s = self.jump_s(cut)
        is_plausible = -SLACK_S <= jump_s <= away_s + PLAUSIBLE_S
        gap_s = jump_s if is_plausible else away_s
        gap_s = min(gap_s, LONGEST_GAP_S) if gap_s >= SLACK_S else 0.0
        duration_s = (cut.end_s - cut.begin_s) % self._wrap_s
        if duration_s > LONGEST_CUT_S or not duration_s:
            duration_s = min(max(cut.span_s, FRAME_S), LONGEST_CUT_S)
        start_s = self._clock_s + gap_s
        self._clock_s, self._raw_s = start_s + duration_s, cut.end_s
        return Placed(gap_s=gap_s, start_s=start_s, duration_s=duration_s)

"""The shape of a cursor, as it comes back from where it was kept: whatever does not fit is refused before anything is made of it.

Numbers have bounds as well as kinds: a clock that is years ahead would have windows told without end.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from worker.errors import UnreadableRecord
from worker.source.live.pieces import LONGEST_GAP_S, Cause
from worker.types import Json
from worker.watch.events import Ending

VERSION: Final = 1
"""Of the layout below. It counts up with whatever a worker of the version before could not go on from (a field more, another
meaning), and the one before is read as well for as long as workers of both may run."""
LONGEST_S: Final = 1e9
"""Thirty years; no clock of ours is later."""
MOST_TEXT: Final = 64 << 10
MOST_LISTED: Final = 1000

Count = Annotated[int, Field(ge=0, le=2**53, strict=True)]
TrackNumber = Annotated[int, Field(ge=0, le=2**30, strict=True)]
"""32 bits hold it where it is packed, and a billion more."""
Whole = Annotated[int, Field(ge=-(2**53), le=2**53, strict=True)]
Seconds = Annotated[float, Field(ge=0, le=LONGEST_S, allow_inf_nan=False)]
Logit = Annotated[float, Field(ge=-1e4, le=1e4, allow_inf_nan=False)]
Pixels = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=1 << 20, strict=True)]
Text = Annotated[str, Field(max_length=MOST_TEXT)]
Name = Annotated[str, Field(max_length=200)]
Said = Literal["fake", "real", "uncertain", "not_applicable"]
Listed = Field(max_length=MOST_LISTED)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Counts(_Part):
    next_window: Count
    next_event: Count
    end_s: Seconds
    seen_until_s: Seconds
    pieces: Count
    unreadable: Count
    with_face: Count
    faces: Count
    last_frame_s: Seconds | None
    max_gap_s: Seconds
    fake_windows: Count
    detect_s: Seconds
    infer_s: Seconds
    read_s: Seconds
    watched_s: Seconds
    unsaid_s: Seconds = 0.0
    """Left out where it is 0, so that workers that do not know it go on from such a cursor; so is the next."""
    crowded: Count = 0
    label: Said | None
    ending: Ending | None
    ending_code: Name | None


class _Media(_Part):
    container: Name
    codec: Name
    width: Side
    height: Side
    fps: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
    """As much as a decoder may say (``worker.frames.wire``): whoever makes a stream says how fast its frames come."""
    decoder: Name


class _Linker(_Part):
    n: TrackNumber
    tracks: Annotated[list[tuple[TrackNumber, Text, Text]], Listed]
    before: tuple[Seconds, Text] | None


class _Recent(_Part):
    times: Text
    faces: Text
    gaps: Annotated[list[tuple[Seconds, Seconds]], Listed]
    crowded: Text = ""
    """Left out where it is empty, as above."""


class _Votes(_Part):
    stretch_s: Seconds
    votes: Text
    weights: Annotated[list[Annotated[int, Field(ge=1, le=2**53, strict=True)]], Listed]


class _Totals(_Part):
    track: Whole
    span: tuple[Seconds, Seconds]
    faces: Count
    votes: Count
    worst: Annotated[list[tuple[Logit, Whole, Seconds, tuple[Pixels, Pixels, Pixels, Pixels]]], Listed]
    is_told: bool
    label: Said | None


class _Tracks(_Part):
    held: Annotated[list[_Totals], Listed]
    left_out: Count


class _Frames(_Part):
    count: Count
    step: Annotated[int, Field(ge=1, le=2**53, strict=True)]
    worst: Annotated[list[tuple[Logit, Whole]], Listed]
    frames: Annotated[list[tuple[Count, Seconds, Annotated[int, Field(ge=0, le=8, strict=True)]]], Listed]
    faces: Text


class _Stretches(_Part):
    fake: Annotated[list[tuple[Whole, Count, Count, Share]], Listed]
    missed: Annotated[list[tuple[Count, Count, Cause]], Listed]
    missed_ms: dict[Cause, Count]
    more_missed: Count


class Cursor(_Part):
    """A cursor of this version. ``model_validate`` raises ValueError."""

    version: Literal[1]
    rhythm: tuple[float, float, float]
    position: dict[str, Any] | None
    counts: _Counts
    media: _Media | None
    linker: _Linker
    recent: _Recent
    votes: _Votes
    tracks: _Tracks
    frames: _Frames
    stretches: _Stretches

    @model_validator(mode="after")
    def _fit_together(self) -> Cursor:
        """At most one piece or gap lies between the clock and the next window, and the stream is where the clock is."""
        window_s, hop_s, _ = self.rhythm
        counts, next_s = self.counts, self.counts.next_window * hop_s
        if not next_s - 2 * hop_s <= counts.end_s <= next_s + window_s + LONGEST_GAP_S + hop_s:
            raise ValueError("windows and clock do not fit together")
        if max(counts.seen_until_s, counts.last_frame_s or 0.0) > counts.end_s + hop_s:
            raise ValueError("frames that lie ahead")
        clock_s = (self.position or {}).get("clock_s", 0.0)
        if not isinstance(clock_s, int | float) or not 0 <= clock_s <= counts.end_s - counts.unsaid_s + 1:
            raise ValueError("the stream is not where the clock is")
        if self.counts.fake_windows > self.counts.next_window:
            raise ValueError("more fake windows than windows")
        return self


def check_cursor(cursor: Json) -> None:
    """Raises UnreadableRecord where there is a name or a word in it that only another version knows, ValueError (of pydantic's
    kind), whose message may be long, where it is damaged otherwise."""
    try:
        Cursor.model_validate(cursor)
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_context=False, include_input=False)
        if any(one["type"] in ("extra_forbidden", "literal_error") for one in found):
            raise UnreadableRecord("the cursor of the watch was stored by another version of veriframe") from exc
        raise

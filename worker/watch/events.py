"""What a watch tells: one result for each window, and events; frozen values that are JSON on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.types import Label

Probability = Annotated[float, Field(ge=0, le=1)]
EventKind = Literal["track_seen", "verdict_changed", "stream_ended"]
Ending = Literal["ended", "lost", "max_duration", "stopped"]
"""The stream's own end; nothing came any more; the watch's limit; whoever watched had enough."""


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WatchEvent(Wire):
    kind: EventKind
    number: int = Field(ge=0, description="0, 1, 2, ... without a gap in one watch")
    window: int = Field(ge=0, description="number of the window that it belongs to")
    t_ms: int = Field(ge=0, description="on the watch's clock: 0 is where watching began")
    track: int | None = Field(default=None, description="null: the stream as a whole")
    verdict: Label | None = None
    score: Probability | None = None
    detail: dict[str, Any] = Field(default_factory=dict)


class TrackResult(Wire):
    track: int = Field(description="-1: faces of tracks too short to be judged by themselves")
    verdict: Label
    score: Probability
    votes: int


class WindowResult(Wire):
    """The rolling verdict: of all that was seen in [start_ms, end_ms)."""

    number: int = Field(ge=0, description="0, 1, 2, ... without a gap")
    start_ms: int
    end_ms: int
    verdict: Label
    score: Probability | None = Field(default=None, description="calibrated p(fake); null when no face voted")
    reasons: tuple[str, ...] = ()
    tracks: tuple[TrackResult, ...] = ()
    frames: int = Field(description="looked at")
    with_face: int
    crowded: bool = Field(default=False, description="faces that could be judged were not looked at: a crowd's smaller ones")
    dropped_ms: int = Field(default=0, description="of the window, what could not be looked at or was left out to keep up")
    behind_ms: int = Field(default=0, description="how much more of the stream was waiting already")
    is_last: bool = Field(default=False, description="the stream's end: as long as the others, and at most a hop on")

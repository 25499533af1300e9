"""The wire contract: one report for each scanned item (schema_version 1, docs/report.schema.json).

Fields that only later parts fill (queue, URLs, pages) are there from the start and null. Times are RFC 3339 in UTC.
"""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from worker.types import Label, MediaKind, Reason, Strategy

SCHEMA_VERSION: Final = 1
FRAMES_IN_REPORT = 256

ErrorCode = Literal[
    "unsupported",
    "corrupt",
    "empty",
    "too_large",
    "too_long",
    "fetch_refused",
    "fetch_auth",
    "fetch_geo",
    "fetch_gone",
    "fetch_rate_limited",
    "fetch_timeout",
    "decode_timeout",
    "decode_crash",
    "out_of_memory",
    "lease_lost",
    "internal",
]
Status = Literal["queued", "running", "completed", "failed", "cancelled"]
Probability = Annotated[float, Field(ge=0, le=1)]
Box = tuple[float, float, float, float]


class Wire(BaseModel):
    """Strict, closed and frozen: an unknown field is an error, but where what we have stored is read (``extra="ignore"``): a
    newer version may have written it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_enum_values=False)


class Source(Wire):
    kind: Literal["path", "url", "upload"]
    path: str | None = Field(default=None, description="absolute path, for kind=path; bytes that are not UTF-8 as \\xNN")
    url: str | None = Field(default=None, description="for kind=path only where the name is not UTF-8: the exact file: URL")

    @classmethod
    def of(cls, path: Path) -> Self:
        """The source of a local file. JSON cannot hold every file name: the URL then does, percent-encoded."""
        absolute = os.path.abspath(path)
        try:
            absolute.encode("utf-8")
        except UnicodeEncodeError:
            return cls(kind="path", path=shown_path(absolute), url=Path(absolute).as_uri())
        return cls(kind="path", path=absolute)


class Media(Wire):
    sha256: str | None = None
    phash: str | None = None
    kind: MediaKind
    duration_s: float
    fps: float
    width: int = Field(description="as shown: rotation and sample aspect applied")
    height: int
    codec: str
    container: str
    decoder: str = Field(description="the decoder that gave the frames")
    more_videos: int = Field(
        default=0,
        ge=0,
        description="further streams of moving pictures in the file, of which nothing was looked at; a cover is none",
    )
    starts_s: float = Field(
        default=0.0,
        ge=0,
        description="when a player shows the first frame, from which times here count: above 0 where sound comes first",
    )


class ReasonItem(Wire):
    code: Reason


class Thresholds(Wire):
    real_below: Probability
    fake_above: Probability


class Uncertainty(Wire):
    """All but ``frame_std`` are null where the checkpoint has no CARD head, and of watches. No verdict hangs on them."""

    piw: Probability | None = Field(
        default=None, description="width of the 95 % interval of the score over the head's draws (CARD, arXiv 2206.07275)"
    )
    ttest_p: Probability | None = Field(
        default=None, description="p-value of the paired t-test that fake and real are equally probable over the draws"
    )
    n_samples: int | None = Field(default=None, description="number of draws")
    frame_std: float | None = Field(default=None, description="standard deviation of the decisive track's frame logits")


class Odds(Wire):
    """How the score came about: undecided + (log_odds + offset - undecided) / temperature, as a probability.

    Undecided is 0, or the middle of the band between the thresholds where that does not hold 0.5.
    """

    log_odds: float = Field(description="log odds of the deciding track by the model's own calibration")
    offset: float = Field(description="added by the calibration on the user's own footage (veriframe calibrate); 0 without")
    temperature: float = Field(ge=1, description="above 1 where the deciding faces are poor: pulls the score to undecided")


class Evidence(Wire):
    t_ms: int
    box: Box = Field(description="xyxy, pixels of the frame as shown")
    score: Probability = Field(description="p(fake) of this one face by the network alone, not calibrated")
    crop: str | None = Field(default=None, description="file name of the evidence crop, relative to the report")
    explanation: str | None = Field(
        default=None, description="file name of a picture that shows how much of the score hangs on each part of the crop"
    )
    frame: str | None = Field(default=None, description="file name of the whole frame, made smaller; several may name one file")


class Track(Wire):
    id: int
    score: Probability | None = Field(description="calibrated p(fake) of the track; null where it had too few votes")
    frames: int
    votes: int
    start_ms: int
    end_ms: int
    evidence: tuple[Evidence, ...] = ()


class Segment(Wire):
    start_ms: int
    end_ms: int
    max_score: Probability = Field(
        description="highest smoothed p(fake) of single faces in it, by the network alone; of a watch, the track's highest score "
        "in a window"
    )
    track: int = Field(description="-1: faces of tracks too short to be judged by themselves")


class FaceItem(Wire):
    box: Box
    det_conf: Probability
    score: Probability | None = Field(description="p(fake) of this one face by the network alone; null where it does not vote")
    piw: Probability | None = Field(default=None, description="width of the 95 % interval of this score over a CARD head's draws")
    track: int
    quality: Probability


class FrameItem(Wire):
    index: int
    t_ms: int
    faces: tuple[FaceItem, ...]


class Sampling(Wire):
    requested: int = Field(description="frames that the first pass asked for; what a calibration's range of frames is about")
    decoded: int = Field(description="frames looked at in both passes; may exceed requested, or fall short where stopped early")
    with_face: int
    strategy: Strategy
    start_s: float | None = Field(
        default=None, description="begin of the part of a video that alone was to be looked at; null where it was the whole"
    )
    end_s: float | None = Field(default=None, description="end of that part")
    max_gap_s: float = Field(
        description="longest stretch without a looked-at frame, from begin to end of what was to be looked at; 0: all were"
    )
    undecodable_s: float | None = Field(
        default=None,
        ge=0,
        description="about how much of what was to be looked at could not be decoded, or was cut off; null: not measured "
        "(of watches)",
    )
    crowded: bool = Field(
        default=False,
        description="faces that could be judged were not looked at, as only the largest of a frame are (64; of watches fewer): "
        "never real; scan cut-outs of the crowd",
    )
    stopped_early: bool = Field(description="not all wanted frames were looked at")
    stopped_by: Literal["verdict", "media"] | None = Field(
        default=None, description="why: more frames could not have changed the verdict, or the media broke off"
    )


class Model(Wire):
    name: str
    version: str
    sha256: str
    licence: str
    backend: str
    calibration: str | None = None
    split_sha256: str | None = Field(default=None, description="hash of the file that says which groups were trained on")


class Timings(Wire):
    fetch: float | None = Field(default=None, description="getting the file, before total begins; null: it was there")
    decode: float = Field(description="waiting for frames; of a watch the same as total")
    detect: float = Field(description="sum over the threads")
    infer: float = Field(description="sum over the threads")
    total: float = Field(description="from the file at hand to the verdict and its maps; the stages overlap in it")


class WatchGap(Wire):
    start_ms: int
    end_ms: int
    cause: Literal["not_served", "unreadable", "behind", "outage"] = Field(
        description="no longer there when we came for it; does not decode; left out to keep up; no connection"
    )


class Watch(Wire):
    """Of a watched stream, what a scan does not have. Times are on the watch's clock: 0 is where watching began."""

    window_s: float
    hop_s: float
    windows: int = Field(description="the last reaches back from the end: it may be the one before once more")
    fake_windows: int = Field(description="windows whose rolling verdict was fake; a report with any is never real")
    ending: Literal["ended", "lost", "max_duration", "stopped"] | None = Field(default=None, description="null: not yet")
    missed_ms: dict[str, int] = Field(description="what was not looked at, by cause")
    gaps: tuple[WatchGap, ...] = Field(default=(), description="the longest of these stretches, at most 48")
    more_gaps: int = Field(default=0, description="further ones, not listed")
    tracks_left_out: int = Field(default=0, description="tracks of few votes that are not listed by themselves")


class ErrorItem(Wire):
    code: ErrorCode
    message: str
    retryable: bool
    sha256: str | None = Field(default=None, description="hash of the bytes that could not be scanned, where they could be read")


class Report(Wire):
    """What is known about one item; complete when ``status`` is completed or failed."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str
    kind: Literal["scan", "watch"] = "scan"
    source: Source
    external_id: str | None = None
    owner: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    retry_of: str | None = None
    status: Status
    dead: bool = False
    progress: Probability = 1.0
    attempt: int = 1
    media: Media | None = None
    near_duplicates: tuple[str, ...] = ()
    verdict: Label | None = None
    decided_by: Literal["model", "human"] = "model"
    reasons: tuple[ReasonItem, ...] = ()
    score: Probability | None = Field(default=None, description="calibrated p(fake); null when no face voted, or too few")
    calibrated: bool = False
    odds: Odds | None = Field(default=None, description="what the score was made of; null where there is none")
    thresholds: Thresholds | None = None
    uncertainty: Uncertainty = Uncertainty()
    tracks: tuple[Track, ...] = ()
    segments: tuple[Segment, ...] = ()
    frames: tuple[FrameItem, ...] = Field(default=(), max_length=FRAMES_IN_REPORT)
    sampling: Sampling | None = None
    model: Model | None = None
    timings_ms: Timings | None = None
    watch: Watch | None = Field(default=None, description="for kind=watch")
    error: ErrorItem | None = None

    @property
    def sha256(self) -> str | None:
        """Of the bytes, also of those that could not be scanned; None where they could not be read."""
        return self.media.sha256 if self.media else self.error.sha256 if self.error else None

    @property
    def start_s(self) -> float | None:
        """``sampling.start_s``; None also where nothing was looked at."""
        return self.sampling.start_s if self.sampling else None

    @property
    def end_s(self) -> float | None:
        """``sampling.end_s``; None also where nothing was looked at."""
        return self.sampling.end_s if self.sampling else None


def shown_path(path: str) -> str:
    """A path, or a part of one, as text that JSON and UTF-8 can hold: bytes that are not UTF-8 as ``\\xNN``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def new_id() -> str:
    return uuid.uuid4().hex


def now() -> datetime:
    return datetime.now(UTC)

"""Reports to make pages of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from worker.report import (
    ErrorItem,
    Evidence,
    FaceItem,
    FrameItem,
    Media,
    Model,
    Odds,
    Report,
    Sampling,
    Segment,
    Source,
    Thresholds,
    Timings,
    Track,
    Uncertainty,
    Watch,
    WatchGap,
)
from worker.types import Label, MediaKind, Strategy

AT = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
MEDIA = Media(
    sha256="ab" * 32, kind=MediaKind.VIDEO, duration_s=10, fps=25, width=640, height=360, codec="h264", container="mp4",
    decoder="pyav",
)  # fmt: skip

PART = Sampling(
    requested=8, decoded=8, with_face=8, strategy=Strategy.AUTO, start_s=3.1, end_s=5.9, max_gap_s=1, stopped_early=False
)


def face(track: int, score: float | None) -> FaceItem:
    return FaceItem(box=(100, 50, 200, 170), det_conf=0.99, score=score, track=track, quality=0.8)


def frames(*scores: float | None, track: int = 0, step_ms: int = 1000) -> tuple[FrameItem, ...]:
    """A face a second."""
    return tuple(FrameItem(index=i, t_ms=i * step_ms, faces=(face(track, score),)) for i, score in enumerate(scores))


def track(number: int = 0, score: float | None = 0.9, **more: Any) -> Track:
    one = Evidence(
        t_ms=2000, box=(100, 50, 200, 170), score=0.97, crop=f"track{number:03d}_000002000ms.jpg", frame="frame_000002000ms.jpg",
        explanation=f"track{number:03d}_000002000ms_map.jpg",
    )  # fmt: skip
    given = {"evidence": (one,), "frames": 10, "votes": 10, "start_ms": 0, "end_ms": 9000} | more
    return Track(id=number, score=score, **given)


def report(**more: Any) -> Report:
    """A fake of ten seconds, unless ``more`` says otherwise."""
    given: dict[str, Any] = {
        "id": "8f14e45fceea167a5a36dedd4bea2543",
        "source": Source(kind="path", path="/clips/a.mp4"),
        "created_at": AT,
        "started_at": AT,
        "finished_at": AT,
        "status": "completed",
        "media": MEDIA,
        "verdict": Label.FAKE,
        "score": 0.9,
        "calibrated": True,
        "odds": Odds(log_odds=2.2, offset=0, temperature=1),
        "thresholds": Thresholds(real_below=0.35, fake_above=0.65),
        "uncertainty": Uncertainty(frame_std=1.25),
        "tracks": (track(),),
        "segments": (Segment(start_ms=1000, end_ms=4000, max_score=0.95, track=0),),
        "frames": frames(0.2, 0.5, 0.97, 0.9, 0.1, None, 0.3, 0.2, 0.1, 0.1),
        "sampling": Sampling(
            requested=10, decoded=10, with_face=10, strategy=Strategy.AUTO, max_gap_s=1, stopped_early=False, stopped_by=None
        ),
        "model": Model(
            name="tiny", version="2", sha256="cd" * 32, licence="Research only", backend="onnxruntime", calibration="tiny 2"
        ),
        "timings_ms": Timings(decode=1, detect=2, infer=3, total=1500),
    }
    return Report.model_validate(given | more)


def failed(code: str = "corrupt", message: str = "moov atom not found") -> Report:
    return report(
        status="failed", error=ErrorItem.model_validate({"code": code, "message": message, "retryable": False}),
        verdict=None, score=None, odds=None, thresholds=None, media=None, tracks=(), segments=(), frames=(), sampling=None,
        timings_ms=None, uncertainty=Uncertainty(),
    )  # fmt: skip


def watched(**more: Any) -> Report:
    given: dict[str, Any] = {
        "window_s": 10,
        "hop_s": 5,
        "windows": 12,
        "fake_windows": 2,
        "ending": "lost",
        "missed_ms": {"outage": 2500},
    }
    gaps = (WatchGap(start_ms=5000, end_ms=7500, cause="outage"),)
    return report(
        kind="watch", source=Source(kind="url", url="https://live.example/a.m3u8"), watch=Watch(**given, gaps=gaps), **more
    )

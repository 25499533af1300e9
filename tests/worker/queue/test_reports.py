"""Reports as this scan's own, and as another's that is taken over."""

from __future__ import annotations

from datetime import UTC, datetime

from worker.queue.reports import without_crops
from worker.report import Evidence, Report, Source, Track

URL = "https://media.example/a.mp4"


def test_pictures_of_another_scan_are_not_named() -> None:
    evidence = Evidence(t_ms=0, box=(0, 0, 1, 1), score=0.5, crop="track-0.jpg", explanation="map.jpg", frame="frame.jpg")
    track = Track(id=0, score=0.5, frames=1, votes=1, start_ms=0, end_ms=0, evidence=(evidence,))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    report = Report(id="x", source=Source(kind="url", url=URL), created_at=moment, status="completed", tracks=(track,))
    bare = without_crops(report).tracks[0].evidence[0]
    assert (bare.crop, bare.explanation, bare.frame) == (None, None, None)
    assert (bare.t_ms, bare.score) == (0, 0.5)

"""A report as the few values that fit a row."""

from __future__ import annotations

from dataclasses import dataclass

from worker.output.text import escaped
from worker.report import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Text is ``escaped``. ``start_s`` and ``end_s``: of the part that alone was scanned, None for the whole; ``more_videos``:
    streams left aside; ``undecodable_s``: about how much could not be decoded; ``crowded``: faces were left out; None where the
    scan came to know none of these. ``worst_ms`` is the moment of the most suspicious face, None where no face was scored;
    ``seconds`` what the scan took."""

    path: str
    status: str
    verdict: str
    score: float | None
    calibrated: bool
    reasons: tuple[str, ...]
    start_s: float | None
    end_s: float | None
    more_videos: int | None
    undecodable_s: float | None
    crowded: bool | None
    tracks: int
    worst_ms: int | None
    duration_s: float | None
    seconds: float | None
    error_code: str
    error_message: str

    @property
    def why(self) -> str:
        """The error; or what qualifies the verdict: reasons, what was left out, a score that is no probability."""
        if self.error_code:
            return f"{self.error_code}: {self.error_message}"
        part = () if self.start_s is None else ("part only",)
        videos = ("one video stream of several",) if self.more_videos else ()
        damaged = ("partly undecodable",) if self.undecodable_s else ()
        crowd = ("largest faces only",) if self.crowded else ()
        calibrated = () if self.calibrated or self.score is None else ("not calibrated",)
        return ", ".join((*self.reasons, *part, *videos, *damaged, *crowd, *calibrated)).replace("_", " ")


def row_of(report: Report, encoding: str = "utf-8") -> Row:
    """``encoding``: of what will show it."""
    faces = [
        *((item.score, item.t_ms) for track in report.tracks for item in track.evidence),
        *((face.score, frame.t_ms) for frame in report.frames for face in frame.faces if face.score is not None),
    ]
    return Row(
        path=escaped(report.source.path or report.source.url or "", encoding),
        status=report.status,
        verdict=report.verdict.value if report.verdict else "",
        score=report.score,
        calibrated=report.calibrated,
        reasons=tuple(reason.code.value for reason in report.reasons),
        start_s=report.start_s,
        end_s=report.end_s,
        more_videos=report.media.more_videos if report.media else None,
        undecodable_s=report.sampling.undecodable_s if report.sampling else None,
        crowded=report.sampling.crowded if report.sampling else None,
        tracks=len(report.tracks),
        worst_ms=max(faces, key=lambda face: (face[0], -face[1]))[1] if faces else None,
        duration_s=report.media.duration_s if report.media else None,
        seconds=report.timings_ms.total / 1000 if report.timings_ms else None,
        error_code=report.error.code if report.error else "",
        error_message=escaped(report.error.message, encoding) if report.error else "",
    )

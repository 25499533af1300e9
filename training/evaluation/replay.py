"""From a finished report back to what its verdict was made of: faces, coverage, and the verdict under another rule.

A report lists at most 256 frames; of longer scans these are the worst and evenly spaced ones:
their replay is near, not exact.
"""

from __future__ import annotations

import math

from worker.report import Report
from worker.types import Coverage, Face, MediaKind, NoVerdict, Verdict
from worker.verdict.decide import Policy, decide

EDGE = 1e-7


def logit(p: float) -> float:
    """log p - log(1 - p), finite also for 0 and 1."""
    p = min(max(p, EDGE), 1 - EDGE)
    return math.log(p) - math.log1p(-p)


def faces_of(report: Report) -> list[Face]:
    """The faces that voted, in rising time."""
    return [
        Face(
            pts_s=frame.t_ms / 1000,
            box_xyxy=face.box,
            det_prob=face.det_conf,
            track=face.track,
            quality=face.quality,
            logit=logit(face.score),
        )
        for frame in report.frames
        for face in frame.faces
        if face.score is not None
    ]


def coverage_of(report: Report) -> Coverage | None:
    """How thinly the media were looked at; None for a report without media (a failed one)."""
    if report.media is None or report.sampling is None:
        return None
    sampling = report.sampling
    return Coverage(
        kind=report.media.kind,
        strategy=sampling.strategy,
        requested=sampling.requested,
        decoded=sampling.decoded,
        with_face=sampling.with_face,
        max_gap_s=sampling.max_gap_s,
        undecodable_s=sampling.undecodable_s or 0.0,
        is_crowded=sampling.crowded,
        end_s=report.media.duration_s or math.inf,
    )


def why_not_whole(report: Report) -> str | None:
    """What a scan did not look at of its file, with advice; None where it was of the whole file. ``report`` as it was read: what
    its line does not name is not known."""
    sampling = report.sampling
    if sampling is None:
        return None
    if sampling.stopped_by == "verdict":
        return "did not look at all frames: scan again with --exhaustive"
    if sampling.start_s is not None or sampling.end_s is not None:
        return "looked at a part of the video alone: scan again without --start and --end"
    is_video = report.media is None or report.media.kind is MediaKind.VIDEO
    if is_video and "start_s" not in sampling.model_fields_set:
        return "was made by a version that does not say whether it looked at the whole video: scan again"
    return None


def replay(report: Report, policy: Policy) -> Verdict | NoVerdict | None:
    """What ``policy`` says of the faces that the report holds; None for a report without media."""
    coverage = coverage_of(report)
    return None if coverage is None else decide(faces_of(report), coverage, policy)

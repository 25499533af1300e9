"""Builds reports from what a scan found: the only place where inner values become wire values."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np

from worker import report as wire
from worker.content import Content
from worker.errors import SourceError, VeriframeError
from worker.exhausted import lacking
from worker.observe import Observations
from worker.types import Coverage, Face, Label, MediaInfo, MediaKind, NoVerdict, Verdict
from worker.verdict.draws import interval_width

MESSAGE_LENGTH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that one finished scan knows."""

    info: MediaInfo
    sha256: str
    phash: str | None
    seen: Observations
    coverage: Coverage
    verdict: Verdict | NoVerdict
    timings: wire.Timings
    stopped_by: Literal["verdict", "media"] | None


def failed_report(job: wire.Report, error: Exception, content: Content | None = None) -> wire.Report:
    """The report of an item that could not be scanned; ``content`` None: its bytes could not be read. It speaks of
    none either where they were hashed and then could not be opened: they went, or their disk did."""
    scanned = None if isinstance(error, SourceError) else content
    told = error_item(error).model_copy(update={"sha256": scanned.sha256 if scanned else None})
    return job.model_copy(update={"status": "failed", "finished_at": wire.now(), "progress": 1.0, "error": told})


def error_item(error: Exception) -> wire.ErrorItem:
    """An error as the wire contract names it; what has no code there is ``internal``, and an exhausted machine worth a retry."""
    code = error.code if isinstance(error, VeriframeError) else "internal"
    if isinstance(error, SourceError):
        code = "unsupported"
    if code not in get_args(wire.ErrorCode):
        code = "internal"
    short = lacking(error)
    message = str(error) if isinstance(error, VeriframeError) else short or f"{type(error).__name__}: {error}"
    return wire.ErrorItem(
        code=cast(wire.ErrorCode, code),
        message=printable(message)[:MESSAGE_LENGTH],
        retryable=error.retryable if isinstance(error, VeriframeError) else short is not None,
    )


def completed_report(job: wire.Report, found: Findings, *, evidence_per_track: int) -> tuple[wire.Report, dict[str, bytes]]:
    """The report of a scanned item and its evidence crops by file name."""
    verdict = found.verdict
    tracks, crops = _tracks(found, evidence_per_track)
    update: dict[str, object] = {
        "status": "completed",
        "finished_at": wire.now(),
        "progress": 1.0,
        "media": media_part(found.info, found.info.duration_s, found.sha256, found.phash),
        "reasons": tuple(wire.ReasonItem(code=reason) for reason in verdict.reasons),
        "tracks": tracks,
        "frames": _frames(found.seen),
        "sampling": _sampling(found),
        "timings_ms": found.timings,
    }
    if isinstance(verdict, Verdict):
        update |= {
            "verdict": verdict.label,
            "score": verdict.score,
            "calibrated": verdict.calibrated,
            "odds": wire.Odds(log_odds=verdict.log_odds, offset=verdict.offset, temperature=verdict.temperature),
            "thresholds": wire.Thresholds(real_below=verdict.thresholds[0], fake_above=verdict.thresholds[1]),
            "uncertainty": uncertainty(verdict),
            "segments": _segments(verdict),
        }
    else:
        update["verdict"] = Label.NOT_APPLICABLE
    return job.model_copy(update=update), crops


def uncertainty(verdict: Verdict) -> wire.Uncertainty:
    """The report's ``uncertainty``."""
    doubt = verdict.doubt
    if doubt is None:
        return wire.Uncertainty(frame_std=verdict.frame_std)
    return wire.Uncertainty(piw=doubt.piw, ttest_p=doubt.ttest_p, n_samples=doubt.n_samples, frame_std=verdict.frame_std)


def probability(logit: float) -> float:
    """p(fake) of a logit; exact at the extremes."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def printable(text: str) -> str:
    """Without control characters, so that a hostile file cannot write to a terminal or a log."""
    return "".join(" " if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} else char for char in text)


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def box_of(face: Face) -> wire.Box:
    """In pixels, to a tenth."""
    x1, y1, x2, y2 = (round(v, 1) for v in face.box_xyxy)
    return x1, y1, x2, y2


def media_part(info: MediaInfo, duration_s: float, sha256: str | None = None, phash: str | None = None) -> wire.Media:
    """The report's ``media``; a live stream lasts as long as it was watched, and has no hashes."""
    return wire.Media(
        sha256=sha256,
        phash=phash,
        kind=info.kind,
        duration_s=round(duration_s, 3),
        fps=round(info.fps, 3),
        width=info.width,
        height=info.height,
        codec=printable(info.codec),
        container=printable(info.container),
        decoder=info.decoder,
        more_videos=info.more_videos,
        starts_s=round(info.starts_s, 3),
    )


def _sampling(found: Findings) -> wire.Sampling:
    coverage, length_s = found.coverage, found.info.duration_s
    is_part = found.info.kind is MediaKind.VIDEO and (coverage.start_s > 0 or coverage.end_s < length_s)
    return wire.Sampling(
        requested=coverage.requested,
        decoded=coverage.decoded,
        with_face=coverage.with_face,
        strategy=coverage.strategy,
        start_s=round(coverage.start_s, 3) if is_part else None,
        end_s=round(min(coverage.end_s, length_s), 3) if is_part else None,
        max_gap_s=round(coverage.max_gap_s, 3),
        undecodable_s=round(coverage.undecodable_s, 3),
        crowded=coverage.is_crowded,
        stopped_early=found.stopped_by is not None,
        stopped_by=found.stopped_by,
    )


def _tracks(found: Findings, evidence_per_track: int) -> tuple[tuple[wire.Track, ...], dict[str, bytes]]:
    scores = found.verdict.track_scores if isinstance(found.verdict, Verdict) else {}
    by_track: dict[int, list[int]] = {}
    for number, face in enumerate(found.seen.faces):
        by_track.setdefault(face.track, []).append(number)
    tracks: list[wire.Track] = []
    crops: dict[str, bytes] = {}
    for track, numbers in sorted(by_track.items()):
        faces = [found.seen.faces[number] for number in numbers]
        evidence: list[wire.Evidence] = []
        for logit, number in _worst(found.seen.faces, numbers, evidence_per_track):
            face = found.seen.faces[number]
            jpeg = found.seen.evidence.jpeg(number)
            name = f"track{track:03d}_{_ms(face.pts_s):09d}ms.jpg" if jpeg is not None else None
            if name is not None and jpeg is not None:
                crops[name] = jpeg
            frame = _key_frame(found.seen, face.pts_s, crops)
            item = wire.Evidence(t_ms=_ms(face.pts_s), box=box_of(face), score=probability(logit), crop=name, frame=frame)
            evidence.append(item)
        tracks.append(
            wire.Track(
                id=track,
                score=scores.get(track),
                frames=len(faces),
                votes=sum(face.votes for face in faces),
                start_ms=_ms(min(face.pts_s for face in faces)),
                end_ms=_ms(max(face.pts_s for face in faces)),
                evidence=tuple(evidence),
            )
        )
    return tuple(tracks), crops


def _key_frame(seen: Observations, pts_s: float, pictures: dict[str, bytes]) -> str | None:
    """The name of the whole frame of a moment, added to ``pictures``; None where it was not kept."""
    jpeg = seen.key_frames.jpeg(pts_s)
    if jpeg is None:
        return None
    name = f"frame_{_ms(pts_s):09d}ms.jpg"
    pictures[name] = jpeg
    return name


def _worst(faces: Sequence[Face], numbers: Sequence[int], most: int) -> list[tuple[float, int]]:
    """The voting faces of highest logit, worst first, as (logit, number)."""
    voting = [(logit, number) for number in numbers if (logit := faces[number].logit) is not None]
    return sorted(voting, key=lambda pair: -pair[0])[:most]


def _segments(verdict: Verdict) -> tuple[wire.Segment, ...]:
    return tuple(
        wire.Segment(start_ms=_ms(part.start_s), end_ms=_ms(part.end_s), max_score=probability(part.max_logit), track=track)
        for track, parts in verdict.segments.items()
        for part in parts
    )


def _frames(seen: Observations) -> tuple[wire.FrameItem, ...]:
    """At most 256 frames: all of them, or the evenly spaced ones and the most suspicious."""
    count = len(seen.frames)
    chosen = np.arange(count)
    if count > wire.FRAMES_IN_REPORT:
        worst = [_worst(seen.faces, frame.faces, 1) for frame in seen.frames]
        top = np.argsort([-face[0][0] if face else math.inf for face in worst], kind="stable")[: wire.FRAMES_IN_REPORT // 2]
        even = np.linspace(0, count - 1, wire.FRAMES_IN_REPORT // 2).round().astype(int)
        chosen = np.union1d(top, even)
    return tuple(_frame(int(i), seen) for i in chosen)


def all_frames(seen: Observations) -> tuple[wire.FrameItem, ...]:
    """Every looked-at frame: the full list, of which a report holds at most 256."""
    return tuple(_frame(index, seen) for index in range(len(seen.frames)))


def _frame(index: int, seen: Observations) -> wire.FrameItem:
    frame = seen.frames[index]
    faces = tuple(
        wire.FaceItem(
            box=box_of(face),
            det_conf=min(1.0, face.det_prob),
            score=None if face.logit is None else probability(face.logit),
            piw=None if face.draws_N is None else float(interval_width(face.draws_N[None])[0]),
            track=face.track,
            quality=face.quality,
        )
        for face in (seen.faces[number] for number in frame.faces)
    )
    return wire.FrameItem(index=index, t_ms=_ms(frame.pts_s), faces=faces)

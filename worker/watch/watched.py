"""The report of a watch, so far or at its end: built from what a cursor holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from worker import report as wire
from worker.assemble import box_of, media_part, probability
from worker.errors import EmptyMedia
from worker.types import Coverage, Face, Label, MediaKind, NoVerdict, Reason, Strategy, Verdict
from worker.verdict.decide import Policy, decide
from worker.watch.state import WatchState
from worker.watch.stretches import Missed
from worker.watch.tracks import TrackTotals


def watch_report(
    state: WatchState, *, source: wire.Source, model: wire.Model, policy: Policy, created_at: datetime
) -> wire.Report:
    """Raises EmptyMedia where nothing was seen at all."""
    if state.media is None:
        raise EmptyMedia("nothing of the stream could be looked at")
    verdict = _verdict(state, policy)
    counts = state.counts
    scored: dict[str, object] = {}
    if isinstance(verdict, Verdict):
        scored = {
            "score": verdict.score,
            "calibrated": verdict.calibrated,
            "odds": wire.Odds(log_odds=verdict.log_odds, offset=verdict.offset, temperature=verdict.temperature),
            "thresholds": wire.Thresholds(real_below=verdict.thresholds[0], fake_above=verdict.thresholds[1]),
            "uncertainty": wire.Uncertainty(frame_std=verdict.frame_std),
        }
    job = wire.Report(
        id=wire.new_id(),
        kind="watch",
        source=source,
        created_at=created_at,
        started_at=created_at,
        finished_at=wire.now(),
        status="completed",
        media=media_part(state.media, state.counts.end_s),
        verdict=verdict.label if isinstance(verdict, Verdict) else Label.NOT_APPLICABLE,
        reasons=tuple(wire.ReasonItem(code=reason) for reason in verdict.reasons),
        tracks=tuple(_track(one, state, verdict) for one in state.tracks.held()),
        segments=_segments(state),
        frames=_frames(state),
        sampling=_sampling(state),
        model=model,
        timings_ms=wire.Timings(
            decode=round(1e3 * max(0.0, counts.read_s), 1),
            detect=round(1e3 * counts.detect_s, 1),
            infer=round(1e3 * counts.infer_s, 1),
            total=round(1e3 * counts.read_s, 1),
        ),
        watch=_watch(state),
    )
    return job.model_copy(update=scored)


def crop_name(track: int, time_s: float) -> str:
    return f"track{track:03d}_{round(1e3 * time_s):09d}ms.jpg"


def _verdict(state: WatchState, policy: Policy) -> Verdict | NoVerdict:
    """All votes together. Where a rolling verdict said fake the whole is never called real: a splice is short against hours."""
    faces = state.votes.faces()
    if not faces and state.counts.faces:
        faces = [_voteless()]
    verdict = decide(faces, _coverage(state), policy)
    if isinstance(verdict, Verdict) and verdict.label is Label.REAL and state.counts.fake_windows:
        return replace(verdict, label=Label.UNCERTAIN, reasons=(Reason.HIGH_UNCERTAINTY,))
    return verdict


def _voteless() -> Face:
    return Face(pts_s=0.0, box_xyxy=(0.0, 0.0, 0.0, 0.0), det_prob=1.0, track=0, quality=0.0, logit=None, too_small=True)


def _coverage(state: WatchState) -> Coverage:
    counts = state.counts
    return Coverage(
        kind=MediaKind.VIDEO,
        strategy=Strategy.FPS,
        requested=max(1, round(counts.end_s * state.rhythm.fps)),
        decoded=state.frames.count,
        with_face=counts.with_face,
        max_gap_s=max(counts.max_gap_s, counts.end_s - (counts.last_frame_s or 0.0)),
        is_crowded=counts.crowded > 0,
        end_s=max(counts.end_s, 1e-3),
    )


def _track(one: TrackTotals, state: WatchState, verdict: Verdict | NoVerdict) -> wire.Track:
    scores = verdict.track_scores if isinstance(verdict, Verdict) else {}
    evidence = tuple(
        wire.Evidence(
            t_ms=round(1e3 * time_s),
            box=box,
            score=probability(logit),
            crop=crop_name(one.track, time_s) if state.evidence.jpeg(-minus) is not None else None,
        )
        for logit, minus, time_s, box in sorted(one.worst, reverse=True)
    )
    return wire.Track(
        id=one.track,
        score=scores.get(one.track),
        frames=one.faces,
        votes=one.votes,
        start_ms=round(1e3 * one.start_s),
        end_ms=round(1e3 * one.end_s),
        evidence=evidence,
    )


def _segments(state: WatchState) -> tuple[wire.Segment, ...]:
    return tuple(
        wire.Segment(start_ms=one.start_ms, end_ms=one.end_ms, max_score=one.max_score, track=one.track)
        for one in state.stretches.fake
    )


def _frames(state: WatchState) -> tuple[wire.FrameItem, ...]:
    return tuple(
        wire.FrameItem(
            index=kept.index,
            t_ms=round(1e3 * kept.pts_s),
            faces=tuple(
                wire.FaceItem(
                    box=box_of(face),
                    det_conf=min(1.0, face.det_prob),
                    score=None if face.logit is None else probability(face.logit),
                    track=face.track,
                    quality=min(1.0, face.quality),
                )
                for face in kept.faces
            ),
        )
        for kept in state.frames.held()
    )


def _sampling(state: WatchState) -> wire.Sampling:
    coverage = _coverage(state)
    return wire.Sampling(
        requested=coverage.requested,
        decoded=coverage.decoded,
        with_face=coverage.with_face,
        strategy=coverage.strategy,
        max_gap_s=round(coverage.max_gap_s, 3),
        crowded=coverage.is_crowded,
        stopped_early=False,
    )


def _watch(state: WatchState) -> wire.Watch:
    counts, stretches = state.counts, state.stretches
    return wire.Watch(
        window_s=state.rhythm.window_s,
        hop_s=state.rhythm.hop_s,
        windows=counts.next_window,
        fake_windows=counts.fake_windows,
        ending=counts.ending,
        missed_ms=dict(stretches.missed_ms),
        gaps=tuple(_gap(one) for one in stretches.missed),
        more_gaps=stretches.more_missed,
        tracks_left_out=state.tracks.left_out,
    )


def _gap(one: Missed) -> wire.WatchGap:
    return wire.WatchGap.model_validate({"start_ms": one.start_ms, "end_ms": one.end_ms, "cause": one.cause})

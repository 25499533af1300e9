"""The events that a finished window gives."""

from __future__ import annotations

from typing import Final

from worker.types import Json, Label
from worker.watch.events import EventKind, WatchEvent, WindowResult
from worker.watch.state import WatchState

SIGHTINGS: Final = 2
"""Moments in one window at which a track must have been seen to be told: a single one is often no face."""
MOST_SEEN: Final = 16
"""Tracks told as seen in one window at most; the others when the next one ends."""


def events_of(state: WatchState, window: WindowResult) -> list[WatchEvent]:
    """In order: tracks seen for the first time, verdicts that changed (tracks, then the whole), the end. ``state`` remembers
    what was told."""
    return [*_seen(state, window), *_changed(state, window), *_ended(state, window)]


def _seen(state: WatchState, window: WindowResult) -> list[WatchEvent]:
    events: list[WatchEvent] = []
    for track, times_s in sorted(state.recent.tracks_in(window.start_ms / 1e3, window.end_ms / 1e3).items()):
        totals = state.tracks.get(track)
        if totals is None or totals.is_told or len(times_s) < SIGHTINGS or len(events) >= MOST_SEEN:
            continue
        totals.is_told = True
        events.append(_event(state, window, "track_seen", t_ms=round(1e3 * totals.start_s), track=track))
    return events


def _changed(state: WatchState, window: WindowResult) -> list[WatchEvent]:
    events: list[WatchEvent] = []
    for one in window.tracks:
        totals = state.tracks.get(one.track)
        if totals is None or totals.label is one.verdict:
            continue
        before, totals.label = totals.label, one.verdict
        event = _event(
            state,
            window,
            "verdict_changed",
            t_ms=window.end_ms,
            track=one.track,
            verdict=one.verdict,
            score=one.score,
            detail={"before": before, "votes": one.votes},
        )
        events.append(event)
    if state.counts.label is not window.verdict:
        before, state.counts.label = state.counts.label, window.verdict
        event = _event(
            state,
            window,
            "verdict_changed",
            t_ms=window.end_ms,
            verdict=window.verdict,
            score=window.score,
            detail={"before": before, "reasons": list(window.reasons)},
        )
        events.append(event)
    return events


def _ended(state: WatchState, window: WindowResult) -> list[WatchEvent]:
    if state.counts.ending is None:
        return []
    detail = {"ending": state.counts.ending, "code": state.counts.ending_code, "missed_ms": dict(state.stretches.missed_ms)}
    return [_event(state, window, "stream_ended", t_ms=window.end_ms, detail=detail)]


def _event(
    state: WatchState,
    window: WindowResult,
    kind: EventKind,
    *,
    t_ms: int,
    track: int | None = None,
    verdict: Label | None = None,
    score: float | None = None,
    detail: Json | None = None,
) -> WatchEvent:
    number = state.counts.next_event
    state.counts.next_event += 1
    return WatchEvent(
        kind=kind, number=number, window=window.number, t_ms=t_ms, track=track, verdict=verdict, score=score, detail=detail or {}
    )

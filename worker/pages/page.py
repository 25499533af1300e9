"""The page of one report: one HTML file without scripts and network, for a screen or for paper."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from worker import __version__
from worker.deciding import is_pooled, ranked
from worker.output.text import shown_address
from worker.pages import words
from worker.pages.evidence import MOST_NAMED, shown_tracks
from worker.pages.pictures import MOST_BYTES, Load, Pictures
from worker.pages.render import content_policy, render, style
from worker.pages.timeline import FRAME_MS, digits, left_out, listed, moment, score_svg, timeline_svg, unjudged_left_out, unlisted
from worker.report import Report
from worker.types import Label

MOST_VALUES: Final = 1024
"""Rows of the table of single faces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One judged face, as the table beside the timeline has it."""

    t_ms: int
    track: int
    score: float | None
    quality: float


def report_page(
    report: Report, load: Load, *, model_said: Label | None = None, up: str | None = None, most_bytes: int = MOST_BYTES
) -> str:
    """HTML. ``load`` gives the pictures that the report names; ``model_said``: the model's own word under a human's, as far as it
    is known; ``up``: address of the page that lists this one."""
    pictures = Pictures(load, most_bytes)
    tracks, values = ranked(report), values_of(report)
    return str(
        render(
            "page.html.j2",
            report=report,
            title=name_of(report),
            head=words.headline(report),
            tone=words.tone(report),
            model_said=None if model_said is None else words.VERDICTS[model_said],
            words=words,
            score=score_svg(report),
            digits=digits(report),
            is_pooled=is_pooled(report),
            timeline=timeline_svg(report),
            timelines_left_out=left_out(report),
            unjudged_left_out=unjudged_left_out(report),
            unlisted=unlisted(report),
            shown=shown_tracks(report, pictures),
            tracks=tracks[:MOST_NAMED],
            tracks_left_out=max(0, len(tracks) - MOST_NAMED),
            has_map=any(one.explanation for track in report.tracks for one in track.evidence),
            values=values,
            values_left_out=sum(len(frame.faces) for frame in report.frames) - len(values),
            listed=listed(report),
            moment=moment,
            frame_ms=FRAME_MS,
            up=up,
            version=__version__,
            style=style(),
            policy=content_policy(),
        )
    )


def name_of(report: Report) -> str:
    """What people call the media: the last part of a path or an address, or the scan's id."""
    source = report.source
    if source.path is not None:
        return posixpath.basename(source.path) or source.path
    if source.url is not None:
        try:
            parts = urlsplit(source.url)
        except ValueError:  # an address that is none: the report says so
            return shown_address(source.url)
        return posixpath.basename(parts.path.rstrip("/")) or parts.hostname or shown_address(source.url)
    return f"upload of scan {report.id[:8]}"


def values_of(report: Report) -> tuple[Value, ...]:
    """Single faces in rising time."""
    faces = (
        Value(t_ms=frame.t_ms, track=face.track, score=face.score, quality=face.quality)
        for frame in report.frames
        for face in frame.faces
    )
    return tuple(value for value, _ in zip(faces, range(MOST_VALUES), strict=False))

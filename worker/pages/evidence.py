"""The tracks and moments that a page shows, with their pictures and the boxes in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker.deciding import ranked
from worker.output.text import shown_score
from worker.pages.pictures import Picture, PictureSource
from worker.pages.timeline import FRAME_MS, moment
from worker.report import Box, Evidence, Report, Track
from worker.types import MediaKind

MOST_TRACKS: Final = 24
"""Tracks whose evidence is shown, in the order of ``ranked``; a table names further ones up to ``MOST_NAMED``."""
MOST_NAMED: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A box in a frame. ``is_this``: the one that the moment is about."""

    box: Box
    label: str
    said: str
    is_this: bool

    @property
    def width(self) -> float:
        return max(1.0, self.box[2] - self.box[0])

    @property
    def height(self) -> float:
        return max(1.0, self.box[3] - self.box[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """``at``: " at " and the time; empty for a picture, which has none. ``frame`` None: none was to be kept of this moment.
    ``map`` None: none was made."""

    said: str
    at: str
    score: float
    crop: Picture
    map: Picture | None
    frame: Picture | None
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTrack:
    track: Track
    moments: tuple[Moment, ...]


def shown_tracks(report: Report, pictures: PictureSource) -> tuple[ShownTrack, ...]:
    """Of those that have evidence."""
    with_evidence = [track for track in ranked(report) if track.evidence][:MOST_TRACKS]
    return tuple(
        ShownTrack(track=track, moments=tuple(_moment(report, track, one, pictures) for one in track.evidence))
        for track in with_evidence
    )


def _moment(report: Report, track: Track, one: Evidence, pictures: PictureSource) -> Moment:
    is_due = one is track.evidence[0] and report.kind == "scan"  # of watches no whole frames are kept
    said = moment(one.t_ms, FRAME_MS)
    return Moment(
        said=said,
        at="" if report.media is not None and report.media.kind is MediaKind.PICTURE else f" at {said}",
        score=one.score,
        crop=pictures.get(one.crop),
        map=pictures.get(one.explanation) if one.explanation is not None else None,
        frame=pictures.get(one.frame) if one.frame is not None or is_due else None,
        marks=_marks(report, track.id, one),
    )


def _marks(report: Report, track: int, one: Evidence) -> tuple[Mark, ...]:
    """The face itself, and the others that were seen in the same frame."""
    others = [
        Mark(box=face.box, label=str(face.track), said=f"track {face.track}", is_this=False)
        for frame in report.frames
        if frame.t_ms == one.t_ms
        for face in frame.faces
        if face.track != track
    ]
    label = f"{track}: {shown_score(one.score)}"
    said = f"track {track}, score {shown_score(one.score, in_words=True)}"
    return (
        *others,
        Mark(box=one.box, label=label, said=said, is_this=True),
    )

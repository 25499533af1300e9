"""A report's scores over time and its score between the thresholds, as inline SVG: places across are in percent, so that text
keeps its size on every screen. Needs ``style.css``; has no script, no inline style."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from worker.deciding import is_pooled
from worker.pages.render import render
from worker.report import FrameItem, Report, Segment, Track
from worker.types import MediaKind

MOST_ROWS: Final = 12
"""Tracks that have a timeline: those of the highest score that are in listed frames or suspicious somewhere."""
ROW_PX, PLOT_PX, TOP_PX = 132, 84, 28
POOLED: Final = -1
"""Number of the pseudo-track of all faces whose own track is too short."""
STEPS_MS: Final = (100, 200, 500, *(1000 * s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)))
DAY_MS: Final = 86_400_000
DIGITS: Final = 3
MOST_DIGITS: Final = 17
"""Of what a double can tell apart between 0.1 and 1."""
MOST_TICKS: Final = 6
FRAME_MS: Final = 10
"""So close are the moments of frames told apart: neighbours lie less than a tenth of a second from each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A face: ``x`` in percent of the width, ``y`` in pixels of its row; ``y`` None: seen, and not judged."""

    x: float
    y: float | None
    t_ms: int
    score: float | None
    is_suspicious: bool
    """In a suspicious stretch: by its own score it cannot be told, as the thresholds are for calibrated ones."""
    is_evidence: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """From ``x`` on, ``width`` percent wide."""

    x: float
    width: float
    start_ms: int
    end_ms: int
    score: float | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    track: int
    title: str
    level: float | None
    """Height of the track's own, calibrated score."""
    dots: tuple[Dot, ...]
    suspects: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The stretch of the media that is shown."""

    start_ms: int
    end_ms: int

    def x(self, t_ms: float) -> float:
        """In percent."""
        return round(100 * min(1.0, max(0.0, (t_ms - self.start_ms) / (self.end_ms - self.start_ms))), 3)

    def stretch(self, start_ms: int, end_ms: int, *, score: float | None = None, cause: str = "") -> Stretch:
        x = self.x(start_ms)
        width = max(0.4, self.x(end_ms) - x)
        return Stretch(x=min(x, 99.6), width=round(width, 3), start_ms=start_ms, end_ms=end_ms, score=score, cause=cause)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        span_ms = self.end_ms - self.start_ms
        days = -(-span_ms // (MOST_TICKS * DAY_MS)) * DAY_MS  # times may be anything: a media file says them
        step = next((step for step in STEPS_MS if span_ms / step <= MOST_TICKS), days)
        first = -(-self.start_ms // step) * step
        return tuple((self.x(t_ms), moment(t_ms, step)) for t_ms in range(first, self.end_ms + 1, step))


def moment(t_ms: int, step_ms: int = 100) -> str:
    """A moment as ``m:ss`` or ``h:mm:ss``; with tenths where ``step_ms`` is below a second, hundredths where below a tenth."""
    whole, ms = divmod(t_ms, 1000)
    minutes, seconds = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    if step_ms < 100:
        return f"{clock}.{ms // 10:02d}"
    return f"{clock}.{ms // 100}" if step_ms < 1000 else clock


def timeline_svg(report: Report) -> Markup:
    """The scores of each track over time, with the undecided band, suspicious stretches, moments of evidence, frames that were
    looked at and, of a watch, gaps. Empty where there is no time or nothing was looked at.

    For scripts that enhance it: the ``svg`` has ``data-start-ms`` and ``data-end-ms``, each face ``data-t-ms``.
    """
    if report.media is None or report.media.kind is MediaKind.PICTURE or not report.frames:
        return Markup()
    axis = axis_of(report)
    rows = rows_of(report, axis)
    gaps = tuple(axis.stretch(gap.start_ms, gap.end_ms, cause=gap.cause) for gap in report.watch.gaps) if report.watch else ()
    return render(
        "timeline.svg.j2",
        axis=axis,
        rows=rows,
        gaps=gaps,
        rug=tuple(axis.x(frame.t_ms) for frame in report.frames),
        limits=report.thresholds,
        said=_said(report, rows),
        height_of=_height,
        row_px=ROW_PX,
        plot_px=PLOT_PX,
        top_px=TOP_PX,
        moment=moment,
        frame_ms=FRAME_MS,
    )


def score_svg(report: Report) -> Markup:
    """The score on its scale from 0 to 1, with both thresholds and the undecided band; empty where there is no score."""
    if report.score is None or report.thresholds is None:
        return Markup()
    return render("score.svg.j2", score=report.score, limits=report.thresholds, digits=digits(report))


def digits(report: Report) -> int:
    """Decimal places that tell the score from thresholds that it does not meet: 3, unless it lies closer to one."""
    if report.score is None or report.thresholds is None:
        return DIGITS
    apart = [limit for limit in (report.thresholds.real_below, report.thresholds.fake_above) if limit != report.score]
    enough = (n for n in range(DIGITS, MOST_DIGITS) if all(f"{limit:.{n}f}" != f"{report.score:.{n}f}" for limit in apart))
    return next(enough, MOST_DIGITS)


def listed(report: Report) -> str:
    """Which of the frames that were looked at a report lists: of many, it is a choice."""
    count, total = len(report.frames), report.sampling.decoded if report.sampling else 0
    return f"{count} of {total} frames that were looked at" if count < total else "frames that were looked at"


def left_out(report: Report) -> int:
    """Judged tracks that have no timeline, of lower scores than those that have one."""
    return max(0, len(_drawable(report)) - MOST_ROWS)


def unjudged_left_out(report: Report) -> int:
    """Tracks without a score of their own that have none together either."""
    seen = _seen(report)
    return 0 if _has_others(report) else sum(track.score is None and track.id in seen for track in report.tracks)


def unlisted(report: Report) -> int:
    """Tracks that are in none of the frames that the report lists, nor suspicious anywhere: they are in no timeline."""
    seen = _seen(report)
    return sum(track.id not in seen for track in report.tracks)


def _has_others(report: Report) -> bool:
    """Whether the tracks without a score of their own share a timeline."""
    return is_pooled(report) or not judged(report) or any(part.track == POOLED for part in report.segments)


def judged(report: Report) -> list[Track]:
    """Tracks with a score of their own, the highest first."""
    scored = [(track.score, track) for track in report.tracks if track.score is not None]
    return [track for _, track in sorted(scored, key=lambda pair: (-pair[0], pair[1].id))]


def _seen(report: Report) -> set[int]:
    """Tracks of which there is something to draw: faces, or suspicious stretches."""
    return {face.track for frame in report.frames for face in frame.faces} | {part.track for part in report.segments}


def _drawable(report: Report) -> list[Track]:
    seen = _seen(report)
    return [track for track in judged(report) if track.id in seen]


def axis_of(report: Report) -> Axis:
    """All of the media, unless what was looked at is less than a quarter of it."""
    seen = [frame.t_ms for frame in report.frames]
    marks = [*seen, *(part.end_ms for part in report.segments)]
    start, end = min(seen, default=0), max(marks, default=0)
    whole_ms = round(1000 * report.media.duration_s) if report.media else 0
    if end - start >= whole_ms / 4 or report.kind == "watch":
        start, end = 0, max(end, whole_ms)
    return Axis(start_ms=start, end_ms=max(end, start + 100))


def rows_of(report: Report, axis: Axis) -> tuple[Row, ...]:
    """One for each judged track, one for all others together: the first where they decide, else where they are suspicious or
    nothing else was judged."""
    shown = _drawable(report)[:MOST_ROWS]
    rows = [_row(report, axis, track.id, f"Track {track.id}", track.score, {track.id}) for track in shown]
    others = [track for track in report.tracks if track.score is None]
    pooled = is_pooled(report)
    if _has_others(report):
        level = report.score if pooled else None
        pool = _row(report, axis, POOLED, _title(others), level, {POOLED, *(track.id for track in others)})
        rows.insert(0 if pooled else len(rows), pool)
    return tuple(row for row in rows if row.dots or row.suspects)


def _title(others: list[Track]) -> str:
    """Of the row of tracks without a score of their own, by why they have none."""
    if not others or all(track.votes for track in others):
        return "Tracks too short to be judged alone"
    if any(track.votes for track in others):
        return "Short or poor tracks together"
    return "Faces too small or poor to be judged"


def _row(report: Report, axis: Axis, track: int, title: str, score: float | None, members: set[int]) -> Row:
    evidence = {(one.t_ms, track.id) for track in report.tracks for one in track.evidence}
    parts = [part for part in report.segments if part.track in members]
    dots = tuple(dot for frame in report.frames for dot in _dots(frame, axis, members, parts, evidence))
    suspects = tuple(axis.stretch(part.start_ms, part.end_ms, score=part.max_score) for part in parts)
    return Row(track=track, title=title, level=score, dots=dots, suspects=suspects)


def _dots(frame: FrameItem, axis: Axis, members: set[int], parts: list[Segment], evidence: set[tuple[int, int]]) -> list[Dot]:
    is_suspicious = any(part.start_ms <= frame.t_ms <= part.end_ms for part in parts)
    return [
        Dot(
            x=axis.x(frame.t_ms),
            y=None if face.score is None else _height(face.score),
            t_ms=frame.t_ms,
            score=face.score,
            is_suspicious=face.score is not None and is_suspicious,
            is_evidence=face.score is not None and (frame.t_ms, face.track) in evidence,
        )
        for face in frame.faces
        if face.track in members
    ]


def _height(score: float) -> float:
    """Pixels from the top of a row's plot."""
    return round(PLOT_PX * (1 - score), 1)


def _said(report: Report, rows: tuple[Row, ...]) -> str:
    """What the picture shows, for those who do not see it."""
    counts = Counter(dot.is_suspicious for row in rows for dot in row.dots if dot.score is not None)
    faces = counts.total()
    parts = [f"{len(rows)} {'track' if len(rows) == 1 else 'tracks'}, {faces} judged {'face' if faces == 1 else 'faces'}"]
    if counts[True]:
        parts.append(f"{counts[True]} of them in suspicious stretches")
    suspects = sum(len(row.suspects) for row in rows)
    parts.append(f"{suspects} suspicious {'stretch' if suspects == 1 else 'stretches'}" if suspects else "no suspicious stretch")
    table = " The table below holds the values." if any(frame.faces for frame in report.frames) else ""
    return "; ".join(parts) + f". Marks at the bottom: {listed(report)}.{table}"

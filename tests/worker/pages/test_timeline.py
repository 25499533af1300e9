"""Scores over time as SVG: what lies where, what is left out, and that nothing of it needs a script or a style of its own."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from tests.worker.pages.html import Page
from tests.worker.pages.reports import MEDIA, face, failed, frames, report, track, watched
from worker.pages.page import report_page
from worker.pages.timeline import (
    MOST_ROWS,
    MOST_TICKS,
    PLOT_PX,
    Axis,
    axis_of,
    left_out,
    moment,
    score_svg,
    timeline_svg,
    unjudged_left_out,
    unlisted,
)
from worker.report import FrameItem, Segment
from worker.types import Label, MediaKind

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [one for one in root.iter() if name in one.get("class", "").split()]


def row(root: ET.Element, number: int) -> ET.Element:
    return next(one for one in root.iter(f"{SVG}svg") if one.get("data-track") == str(number))


def test_each_judged_face_is_a_dot_at_its_moment_and_height() -> None:
    root = parsed(timeline_svg(report(frames=frames(0.25, 0.5, None, 0.0), segments=())))
    circles = of_class(root, "face")
    assert [one.get("data-t-ms") for one in circles] == ["0", "1000", "3000"]
    assert [float(one.get("cy", "")) for one in circles] == [0.75 * PLOT_PX, 0.5 * PLOT_PX, PLOT_PX]
    assert [one.get("cx") for one in circles] == ["0.0%", "10.0%", "30.0%"]


def test_suspicious_faces_have_another_shape_not_only_another_colour() -> None:
    root = parsed(timeline_svg(report(frames=frames(0.99, 0.4, 0.9, 0.9, 0.9, 0.9))))
    assert [one.tag.removeprefix(SVG) for one in of_class(root, "face")] == ["circle", "path", "path", "path", "path", "circle"]


def test_faces_that_were_not_judged_and_moments_of_evidence_are_marked() -> None:
    root = parsed(timeline_svg(report(frames=frames(0.2, None, 0.97))))
    assert len(of_class(root, "moment-ring")) == 1
    (unjudged,) = (one for one in of_class(root, "tick") if one.get("data-t-ms"))
    assert unjudged.get("data-t-ms") == "1000"


def test_the_undecided_band_lies_between_the_thresholds() -> None:
    band = of_class(parsed(timeline_svg(report())), "undecided")[0]
    top, height = float(band.get("y", "")), float(band.get("height", ""))
    assert top == pytest.approx(PLOT_PX * (1 - 0.65), abs=0.1)
    assert top + height == pytest.approx(PLOT_PX * (1 - 0.35), abs=0.1)


def test_suspicious_stretches_lie_in_the_row_of_their_track() -> None:
    two = report(
        tracks=(track(0, 0.9), track(1, 0.2)),
        frames=(FrameItem(index=0, t_ms=0, faces=(face(0, 0.9), face(1, 0.1))),),
        segments=(Segment(start_ms=1000, end_ms=4000, max_score=0.95, track=0),),
    )
    root = parsed(timeline_svg(two))
    (part,) = of_class(row(root, 0), "suspect")
    assert (part.get("x"), part.get("width")) == ("10.0%", "30.0%")
    assert not of_class(row(root, 1), "suspect")


def test_faces_of_short_tracks_share_a_row_where_they_are_suspicious() -> None:
    pooled = report(
        tracks=(track(0, 0.9), track(7, None, votes=1)),
        frames=frames(0.9, track=7),
        segments=(Segment(start_ms=0, end_ms=500, max_score=0.9, track=-1),),
    )
    assert len(of_class(row(parsed(timeline_svg(pooled)), -1), "face")) == 1
    assert of_class(row(parsed(timeline_svg(pooled)), -1), "suspect")


def test_faces_of_short_tracks_come_first_and_with_the_score_where_they_decide() -> None:
    many = tuple(track(number, 0.1) for number in range(MOST_ROWS))
    pooled = report(score=0.7, tracks=(*many, track(99, None, votes=2)), frames=frames(0.9, 0.8, track=99), segments=())
    root = parsed(timeline_svg(pooled))
    assert [one.get("data-track") for one in root.iter(f"{SVG}svg") if one.get("data-track")] == ["-1"]
    assert of_class(row(root, -1), "level")[0].get("y1") == str(round(0.3 * PLOT_PX, 1))
    alone = report(score=0.7, tracks=(track(0, 0.7), track(99, None, votes=2)), frames=frames(0.9, track=99), segments=())
    assert not [one for one in parsed(timeline_svg(alone)).iter(f"{SVG}svg") if one.get("data-track") == "-1"]


@pytest.mark.parametrize(
    ("votes", "title"),
    [
        ((1, 2), "Tracks too short to be judged alone"),
        ((1, 0), "Short or poor tracks together"),
        ((0, 0), "Faces too small or poor to be judged"),
    ],
)
def test_the_row_of_tracks_without_a_score_says_why_they_have_none(votes: tuple[int, int], title: str) -> None:
    tracks = tuple(track(number, None, votes=count, evidence=()) for number, count in enumerate(votes))
    none = report(verdict=Label.NOT_APPLICABLE, score=None, thresholds=None, tracks=tracks, frames=frames(None), segments=())
    assert row(parsed(timeline_svg(none)), -1).findtext(f"{SVG}text") == title


def test_every_frame_that_was_looked_at_has_its_mark() -> None:
    assert len(of_class(parsed(timeline_svg(report())), "rug")) == 10


def test_of_many_tracks_the_most_suspicious_are_shown() -> None:
    many = report(
        tracks=tuple(track(i, i / 100) for i in range(MOST_ROWS + 3)),
        frames=tuple(FrameItem(index=i, t_ms=i, faces=(face(i, 0.5),)) for i in range(MOST_ROWS + 3)),
    )
    shown = [one.get("data-track") for one in parsed(timeline_svg(many)).iter(f"{SVG}svg") if one.get("data-track")]
    assert shown == [str(i) for i in range(MOST_ROWS + 2, 2, -1)]
    assert left_out(many) == 3


@pytest.mark.parametrize(("score", "said"), [(0.9, [" 2."]), (None, [])])
def test_tracks_that_no_timeline_shows_are_counted_on_the_page(score: float | None, said: list[str]) -> None:
    tracks = (track(0, score), track(1, None, votes=2), track(2, None, votes=0, evidence=()))
    faces = (face(0, 0.9), face(1, 0.5), face(2, None))
    text = Page(report_page(report(tracks=tracks, frames=(FrameItem(index=0, t_ms=0, faces=faces),)), lambda name: None)).text
    assert re.findall(r"Tracks without a score of their own have no timeline here:(.{3})", text) == said


def test_a_watch_tells_of_tracks_that_are_in_none_of_its_frames() -> None:
    """Each track has a timeline or is counted, once: here one is drawn in place of one of a higher score that cannot be."""
    tracks = [track(i, 0.9 - i / 100) for i in range(MOST_ROWS + 3)] + [track(30, None, votes=2), track(31, None, votes=2)]
    seen = [*range(1, MOST_ROWS + 3), 30]
    some = watched(
        tracks=tuple(tracks), segments=(), frames=tuple(FrameItem(index=i, t_ms=i, faces=(face(i, 0.5),)) for i in seen)
    )
    rows = [one.get("data-track") for one in parsed(timeline_svg(some)).iter(f"{SVG}svg") if one.get("data-track")]
    assert rows == [str(i) for i in range(1, MOST_ROWS + 1)]
    assert (left_out(some), unjudged_left_out(some), unlisted(some)) == (2, 1, 2)
    said = "Tracks that are in none of the frames listed here have no timeline either: 2."
    assert said in Page(report_page(some, lambda name: None)).text
    assert "none of the frames" not in Page(report_page(watched(), lambda name: None)).text


def test_a_track_that_is_suspicious_in_frames_that_are_not_listed_is_drawn() -> None:
    one = watched(tracks=(track(0, 0.9), track(5, 0.8)), segments=(Segment(start_ms=0, end_ms=900, max_score=0.95, track=5),))
    assert len(of_class(row(parsed(timeline_svg(one)), 5), "suspect")) == 1
    assert unlisted(one) == 0


def test_the_gaps_of_a_watch_are_hatched() -> None:
    root = parsed(timeline_svg(watched()))
    (gap,) = of_class(root, "gap")
    assert (gap.get("x"), gap.get("fill")) == ("50.0%", "url(#timeline-hatch)")


@pytest.mark.parametrize(
    "nothing",
    [failed(), report(media=MEDIA.model_copy(update={"kind": MediaKind.PICTURE, "duration_s": 0.0})), report(frames=())],
)
def test_without_time_or_frames_there_is_no_timeline(nothing: object) -> None:
    assert timeline_svg(nothing) == ""  # type: ignore[arg-type]


def test_a_table_of_values_is_promised_only_where_there_is_one() -> None:
    faceless = tuple(frame.model_copy(update={"faces": ()}) for frame in frames(0.1, 0.2))
    said = [parsed(timeline_svg(report(frames=some))).findtext(f"{SVG}desc") or "" for some in (frames(0.1, 0.2), faceless)]
    assert ["table below" in one for one in said] == [True, False]


def test_a_part_of_a_long_video_fills_the_width() -> None:
    long = MEDIA.model_copy(update={"duration_s": 3600.0})
    assert axis_of(report(media=long, frames=frames(0.1, 0.2, 0.3), segments=())) == Axis(start_ms=0, end_ms=2000)
    assert axis_of(report(media=long, frames=frames(0.1, 0.2, step_ms=3_500_000))) == Axis(start_ms=0, end_ms=3_600_000)


@pytest.mark.parametrize("span_ms", [100, 900, 4100, 59_999, 3_599_000, 6 * 3_600_000, 400 * 3_600_000, 10**14])
def test_the_axis_has_a_few_marks_at_round_moments(span_ms: int) -> None:
    ticks = Axis(start_ms=0, end_ms=span_ms).ticks()
    assert 2 <= len(ticks) <= MOST_TICKS + 1
    assert ticks[-1][0] > 60, "up to its end"
    assert ticks[0] == (0.0, moment(0) if span_ms < 3000 else "0:00")


@pytest.mark.parametrize(("t_ms", "said"), [(0, "0:00.0"), (65_432, "1:05.4"), (3_725_000, "1:02:05.0")])
def test_moments_are_read_as_on_a_clock(t_ms: int, said: str) -> None:
    assert moment(t_ms) == said
    assert moment(t_ms, 10)[:-1] == said


def test_scales_say_their_score_and_thresholds() -> None:
    root = parsed(score_svg(report()))
    assert "0.90" in (root.findtext(f"{SVG}title") or "")
    band = of_class(root, "undecided")[0]
    assert (band.get("x"), band.get("width")) == ("35.0%", "30.0%")
    assert score_svg(report(verdict=Label.NOT_APPLICABLE, score=None)) == ""


def test_drawings_have_names_and_neither_scripts_nor_styles_of_their_own() -> None:
    for svg in (timeline_svg(report()), score_svg(report())):
        root = parsed(svg)
        ids = {one.get("id"): one for one in root.iter() if one.get("id")}
        assert all(ids[name].text for name in root.get("aria-labelledby", "").split())
        assert not re.search(r"<script|\son\w+=|style=|javascript:|https?://(?!www\.w3\.org)", svg)

"""The segments of one rendition of a DASH manifest (ISO/IEC 23009-1) as parts, in the order of time."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from worker.errors import CorruptMedia, UnsupportedMedia
from worker.source.client import joined_url
from worker.source.dash_elements import children, inherited, nearest
from worker.source.guard import MAX_URL
from worker.source.http import ByteRange
from worker.source.parts import Part

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_RANGE = re.compile(r"(\d{1,15})-(\d{1,15})", re.ASCII)
_ENDLESS: Final = "an S of the DASH manifest is repeated to no end: give the next S a t, or the Period a duration"
_ROUNDING_S: Final = 0.05
"""Where times are rounded, a segment overlaps a period that it does not belong to by so much at most."""
_AROUND_S: Final = 10.0
"""Segments that a period's ends cut through hold so much that is not shown, or as much as is."""
_TEMPLATE, _LIST, _BASE = "SegmentTemplate", "SegmentList", "SegmentBase"
_FIELD = re.compile(r"\$(?:(RepresentationID|Number|Time|Bandwidth)(?:%0(\d{1,2})d)?)?\$", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timed:
    """A segment of a template or a timeline, in the timescale's units."""

    number: int
    time: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What a period shows of its media: from ``begins`` on their clock for ``length``, if that is said, in the timescale's
    units."""

    begins: int
    length: float | None
    timescale: int

    def of(self, timed: Sequence[_Timed]) -> list[_Timed]:
        """Segments of which more than a rounding error lies within. Raises UnsupportedMedia where that is none, or little beside
        what they have around it."""
        found = [one for one in timed if self._overlap(one) >= self._rounding(one)]
        if timed and not found:
            raise UnsupportedMedia(
                "all segments of a DASH period lie outside of it: mend its presentationTimeOffset, timeline or duration"
            )
        within = sum(map(self._overlap, found))
        if sum(one.length for one in found) - within > max(within, _AROUND_S * self.timescale):
            raise UnsupportedMedia("most of what a DASH period's segments hold lies outside of it: cut them to the period")
        return found

    def _overlap(self, one: _Timed) -> float:
        begins = one.time - self.begins
        ends = begins + one.length
        return (ends if self.length is None else min(ends, self.length)) - max(begins, 0)

    def _rounding(self, one: _Timed) -> float:
        shorter = one.length if self.length is None else min(one.length, self.length)
        return min(_ROUNDING_S * self.timescale, shorter / 2)


def _shown(levels: Sequence[Element], duration_s: float | None) -> _Shown:
    """By the attributes of SegmentBase, SegmentTemplate or SegmentList."""
    timescale = int(inherited(levels, "timescale") or 1)
    if timescale < 1:
        raise CorruptMedia("a timescale that is none")
    begins = int(inherited(levels, "presentationTimeOffset") or 0)
    return _Shown(begins=begins, length=None if duration_s is None else duration_s * timescale, timescale=timescale)


def parts_of(levels: tuple[Element, ...], base: str, duration_s: float | None, max_segments: int) -> Sequence[Part]:
    """Of the rendition whose Representation, AdaptationSet and Period are ``levels``. Raises CorruptMedia, UnsupportedMedia."""
    try:
        return _parts(levels, base, duration_s, max_segments)
    except (ValueError, OverflowError, LookupError, ZeroDivisionError) as exc:
        raise CorruptMedia(f"the DASH manifest cannot be read ({type(exc).__name__})") from exc


def _parts(levels: tuple[Element, ...], base: str, duration_s: float | None, max_segments: int) -> Sequence[Part]:
    _check_kinds(levels)
    if templates := [found for level in levels for found in children(level, _TEMPLATE)]:
        return _from_template(templates, levels[0], base, duration_s, max_segments)
    if lists := [found for level in levels for found in children(level, _LIST)]:
        return _from_list(lists, base, duration_s, max_segments)
    shown = _shown([found for level in levels for found in children(level, _BASE)], duration_s)
    # SegmentBase, or nothing: the rendition is one file
    return [Part(url=base, duration_s=duration_s or 0.0, begins_s=shown.begins / shown.timescale)]


def _check_kinds(levels: Sequence[Element]) -> None:
    """Raises CorruptMedia for several kinds, of which players do not take the same (5.3.9.1). A SegmentBase may stand above the
    kind that is nearest."""
    kinds = [{kind for kind in (_TEMPLATE, _LIST, _BASE) if children(level, kind)} for level in levels]
    own = next(filter(None, kinds), set())
    if len(own.union(*kinds) - ({_BASE} - own)) > 1:
        raise CorruptMedia(
            "a DASH rendition says its segments in several ways: keep one of SegmentTemplate, SegmentList, SegmentBase"
        )


def _from_template(
    templates: Sequence[Element], representation: Element, base: str, duration_s: float | None, max_segments: int
) -> list[Part]:
    told = functools.partial(inherited, templates)

    def filled(text: str, number: int = 0, time: int = 0) -> str:
        if max(len(text), len(representation.get("id", ""))) > MAX_URL:
            raise ValueError("a template that is too long")
        values: dict[str, str | int] = {
            "RepresentationID": representation.get("id", ""),
            "Bandwidth": int(representation.get("bandwidth", 0)),
            "Number": number,
            "Time": time,
        }
        return joined_url(base, _FIELD.sub(lambda match: _field(match, values), text))

    media = told("media")
    if not media:
        raise CorruptMedia("a SegmentTemplate without media")
    shown = _shown(templates, duration_s)
    first = int(told("startNumber") or 1)
    if timeline := nearest(templates, "SegmentTimeline"):
        timed = shown.of(list(_timeline(timeline[0], first, shown, max_segments)))
    else:
        step = int(told("duration") or 0)
        if step <= 0 or duration_s is None:
            raise CorruptMedia("a SegmentTemplate without durations")
        length_s = step / shown.timescale
        count = math.ceil((duration_s - min(_ROUNDING_S, length_s / 2, duration_s / 2)) / length_s)
        if (last := told("endNumber")) is not None:
            count = min(count, int(last) - first + 1)
        check_count(count, max_segments)
        timed = [_Timed(number=first + i, time=i * step, length=step) for i in range(count)]
    parts = [Part(url=filled(media, one.number, one.time), duration_s=one.length / shown.timescale) for one in timed]
    initialisation = told("initialization")
    return [Part(url=filled(initialisation), is_init=True), *parts] if initialisation else parts


def _field(match: re.Match[str], values: dict[str, str | int]) -> str:
    if match[1] is None:
        return "$"
    value = values[match[1]]
    return f"{value:0{min(int(match[2]), 20)}d}" if match[2] and isinstance(value, int) else str(value)


def _timeline(timeline: Element, first: int, shown: _Shown, max_segments: int) -> Iterator[_Timed]:
    """The segments of S elements; one with ``r="-1"`` is repeated up to the next one's time or the period's end, both on the
    clock of the media."""
    steps = children(timeline, "S")
    time, number = 0, first
    for i, step in enumerate(steps):
        time = int(step.get("t", time))
        length = int(step.get("d", 0))
        repeats = int(step.get("r", 0))
        if length <= 0:
            raise CorruptMedia("a segment without a duration")
        if repeats < 0:
            next_time = steps[i + 1].get("t") if i + 1 < len(steps) else None
            if next_time is None and (i + 1 < len(steps) or shown.length is None):
                raise CorruptMedia(_ENDLESS)
            span = int(next_time) - time if next_time is not None else shown.begins - time + (shown.length or 0.0)
            repeats = max(0, math.ceil(span / length) - 1)
        check_count(number - first + repeats + 1, max_segments)
        for _ in range(repeats + 1):
            yield _Timed(number=number, time=time, length=length)
            time, number = time + length, number + 1


def _from_list(lists: Sequence[Element], base: str, duration_s: float | None, max_segments: int) -> list[Part]:
    shown = _shown(lists, duration_s)
    urls = nearest(lists, "SegmentURL")
    check_count(len(urls), max_segments)
    length = int(inherited(lists, "duration") or 0)
    if length < 0:
        raise CorruptMedia("a SegmentList with durations that are none")
    if timeline := nearest(lists, "SegmentTimeline"):
        timed = shown.of(list(_timeline(timeline[0], 0, shown, max_segments))[: len(urls)])
    else:
        timed = [_Timed(number=i, time=shown.begins + i * length, length=length) for i in range(len(urls))]
        if timed and shown.length is not None and 0 < length <= timed[-1].time - shown.begins - shown.length:
            raise UnsupportedMedia("a SegmentList is longer than its DASH period: leave out what lies behind the period's end")
    inits = [
        Part(url=joined_url(base, one.get("sourceURL", "")), range=_range(one.get("range")), is_init=True)
        for one in nearest(lists, "Initialization")[:1]
    ]
    return inits + [
        Part(
            url=joined_url(base, url.get("media", "")),
            range=_range(url.get("mediaRange")),
            duration_s=one.length / shown.timescale,
        )
        for one in timed
        for url in [urls[one.number]]
    ]


def _range(text: str | None) -> ByteRange | None:
    if text is None:
        return None
    match = _RANGE.fullmatch(text.strip())
    if match is None or int(match[2]) < int(match[1]):
        raise CorruptMedia("a byte range that is none")
    return ByteRange(first=int(match[1]), length=int(match[2]) - int(match[1]) + 1)


def check_count(count: int, max_segments: int) -> None:
    if count > max_segments:
        raise UnsupportedMedia(f"a manifest of more than {max_segments} segments")

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
_FIELD = re.compile(r"\$(?:(RepresentationID|Number|Time|Bandwidth)(?:%0(\d{1,2})d)?)?\$", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timed:
    """A segment of a template or a timeline, in the timescale's units."""

    number: int
    time: int
    duration_s: float


def parts_of(levels: tuple[Element, ...], base: str, duration_s: float | None, max_segments: int) -> Sequence[Part]:
    """Of the rendition whose Representation, AdaptationSet and Period are ``levels``. Raises CorruptMedia, UnsupportedMedia."""
    try:
        return _parts(levels, base, duration_s, max_segments)
    except (ValueError, OverflowError, LookupError, ZeroDivisionError) as exc:
        raise CorruptMedia(f"the DASH manifest cannot be read ({type(exc).__name__})") from exc


def _parts(levels: tuple[Element, ...], base: str, duration_s: float | None, max_segments: int) -> Sequence[Part]:
    if templates := [found for level in levels for found in children(level, "SegmentTemplate")]:
        return _from_template(templates, levels[0], base, duration_s, max_segments)
    if lists := [found for level in levels for found in children(level, "SegmentList")]:
        return _from_list(lists, base, max_segments)
    return [Part(url=base, duration_s=duration_s or 0.0)]  # SegmentBase, or nothing: the rendition is one file


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
    timescale = int(told("timescale") or 1)
    if timescale < 1:
        raise CorruptMedia("a timescale that is none")
    first = int(told("startNumber") or 1)
    if timelines := [found for template in templates for found in children(template, "SegmentTimeline")]:
        begins = int(told("presentationTimeOffset") or 0)
        ends = None if duration_s is None else begins + math.ceil(duration_s * timescale)
        timed = list(_timeline(timelines[0], timescale, first, ends, max_segments))
    else:
        step = int(told("duration") or 0)
        length_s = step / timescale
        if length_s <= 0 or duration_s is None:
            raise CorruptMedia("a SegmentTemplate without durations")
        count = math.ceil(duration_s / length_s - 1e-6)
        if (last := told("endNumber")) is not None:
            count = min(count, int(last) - first + 1)
        check_count(count, max_segments)
        timed = [_Timed(number=first + i, time=i * step, duration_s=length_s) for i in range(count)]
    parts = [Part(url=filled(media, one.number, one.time), duration_s=one.duration_s) for one in timed]
    initialisation = told("initialization")
    return [Part(url=filled(initialisation), is_init=True), *parts] if initialisation else parts


def _field(match: re.Match[str], values: dict[str, str | int]) -> str:
    if match[1] is None:
        return "$"
    value = values[match[1]]
    return f"{value:0{min(int(match[2]), 20)}d}" if match[2] and isinstance(value, int) else str(value)


def _timeline(timeline: Element, timescale: int, first: int, ends: int | None, max_segments: int) -> Iterator[_Timed]:
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
            next_time = steps[i + 1].get("t") if i + 1 < len(steps) else ends
            if next_time is None:
                raise CorruptMedia(_ENDLESS)
            repeats = max(0, math.ceil((int(next_time) - time) / length) - 1)
        check_count(number - first + repeats + 1, max_segments)
        for _ in range(repeats + 1):
            yield _Timed(number=number, time=time, duration_s=length / timescale)
            time, number = time + length, number + 1


def _from_list(lists: Sequence[Element], base: str, max_segments: int) -> list[Part]:
    told = functools.partial(inherited, lists)
    length, timescale = int(told("duration") or 0), int(told("timescale") or 1)
    if length < 0 or timescale < 1:
        raise CorruptMedia("a SegmentList with durations that are none")
    urls = nearest(lists, "SegmentURL")
    check_count(len(urls), max_segments)
    inits = [
        Part(url=joined_url(base, one.get("sourceURL", "")), range=_range(one.get("range")), is_init=True)
        for one in nearest(lists, "Initialization")[:1]
    ]
    return inits + [
        Part(url=joined_url(base, one.get("media", "")), range=_range(one.get("mediaRange")), duration_s=length / timescale)
        for one in urls
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

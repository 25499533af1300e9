"""DASH manifests (ISO/IEC 23009-1) of recordings as renditions and parts; nothing is fetched here.

Read: SegmentTemplate with $Number$ or $Time$, by duration or SegmentTimeline, SegmentList, SegmentBase, BaseURL, inherited as the
standard says; several periods, where each has an initialisation and a rendition like the first's. Refused as ``unsupported``:
live (``dynamic``) manifests, DRM, periods that lie elsewhere (xlink). Numbers of segments are checked before any list of them is
made.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from worker.errors import CorruptMedia, UnsupportedMedia
from worker.source.client import joined_url
from worker.source.guard import MAX_URL
from worker.source.http import ByteRange
from worker.source.parts import Part
from worker.source.variants import Variant

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_PERIODS: Final = 100
MAX_SETS: Final = 64
MAX_REPRESENTATIONS: Final = 64
"""Of a set, as the sets of the manifest: what lies beyond is not looked at."""
MAX_TAGS: Final = 400_000
"""The parser holds all elements; 10,000 segments with their times are some ten thousand."""
MOST: Final = 10**12
"""No side or rate is more than this: numbers of any length are whole numbers, but not fractions."""
_DURATION = re.compile(
    r"P(?:0{1,4}Y)?(?:0{1,4}M)?(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,8})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?", re.ASCII
)
_RANGE = re.compile(r"(\d{1,15})-(\d{1,15})", re.ASCII)
_FIELD = re.compile(r"\$(?:(RepresentationID|Number|Time|Bandwidth)(?:%0(\d{1,2})d)?)?\$", re.ASCII)
_CLOSED = "ContentProtection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """The renditions with video; ``what`` gives the parts of one."""

    variants: list[Variant[Callable[[], Sequence[Part]]]]
    duration_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timed:
    """A segment of a template or a timeline, in the timescale's units."""

    number: int
    time: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rendition:
    """One of a period."""

    name: str
    variant: Variant[Callable[[], Sequence[Part]]]

    def unlikeness(self, other: _Rendition) -> tuple[bool, bool, float]:
        one, two = self.variant, other.variant
        is_other_size = (one.width_px, one.height_px) != (two.width_px, two.height_px)
        return is_other_size, self.name != other.name, abs((one.bandwidth_bps or 0.0) - (two.bandwidth_bps or 0.0))


def read_dash(data: bytes, url: str, *, max_segments: int) -> Presentation:
    """Raises CorruptMedia, UnsupportedMedia."""
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    if data.count(b"<") > MAX_TAGS:
        raise UnsupportedMedia(f"a manifest of more than {MAX_TAGS} tags")
    try:
        mpd = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as exc:
        raise CorruptMedia(f"the DASH manifest cannot be read ({type(exc).__name__})") from exc
    return presentation_of(mpd, url, max_segments=max_segments)


def presentation_of(mpd: Element, url: str, *, max_segments: int) -> Presentation:
    """Of a manifest that is parsed already. Raises CorruptMedia, UnsupportedMedia."""
    try:
        return _presentation(mpd, url, max_segments)
    except (ValueError, OverflowError, LookupError) as exc:
        raise CorruptMedia(f"the DASH manifest cannot be read ({type(exc).__name__})") from exc


def _presentation(mpd: Element, url: str, max_segments: int) -> Presentation:
    if _name(mpd) != "MPD":
        raise UnsupportedMedia("XML that is no DASH manifest")
    if mpd.get("type", "static") != "static":
        raise UnsupportedMedia("a live stream, which has no end to wait for")
    periods = _children(mpd, "Period")
    if not 0 < len(periods) <= MAX_PERIODS:
        raise UnsupportedMedia(f"a DASH manifest of {len(periods)} periods, limit {MAX_PERIODS}")
    base, durations_s = _based(url, mpd), _durations_s(mpd, periods)
    found = [_renditions(period, base, duration_s, max_segments) for period, duration_s in zip(periods, durations_s, strict=True)]
    whole_s = None if None in durations_s else sum(one for one in durations_s if one is not None)
    variants = [one.variant if len(found) == 1 else _through(one, found[1:], max_segments) for one in found[0]]
    return Presentation(variants=variants, duration_s=whole_s)


def _durations_s(mpd: Element, periods: Sequence[Element]) -> list[float | None]:
    """As periods say, or from one's start to the next one's or the end."""
    whole_s = _seconds(mpd.get("mediaPresentationDuration"))
    starts_s = [_seconds(period.get("start")) for period in periods]
    starts_s[0] = starts_s[0] or 0.0
    found: list[float | None] = []
    for period, start_s, end_s in zip(periods, starts_s, [*starts_s[1:], whole_s], strict=True):
        between_s = None if start_s is None or end_s is None else max(end_s - start_s, 0.0)
        told_s = _seconds(period.get("duration"))
        found.append(told_s if told_s is not None else whole_s if len(periods) == 1 else between_s)
    return found


def _through(
    first: _Rendition, later: Sequence[Sequence[_Rendition]], max_segments: int
) -> Variant[Callable[[], Sequence[Part]]]:
    """A rendition of the first period, and of each later one that which is most like it."""
    chosen = [first, *(min(one, key=first.unlikeness) for one in later)]

    def parts() -> Sequence[Part]:
        joined: list[Part] = []
        for one in chosen:
            of_period = one.variant.what()
            if not of_period or not of_period[0].is_init:
                raise UnsupportedMedia("a DASH manifest of several periods without initialisations")
            _check_count(len(joined) + len(of_period), max_segments)
            joined += of_period
        return joined

    return replace(first.variant, what=parts)


def _renditions(period: Element, base: str, duration_s: float | None, max_segments: int) -> list[_Rendition]:
    """Raises UnsupportedMedia where there is none."""
    base = _based(base, period)
    is_closed = bool(_children(period, _CLOSED))
    found: list[_Rendition] = []
    closed = 0
    for adaptation in _children(period, "AdaptationSet")[:MAX_SETS]:
        of_set = _children(adaptation, "Representation")[:MAX_REPRESENTATIONS]
        pictured = [] if _is_for_seeking(adaptation) else [one for one in of_set if _has_video(one, adaptation)]
        is_set_closed = is_closed or bool(_children(adaptation, _CLOSED))
        base_of_set = _based(base, adaptation)
        for representation in pictured:
            if is_set_closed or _children(representation, _CLOSED):
                closed += 1
                continue
            levels = (representation, adaptation, period)
            variant = _variant(levels, _based(base_of_set, representation), duration_s, max_segments)
            found.append(_Rendition(name=representation.get("id", ""), variant=variant))
    if not found:
        raise UnsupportedMedia("encrypted (DRM)" if closed else "the DASH manifest has no rendition with video")
    return found


def _variant(
    levels: tuple[Element, ...], base: str, duration_s: float | None, max_segments: int
) -> Variant[Callable[[], Sequence[Part]]]:
    representation, adaptation, _ = levels

    def number(name: str) -> int | None:
        text = representation.get(name) or adaptation.get(name)
        return min(max(int(text), 0), MOST) or None if text else None

    return Variant(
        what=functools.partial(_guarded_parts, levels, base, duration_s, max_segments),
        width_px=number("width"),
        height_px=number("height"),
        bandwidth_bps=number("bandwidth"),
    )


def _guarded_parts(levels: tuple[Element, ...], base: str, duration_s: float | None, max_segments: int) -> Sequence[Part]:
    try:
        return _parts(levels, base, duration_s, max_segments)
    except (ValueError, OverflowError, LookupError, ZeroDivisionError) as exc:
        raise CorruptMedia(f"the DASH manifest cannot be read ({type(exc).__name__})") from exc


def _parts(levels: tuple[Element, ...], base: str, duration_s: float | None, max_segments: int) -> Sequence[Part]:
    if templates := [found for level in levels for found in _children(level, "SegmentTemplate")]:
        return _from_template(templates, levels[0], base, duration_s, max_segments)
    if lists := [found for level in levels for found in _children(level, "SegmentList")]:
        return _from_list(lists, base, max_segments)
    return [Part(url=base, duration_s=duration_s or 0.0)]  # SegmentBase, or nothing: the rendition is one file


def _from_template(
    templates: Sequence[Element], representation: Element, base: str, duration_s: float | None, max_segments: int
) -> list[Part]:
    inherited = functools.partial(_inherited, templates)

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

    media = inherited("media")
    if not media:
        raise CorruptMedia("a SegmentTemplate without media")
    timescale = int(inherited("timescale") or 1)
    if timescale < 1:
        raise CorruptMedia("a timescale that is none")
    first = int(inherited("startNumber") or 1)
    if timelines := [found for template in templates for found in _children(template, "SegmentTimeline")]:
        begins = int(inherited("presentationTimeOffset") or 0)
        ends = begins + math.ceil((duration_s or 0.0) * timescale)
        timed = list(_timeline(timelines[0], timescale, first, ends, max_segments))
    else:
        step = int(inherited("duration") or 0)
        length_s = step / timescale
        if length_s <= 0 or duration_s is None:
            raise CorruptMedia("a SegmentTemplate without durations")
        count = math.ceil(duration_s / length_s - 1e-6)
        if (last := inherited("endNumber")) is not None:
            count = min(count, int(last) - first + 1)
        _check_count(count, max_segments)
        timed = [_Timed(number=first + i, time=i * step, duration_s=length_s) for i in range(count)]
    parts = [Part(url=filled(media, one.number, one.time), duration_s=one.duration_s) for one in timed]
    initialisation = inherited("initialization")
    return [Part(url=filled(initialisation), is_init=True), *parts] if initialisation else parts


def _field(match: re.Match[str], values: dict[str, str | int]) -> str:
    if match[1] is None:
        return "$"
    value = values[match[1]]
    return f"{value:0{min(int(match[2]), 20)}d}" if match[2] and isinstance(value, int) else str(value)


def _timeline(timeline: Element, timescale: int, first: int, ends: int, max_segments: int) -> Iterator[_Timed]:
    """The segments of S elements; one with ``r="-1"`` is repeated up to the next one's time or the period's end, both on the
    clock of the media."""
    steps = _children(timeline, "S")
    time, number = 0, first
    for i, step in enumerate(steps):
        time = int(step.get("t", time))
        length = int(step.get("d", 0))
        repeats = int(step.get("r", 0))
        if length <= 0:
            raise CorruptMedia("a segment without a duration")
        if repeats < 0:
            until = int(steps[i + 1].get("t", time)) if i + 1 < len(steps) else ends
            repeats = max(0, math.ceil((until - time) / length) - 1)
        _check_count(number - first + repeats + 1, max_segments)
        for _ in range(repeats + 1):
            yield _Timed(number=number, time=time, duration_s=length / timescale)
            time, number = time + length, number + 1


def _from_list(lists: Sequence[Element], base: str, max_segments: int) -> list[Part]:
    inherited = functools.partial(_inherited, lists)
    length, timescale = int(inherited("duration") or 0), int(inherited("timescale") or 1)
    if length < 0 or timescale < 1:
        raise CorruptMedia("a SegmentList with durations that are none")
    urls = _nearest(lists, "SegmentURL")
    _check_count(len(urls), max_segments)
    inits = [
        Part(url=joined_url(base, one.get("sourceURL", "")), range=_range(one.get("range")), is_init=True)
        for one in _nearest(lists, "Initialization")[:1]
    ]
    return inits + [
        Part(url=joined_url(base, one.get("media", "")), range=_range(one.get("mediaRange")), duration_s=length / timescale)
        for one in urls
    ]


def _inherited(levels: Sequence[Element], name: str) -> str | None:
    """Of the first level that says it."""
    return next((value for level in levels if (value := level.get(name)) is not None), None)


def _nearest(levels: Sequence[Element], name: str) -> list[Element]:
    """Children of the first level that has any."""
    return next(filter(None, (_children(level, name) for level in levels)), [])


def _range(text: str | None) -> ByteRange | None:
    if text is None:
        return None
    match = _RANGE.fullmatch(text.strip())
    if match is None or int(match[2]) < int(match[1]):
        raise CorruptMedia("a byte range that is none")
    return ByteRange(first=int(match[1]), length=int(match[2]) - int(match[1]) + 1)


def _check_count(count: int, max_segments: int) -> None:
    if count > max_segments:
        raise UnsupportedMedia(f"a manifest of more than {max_segments} segments")


def _is_for_seeking(adaptation: Element) -> bool:
    return any("trickmode" in found.get("schemeIdUri", "") for found in _children(adaptation, "EssentialProperty"))


def _has_video(representation: Element, adaptation: Element) -> bool:
    kind = representation.get("mimeType") or adaptation.get("mimeType") or adaptation.get("contentType") or ""
    return kind.startswith("video") or (not kind and (representation.get("height") or adaptation.get("height")) is not None)


def _based(base: str, level: Element) -> str:
    """The level's BaseURL (the first, where there are several places) on top of those above it."""
    own = _children(level, "BaseURL")
    return joined_url(base, (own[0].text or "").strip()) if own else base


def _children(element: Element, name: str) -> list[Element]:
    return [child for child in element if _name(child) == name]


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _seconds(text: str | None) -> float | None:
    """An xs:duration of days and less (years and months may be there, as nought); None where there is none."""
    match = _DURATION.fullmatch(text.strip()) if text else None
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 86400 * days + 3600 * hours + 60 * minutes + seconds

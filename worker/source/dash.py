"""DASH manifests (ISO/IEC 23009-1) of recordings as renditions and parts; nothing is fetched here.

Read: SegmentTemplate with $Number$ or $Time$, by duration or SegmentTimeline, SegmentList, SegmentBase, BaseURL, inherited as the
standard says; several periods, where each has an initialisation and a rendition like the first's. Refused as ``unsupported``:
live (``dynamic``) manifests, DRM, elements that lie elsewhere (xlink). Numbers of segments are checked before any list of them is
made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from worker.errors import CorruptMedia, UnsupportedMedia
from worker.source.dash_elements import based, children, name_of, seconds
from worker.source.dash_segments import check_count, parts_of
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
_ROUNDING_S: Final = 1.0
"""The end of a period is said twice, and is rounded more in one place than in the other."""
_UNDERSTOOD: Final = frozenset(
    {
        "urn:mpeg:mpegB:cicp:ColourPrimaries",
        "urn:mpeg:mpegB:cicp:TransferCharacteristics",
        "urn:mpeg:mpegB:cicp:MatrixCoefficients",
        "urn:mpeg:mpegB:cicp:VideoFullRangeFlag",
        "urn:mpeg:dash:adaptation-set-switching:2016",
        "http://dashif.org/guidelines/last-segment-number",
    }
)
"""Essential properties that change nothing of which pictures are shown. Others do: trick modes, tiles of a larger picture."""
_CLOSED = "ContentProtection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """The renditions with video; ``what`` gives the parts of one."""

    variants: list[Variant[Callable[[], Sequence[Part]]]]
    duration_s: float | None


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
    if name_of(mpd) != "MPD":
        raise UnsupportedMedia("XML that is no DASH manifest")
    if mpd.get("type", "static") != "static":
        raise UnsupportedMedia("a live stream, which has no end to wait for")
    periods = children(mpd, "Period")
    if not 0 < len(periods) <= MAX_PERIODS:
        raise UnsupportedMedia(f"a DASH manifest of {len(periods)} periods, limit {MAX_PERIODS}")
    base, durations_s = based(url, mpd), _durations_s(mpd, periods)
    lasting = [one for one in zip(periods, durations_s, strict=True) if one[1] != 0.0]
    if not lasting:
        raise UnsupportedMedia("no period of the DASH manifest lasts any time: mend its durations")
    found = [_renditions(period, base, duration_s, max_segments) for period, duration_s in lasting]
    whole_s = None if None in durations_s else sum(one for one in durations_s if one is not None)
    variants = [one.variant if len(found) == 1 else _through(one, found[1:], max_segments) for one in found[0]]
    return Presentation(variants=variants, duration_s=whole_s)


def _durations_s(mpd: Element, periods: Sequence[Element]) -> list[float | None]:
    """From where each begins to where the next one does, the last to the end of the presentation; None where that is not said.

    A period that does not say where it begins does so where the one before it ends by its own duration. That also stands for an
    end which is not said, and for one which lies up to ``_ROUNDING_S`` behind it; of the last one, also before it.
    """
    told_s = [seconds(period.get("duration")) for period in periods]
    starts_s: list[float | None] = []
    for i, period in enumerate(periods):
        start_s = seconds(period.get("start"))
        starts_s.append(start_s if start_s is not None else _plus(starts_s[i - 1], told_s[i - 1]) if i else 0.0)
    ends_s = [*starts_s[1:], seconds(mpd.get("mediaPresentationDuration"))]
    lengths_s = [_length_s(*one) for one in zip(starts_s, ends_s, told_s, strict=True)]
    if told_s[-1] is not None and lengths_s[-1] is not None and told_s[-1] > lengths_s[-1]:
        if told_s[-1] - lengths_s[-1] > _ROUNDING_S:
            raise UnsupportedMedia("a DASH manifest that ends before its last period does: mend its mediaPresentationDuration")
        lengths_s[-1] = told_s[-1]
    return lengths_s


def _plus(start_s: float | None, length_s: float | None) -> float | None:
    return None if start_s is None or length_s is None else start_s + length_s


def _length_s(start_s: float | None, end_s: float | None, told_s: float | None) -> float | None:
    if start_s is None or end_s is None:
        return told_s
    between_s = max(end_s - start_s, 0.0)
    return told_s if told_s is not None and 0.0 <= between_s - told_s <= _ROUNDING_S else between_s


def _through(
    first: _Rendition, later: Sequence[Sequence[_Rendition]], max_segments: int
) -> Variant[Callable[[], Sequence[Part]]]:
    """A rendition of the first period, and of each later one that which is most like it."""

    def parts() -> Sequence[Part]:
        joined: list[Part] = []
        for one in (first, *(min(one, key=first.unlikeness) for one in later)):
            of_period = one.variant.what()
            if not of_period or not of_period[0].is_init:
                raise UnsupportedMedia("a DASH manifest of several periods without initialisations")
            check_count(len(joined) + len(of_period), max_segments)
            joined += of_period
        return joined

    return replace(first.variant, what=parts)


def _renditions(period: Element, base: str, duration_s: float | None, max_segments: int) -> list[_Rendition]:
    """Of the sets that players prefer. Raises UnsupportedMedia where there is none."""
    base = based(base, period)
    is_closed = bool(children(period, _CLOSED))
    found: list[_Rendition] = []
    closed = 0
    for adaptation, pictured in _preferred(period):
        is_set_closed = is_closed or bool(children(adaptation, _CLOSED))
        base_of_set = based(base, adaptation)
        for representation in pictured:
            if is_set_closed or children(representation, _CLOSED):
                closed += 1
                continue
            levels = (representation, adaptation, period)
            variant = _variant(levels, based(base_of_set, representation), duration_s, max_segments)
            found.append(_Rendition(name=representation.get("id", ""), variant=variant))
    if not found:
        raise UnsupportedMedia("encrypted (DRM)" if closed else "the DASH manifest has no rendition with video for any player")
    return found


def _preferred(period: Element) -> list[tuple[Element, list[Element]]]:
    """The sets with the main video and its renditions, all of them where none is said to be more so than others."""
    sets: list[tuple[Element, list[Element]]] = []
    for adaptation in children(period, "AdaptationSet")[:MAX_SETS]:
        of_set = children(adaptation, "Representation")[:MAX_REPRESENTATIONS]
        pictured = [one for one in of_set if _has_video(one, adaptation) and not _asks_for_more(one)]
        if pictured and not _asks_for_more(adaptation):
            sets.append((adaptation, pictured))
    ranks = [_rank(adaptation) for adaptation, _ in sets]
    return [one for one, rank in zip(sets, ranks, strict=True) if rank == min(ranks)]


def _rank(adaptation: Element) -> tuple[int, int]:
    """The less, the more players prefer it: by role, then by priority."""
    roles = {one.get("value") for one in children(adaptation, "Role") if one.get("schemeIdUri") == "urn:mpeg:dash:role:2011"}
    role = 0 if "main" in roles else 2 if roles else 1
    return role, -int(adaptation.get("selectionPriority") or 1)


def _asks_for_more(element: Element) -> bool:
    """Whether players must leave it out that do not know one of its properties (5.8.4.8); of those with the same id one is
    enough."""
    told = [(one.get("id"), one.get("schemeIdUri") in _UNDERSTOOD) for one in children(element, "EssentialProperty")]
    known = {name for name, is_known in told if is_known and name is not None}
    return any(not is_known and name not in known for name, is_known in told)


def _variant(
    levels: tuple[Element, ...], base: str, duration_s: float | None, max_segments: int
) -> Variant[Callable[[], Sequence[Part]]]:
    representation, adaptation, _ = levels

    def number(name: str) -> int | None:
        text = representation.get(name) or adaptation.get(name)
        return min(max(int(text), 0), MOST) or None if text else None

    return Variant(
        what=functools.partial(parts_of, levels, base, duration_s, max_segments),
        width_px=number("width"),
        height_px=number("height"),
        bandwidth_bps=number("bandwidth"),
    )


def _has_video(representation: Element, adaptation: Element) -> bool:
    kind = representation.get("mimeType") or adaptation.get("mimeType") or adaptation.get("contentType") or ""
    return kind.startswith("video") or (not kind and (representation.get("height") or adaptation.get("height")) is not None)

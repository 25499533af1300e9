"""What extractors are given in the place of yt-dlp's own readers of manifests: ours, whose time and memory have bounds.

Its reader of DASH makes a list of all segments of all renditions, however many a manifest of a hundred bytes says that there are,
and names of any length; that of Smooth Streaming does likewise, for a kind of stream that is not fetched anyway.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Final

from yt_dlp.utils import ExtractorError

from worker.errors import MediaError
from worker.source.dash import MAX_TAGS, presentation_of
from worker.source.hls import MediaPlaylist, read_hls
from worker.source.parts import PARTS
from worker.source.variants import Variant

_NOT_IN_XML: Final = ("<!ENTITY", "<!ELEMENT", "<!ATTLIST")


def bounded(extractor: Any, *, max_segments: int) -> Any:
    """The extractor, which reads manifests by these functions."""
    whole = extractor._parse_xml
    extractor._parse_xml = lambda text, *args, **kwargs: whole(_small(text), *args, **kwargs)
    extractor._parse_mpd_periods = functools.partial(_dash_periods, max_segments=max_segments)
    extractor._parse_m3u8_formats_and_subtitles = functools.partial(_hls_formats, max_segments=max_segments)
    extractor._parse_ism_formats_and_subtitles = lambda *args, **kwargs: ([], {})
    extractor._parse_f4m_formats = lambda *args, **kwargs: []
    return extractor


def _small(text: str) -> str:
    """XML that is not too much for a parser that holds all of it. Raises ExtractorError."""
    if text.count("<") > MAX_TAGS or any(word in text for word in _NOT_IN_XML):
        raise ExtractorError("XML that is too large, or declares entities", expected=True)
    return text


def _dash_periods(
    mpd_doc: Any, mpd_id: str | None = None, mpd_base_url: str = "", mpd_url: str | None = None, *, max_segments: int
) -> Iterator[dict[str, Any]]:
    """As yt-dlp's method of this name; nothing for a manifest that we do not read."""
    url = mpd_url or mpd_base_url or ""
    try:
        variants = presentation_of(mpd_doc, url, max_segments=max_segments).variants
    except MediaError:
        return
    formats = [{**_format("dash", number, one, mpd_id), "url": url, PARTS: one.what} for number, one in enumerate(variants)]
    yield {"id": "0", "formats": [{**one, "protocol": "http_dash_segments"} for one in formats], "subtitles": {}}


def _hls_formats(
    m3u8_doc: str, m3u8_url: str | None = None, *_: Any, max_segments: int, m3u8_id: str | None = None, **__: Any
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """As yt-dlp's method of this name; nothing for a playlist that we do not read."""
    try:
        found = read_hls(m3u8_doc.encode(), m3u8_url or "", max_segments=max_segments)
    except MediaError:
        return [], {}
    variants = [Variant(what=m3u8_url or "")] if isinstance(found, MediaPlaylist) else found
    formats = [
        {**_format("hls", number, one, m3u8_id), "url": one.what, "protocol": "m3u8_native"}
        for number, one in enumerate(variants)
    ]
    return formats, {}


def _format(kind: str, number: int, one: Variant[Any], name: str | None) -> dict[str, Any]:
    return {
        "format_id": f"{name or kind}-{number}",
        "ext": "mp4",
        "width": one.width_px,
        "height": one.height_px,
        "tbr": one.bandwidth_bps / 1000 if one.bandwidth_bps else None,
    }

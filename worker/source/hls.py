"""HLS playlists (RFC 8216) as renditions and parts; nothing is fetched here. A live reader reads its playlists by the same.

Refused as ``unsupported``: DRM and SAMPLE-AES, an initialisation that comes in the middle. Audio and subtitles of their own are
left aside: a scan looks at pictures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from worker.errors import CorruptMedia, UnsupportedMedia
from worker.source.client import joined_url
from worker.source.hls_lines import addresses, beside_segments, for_parser, lines_of
from worker.source.http import ByteRange
from worker.source.parts import Key, Part
from worker.source.sniff import Kind, sniff
from worker.source.variants import Variant

MAX_VARIANTS: Final = 256
MAX_LISTED: Final = 1000
"""The parser holds for each rendition all that is of its group."""
MAX_CODECS: Final = 512
"""Characters; a longer list is not looked at."""
MAX_KEYS: Final = 2000
"""The parser looks for each key among all others."""
MAX_SEQUENCE: Final = 2**63
"""RFC 8216, 4.2: numbers are below 2^64; half of that leaves room for counting on."""
_FLAT: Final = "CH-MONO"
_RANGE = re.compile(r"(\d{1,15})(?:@(\d{1,15}))?", re.ASCII)
_IV = re.compile(r"0[xX]([0-9a-fA-F]{1,32})")
_VIDEO = re.compile(r"(?:^|,)\s*(?:avc[1-4]|dva[v1]|hvc1|hev1|dvh[1e]|vp0?[89]|av01|dav1|mp4v)", re.IGNORECASE)
_NO_VIDEO = re.compile(r"\s*(mp4a|ac-3|ec-3|opus|flac|mp3|wvtt|stpp)[^,]*(,|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One media segment; ``sequence`` is its number in the stream, the same in every later version of the playlist."""

    sequence: int
    part: Part
    init: Part | None
    is_after_break: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPlaylist:
    """``has_ended``: no more segments will come. ``lacks``: what of the stream is not among the segments, for people.
    ``missing``: the seconds of those listed as missing (EXT-X-GAP), by their numbers."""

    segments: tuple[Segment, ...]
    target_s: float
    has_ended: bool
    lacks: str | None = None
    missing: Mapping[int, float] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        return sum(segment.part.duration_s for segment in self.segments)

    def parts(self) -> list[Part]:
        """What is joined to one file: an initialisation where a run of segments begins that has one (``worker.source.runs``).
        Raises UnsupportedMedia where only some have."""
        if len({segment.init is None for segment in self.segments}) > 1:
            raise UnsupportedMedia("the stream's initialisation comes in the middle")
        parts: list[Part] = []
        before: Part | None = None
        for segment in self.segments:
            if segment.init is not None and (segment.init != before or segment.is_after_break):
                before = segment.init
                parts.append(segment.init)
            parts.append(segment.part)
        return parts


def read_hls(data: bytes, url: str, *, max_segments: int) -> list[Variant[str]] | MediaPlaylist:
    """The renditions' addresses of a master playlist, or a media playlist. Raises CorruptMedia, UnsupportedMedia."""
    import m3u8

    if sniff(data) is not Kind.HLS:
        raise CorruptMedia("no HLS playlist")
    try:
        text = data.decode("utf-8")
        if text.count("#EXTINF") > max_segments:  # before they are made into objects
            raise UnsupportedMedia(f"a playlist of more than {max_segments} segments")
        if text.count("#EXT-X-KEY") + text.count("#EXT-X-MAP") > MAX_KEYS:
            raise UnsupportedMedia(f"a playlist of more than {MAX_KEYS} keys and initialisations")
        if max(text.count("STREAM-INF:"), text.count("#EXT-X-MEDIA:")) > MAX_LISTED:
            raise UnsupportedMedia(f"a playlist of more than {MAX_LISTED} renditions")
        lines = lines_of(text)
        text = for_parser(lines)
        playlist = m3u8.loads(text, uri=url)
        if _taken(playlist) != addresses(lines):
            raise CorruptMedia("a playlist with an address that no EXTINF or EXT-X-STREAM-INF stands above: write one for each")
        if playlist.is_variant:
            _refuse_other_angles(playlist)
            return _variants(playlist, url)
        # An initialisation has a key only if that stands above it, and only with a vector (RFC 8216, 4.3.2.5).
        is_key_first = 0 <= text.find("#EXT-X-KEY:") < text.find("#EXT-X-MAP:")
        return _media(playlist, url, max_segments, is_key_first=is_key_first, lacks=beside_segments(lines))
    except (CorruptMedia, UnsupportedMedia):
        raise
    except Exception as exc:  # the parser raises whatever its input makes it raise
        raise CorruptMedia(f"the HLS playlist cannot be read ({type(exc).__name__})") from exc


def _taken(playlist: Any) -> list[str]:
    if playlist.is_variant:
        return [one.uri for one in playlist.playlists]
    return [one.uri for one in playlist.segments if one.uri and one.duration is not None]


def _variants(playlist: Any, url: str) -> list[Variant[str]]:
    """Those that players know how to show, or all where they know none."""
    shown, found = [], []
    for one, told in list(zip(playlist.playlists, playlist.data["playlists"], strict=True))[:MAX_VARIANTS]:
        info = one.stream_info
        if one.uri and not _has_no_video(info.codecs):
            width, height = info.resolution or (None, None)
            variant = Variant(
                what=joined_url(url, one.uri),
                width_px=width,
                height_px=height,
                bandwidth_bps=info.average_bandwidth or info.bandwidth,
            )
            found.append(variant)
            if _is_for_all(told["stream_info"]):
                shown.append(variant)
    if not found:
        raise UnsupportedMedia("the HLS playlist has no rendition with video")
    return shown or found


def _is_for_all(told: Mapping[str, Any]) -> bool:
    """Whether no codec, layout (RFC 8216bis, 4.4.6.2: several views) or DRM keeps players from it, as far as is told."""
    codecs = told.get("codecs") or ""
    is_known = not codecs or len(codecs) > MAX_CODECS or _VIDEO.search(codecs) is not None
    return is_known and told.get("req_video_layout", _FLAT) in (_FLAT, f'"{_FLAT}"') and not told.get("allowed_cpc")


def _refuse_other_angles(playlist: Any) -> None:
    """Some players show pictures of a playlist of their own in the place of a rendition's (RFC 8216, 4.3.4.1.1)."""
    groups = {one.stream_info.video for one in playlist.playlists}
    named = {one.uri for one in playlist.playlists}
    for one in playlist.media:
        is_shown = one.type == "VIDEO" and one.default == "YES" and one.group_id in groups
        if is_shown and one.uri and one.uri not in named:
            raise UnsupportedMedia("a playlist with pictures apart from its renditions (EXT-X-MEDIA): give the address of either")


def _has_no_video(codecs: str | None) -> bool:
    return 0 < len(codecs or "") <= MAX_CODECS and not _NO_VIDEO.sub("", codecs or "").strip()


def _media(playlist: Any, url: str, max_segments: int, *, is_key_first: bool, lacks: str | None) -> MediaPlaylist:
    if playlist.is_i_frames_only:
        raise UnsupportedMedia("a playlist of single frames for seeking")
    if len(playlist.segments) > max_segments:
        raise UnsupportedMedia(f"a playlist of more than {max_segments} segments")
    target_s = float(playlist.target_duration or 0)
    if not (0 <= target_s < 1e6 and 0 <= (playlist.media_sequence or 0) < MAX_SEQUENCE):
        raise CorruptMedia("a playlist without a sensible target duration or number")
    segments = []
    missing: dict[int, float] = {}
    ends: dict[str, int] = {}
    inits: dict[tuple[str, str | None], Part] = {}
    for number, one in enumerate(playlist.segments):
        if not one.uri:
            continue
        sequence = (playlist.media_sequence or 0) + number
        where = joined_url(url, one.uri)
        span = _range(one.byterange, ends.get(where))
        if span is not None:
            ends[where] = span.first + span.length
        duration_s = float(one.duration or 0.0)
        if not 0 <= duration_s < 1e6:
            raise CorruptMedia("a segment without a sensible duration")
        if one.gap_tag:
            missing[sequence] = duration_s
            continue
        key = _key(one.key, url, sequence)
        segments.append(
            Segment(
                sequence=sequence,
                part=Part(url=where, range=span, key=key, duration_s=duration_s),
                init=_init(one.init_section, url, key if one.key and one.key.iv and is_key_first else None, inits),
                is_after_break=bool(one.discontinuity),
            )
        )
    if missing:
        lacks = f"segments are missing ({len(missing)}, EXT-X-GAP): give a playlist that has them all"
    return MediaPlaylist(
        segments=tuple(segments), target_s=target_s, has_ended=bool(playlist.is_endlist), lacks=lacks, missing=missing
    )


def _range(text: str | None, goes_on_at: int | None) -> ByteRange | None:
    """EXT-X-BYTERANGE: length, and where it begins, else behind the one before."""
    if not text:
        return None
    match = _RANGE.fullmatch(str(text).strip())
    first = None if match is None else int(match[2]) if match[2] else goes_on_at
    if match is None or first is None or not int(match[1]):
        raise CorruptMedia("a byte range that is none")
    return ByteRange(first=first, length=int(match[1]))


def _key(key: Any, url: str, sequence: int) -> Key | None:
    if key is None or key.method in (None, "NONE"):
        return None
    if key.method != "AES-128" or (key.keyformat or "identity") != "identity":
        raise UnsupportedMedia(f"encrypted by {str(key.method)[:40]}: only AES-128 with a key in the open is read")
    if not key.uri:
        raise CorruptMedia("a key without an address")
    match = _IV.fullmatch(key.iv) if key.iv else None
    if key.iv and match is None:
        raise CorruptMedia("an initialisation vector that is none")
    iv = int(match[1], 16) if match else sequence
    return Key(url=joined_url(url, key.uri), iv=iv.to_bytes(16, "big"))


def _init(section: Any, url: str, key: Key | None, known: dict[tuple[str, str | None], Part]) -> Part | None:
    """EXT-X-MAP: one part however many segments name it, encrypted by the first key."""
    if section is None or not section.uri:
        return None
    name = section.uri, section.byterange
    if name not in known:
        known[name] = Part(url=joined_url(url, section.uri), range=_range(section.byterange, 0), key=key, is_init=True)
    return known[name]

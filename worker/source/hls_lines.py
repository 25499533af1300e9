"""The lines of an HLS playlist as players read them (RFC 8216, 4.1); what one takes for a line and another does not is refused.

The parser is given these lines and no others. It would take a tag for another that only begins like it, end a line at characters
that end none, and pass over an address in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from worker.errors import CorruptMedia, UnsupportedMedia

ADDRESS: Final = ""
"""In the place of a tag's name, for a line that is an address."""
_MEDIA: Final = frozenset(
    {
        *("#EXTINF", "#EXT-X-BYTERANGE", "#EXT-X-DISCONTINUITY", "#EXT-X-GAP", "#EXT-X-KEY", "#EXT-X-MAP", "#EXT-X-ENDLIST"),
        *("#EXT-X-TARGETDURATION", "#EXT-X-MEDIA-SEQUENCE", "#EXT-X-I-FRAMES-ONLY"),
    }
)
_READ: Final = _MEDIA | {"#EXTM3U", "#EXT-X-STREAM-INF", "#EXT-X-MEDIA", ADDRESS}
"""All else is a comment, or a tag without a word on which pictures are shown."""
_LINE_END = re.compile(r"\r\n|\r|\n")
_OTHER_END = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]")
"""``str.splitlines`` and some players end a line here."""
_ASSET = re.compile(r"[:,]\s*X-ASSET-(?:URI|LIST)\s*=")
_SPACE: Final = " \t"

Line = tuple[str, str]
"""A tag's name, ``ADDRESS`` or a comment's beginning; the whole line."""


def lines_of(text: str) -> list[Line]:
    """Without blank ones. Raises CorruptMedia where players would not agree, UnsupportedMedia for variables."""
    if _OTHER_END.search(text):
        raise CorruptMedia("a playlist with a character that ends a line for some players only: write it with line feeds alone")
    lines = list(_named(text.removeprefix("\ufeff").lstrip()))
    names = {name for name, _ in lines}
    if "#EXT-X-STREAM-INF" in names and names & {"#EXTINF", "#EXT-X-BYTERANGE"}:
        raise CorruptMedia("a playlist that names both renditions and segments: give the one of the rendition that is meant")
    if "#EXT-X-DEFINE" in names and "{$" in text:
        raise UnsupportedMedia("a playlist with variables (EXT-X-DEFINE): give one that has them filled in")
    return lines


def _named(text: str) -> Iterator[Line]:
    for whole in _LINE_END.split(text):
        line = whole.strip(_SPACE)
        if whole.startswith("#"):
            yield line.partition(":")[0], line
        elif line.startswith("#") or line != line.strip():
            raise CorruptMedia(
                "a line of the playlist with space around it, which is a tag for some players and an address for others"
            )
        elif line:
            yield ADDRESS, line


def for_parser(lines: Sequence[Line]) -> str:
    return "\n".join(line for name, line in lines if name in _READ)


def addresses(lines: Sequence[Line]) -> list[str]:
    return [line for name, line in lines if name == ADDRESS]


def beside_segments(lines: Sequence[Line]) -> str | None:
    """What players show, or would be sent, beside the segments that are listed (RFC 8216bis, 4.4.5.2, 4.4.4.9, appendix D), for
    people."""
    names = [name for name, _ in lines]
    if any(name == "#EXT-X-DATERANGE" and _ASSET.search(line) for name, line in lines):
        return "other recordings are shown in between (X-ASSET-URI, X-ASSET-LIST): give the address of one without"
    if "#EXT-X-SKIP" in names:
        return "its first segments are left out (EXT-X-SKIP): give its address without _HLS_skip"
    if next((name for name in reversed(names) if name in (ADDRESS, "#EXT-X-PART")), None) == "#EXT-X-PART":
        return "its end is listed as EXT-X-PART alone: fetch it again when it is finished"
    return None

"""What is joined is of one kind: MPEG-TS, MP4 or WebM, as each part's first bytes say, and no part is a recording by itself.

A decoder asks only the beginning of a joined file what it is, and passes over whatever is of another kind behind it, or is a file
of its own. Players ask each segment.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from worker.errors import CorruptMedia, UnsupportedMedia
from worker.program_tables import PACKET, SYNC
from worker.source.fragments import Described, described, has_box, holds_samples
from worker.source.parts import Part

_BOXES: Final = frozenset(
    (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"ssix", b"emsg", b"prft", b"free", b"skip", b"wide", b"uuid", b"pdin")
)
_EBML: Final = b"\x1a\x45\xdf\xa3"
_WEBM: Final = (_EBML, b"\x1f\x43\xb6\x75", b"\x1c\x53\xbb\x6b")
"""A file's beginning; a cluster; cues."""
_OTHERWISE: Final = "give the addresses of its segments one by one, or have it packaged anew"


class PartKind(StrEnum):
    TS = "MPEG-TS"
    MP4 = "MP4"
    WEBM = "WebM"


def kind_of(data: bytes) -> PartKind | None:
    if data and all(byte == SYNC for byte in data[: 3 * PACKET : PACKET]):
        return PartKind.TS
    if data[4:8] in _BOXES:
        return PartKind.MP4
    return PartKind.WEBM if data.startswith(_WEBM) else None


def known(head: bytes) -> PartKind:
    """Raises UnsupportedMedia for sound, CorruptMedia for what is of none of these kinds."""
    kind = kind_of(head)
    if kind is None and _is_sound(head):
        raise UnsupportedMedia("a segment is sound alone")
    if kind is None:
        raise CorruptMedia("a segment is neither MPEG-TS nor MP4 nor WebM from its first byte on: see what the server sends")
    return kind


class OneKind:
    """``check`` all parts of a recording in order."""

    def __init__(self) -> None:
        self._kind: PartKind | None = None
        self._before: Part | None = None
        self._decoding: Described | None = None

    def check(self, part: Part, data: bytes) -> None:
        """Raises UnsupportedMedia for parts of several kinds, CorruptMedia for one of none."""
        # A file of packets may be cut anywhere.
        kind = PartKind.TS if self._kind is PartKind.TS and _goes_on(part, self._before) and not kind_of(data) else known(data)
        if self._kind not in (None, kind):
            raise UnsupportedMedia(f"the stream changes from {self._kind} to {kind}: {_OTHERWISE}")
        if kind is PartKind.MP4 and has_box(data, b"moov"):
            self._check_head(part, data)
        if kind is PartKind.WEBM and self._kind is not None and data.startswith(_EBML):
            raise UnsupportedMedia(f"a segment is a WebM file of its own: {_OTHERWISE}")
        self._kind, self._before = kind, part

    def _check_head(self, part: Part, data: bytes) -> None:
        """Of a part that initialises itself, or all."""
        if holds_samples(data):
            raise UnsupportedMedia(f"a segment is an MP4 file of its own: {_OTHERWISE}")
        found = described(data)
        if self._decoding is not None and not part.is_init and found != self._decoding:
            raise UnsupportedMedia("the stream changes in the middle to what is decoded otherwise")
        self._decoding = self._decoding or found


def _goes_on(part: Part, before: Part | None) -> bool:
    """Whether it is the bytes behind those of the part before, in the same file."""
    if before is None or before.range is None or part.range is None or part.url != before.url:
        return False
    return part.range.first == before.range.first + before.range.length


def _is_sound(data: bytes) -> bool:
    """Packed audio (RFC 8216, 3.4): behind an ID3 tag, or from a frame of AAC or MP3 on."""
    return data.startswith(b"ID3") or (data[:1] == b"\xff" and data[1:2] >= b"\xe0")

"""A fragment of MP4 (ISO 14496-12) behind its initialisation, as a file of its own that begins at 0.

Live streams count their time from when they began, or from 1970: to a decoder such a fragment is a file of hours or decades, and
too long. What cannot be read is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

_FREE = b"free"
Box = tuple[bytes, int, int, int]
"""Kind; where it begins, its content does, and it ends."""


def rebased(init: bytes, segment: bytes) -> bytes:
    """``init`` without edit lists and total length, then ``segment`` with each track's time counted from its first fragment."""
    head, body = bytearray(init), bytearray(segment)
    for moov in _of(head, b"moov", 0, len(head)):
        for trak in _of(head, b"trak", moov[2], moov[3]):
            _blank(head, _of(head, b"edts", trak[2], trak[3]))
        for mvex in _of(head, b"mvex", moov[2], moov[3]):
            _blank(head, _of(head, b"mehd", mvex[2], mvex[3]))
    _blank(body, _of(body, b"sidx", 0, len(body)))
    begins: dict[bytes, int] = {}
    for moof in _of(body, b"moof", 0, len(body)):
        for traf in _of(body, b"traf", moof[2], moof[3]):
            _rebase(body, traf, begins)
    return bytes(head + body)


def _rebase(data: bytearray, traf: Box, begins: dict[bytes, int]) -> None:
    track = b"".join(bytes(data[at + 4 : at + 8]) for _, _, at, _ in _of(data, b"tfhd", traf[2], traf[3]))
    for _, _, at, end in _of(data, b"tfdt", traf[2], traf[3]):
        size = 8 if data[at] == 1 else 4
        if at + 4 + size > end:
            continue
        time = int.from_bytes(data[at + 4 : at + 4 + size], "big")
        begin = begins.setdefault(track, time)
        data[at + 4 : at + 4 + size] = max(time - begin, 0).to_bytes(size, "big")


def _blank(data: bytearray, boxes: Iterator[Box]) -> None:
    """Readers skip these boxes."""
    for _, start, _, _ in boxes:
        data[start + 4 : start + 8] = _FREE


def _of(data: bytearray, kind: bytes, at: int, end: int) -> Iterator[Box]:
    """Boxes of this kind in [at, end), up to one that is broken."""
    while at + 8 <= end:
        size, content = int.from_bytes(data[at : at + 4], "big"), at + 8
        if size == 1:
            size, content = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        size = size or end - at
        if size < content - at or at + size > end:
            return
        if data[at + 4 : at + 8] == kind and size > content - at:
            yield kind, at, content, at + size
        at += size

"""What a file announces and does not hold: the end of a recording, or of a transfer, that broke off.

Headers lie, so two signs must agree: a length well past the last packet, and bytes past the file's last, or an index of Matroska
that names clusters where there are none. What gives only one of them, or neither (MPEG-TS, a live Matroska, fragments cut off
between two of them), is like any shorter file.
"""

from __future__ import annotations

import math
import os
import struct

from av.video.stream import VideoStream

from worker.frames.probe import HEAD_BYTES, boxes, container_of
from worker.frames.timeline import Clock

LEAST_S = 1.5
LEAST_SHARE = 0.05
"""Of the length in a file's head, which may be another stream's."""
_SEGMENT = b"\x18\x53\x80\x67"
_CLUSTER = b"\x1f\x43\xb6\x75"
_FLV_DURATION = b"\x00\x08duration\x00"
_FLV_TAGS = (b"\x08", b"\x09", b"\x12")
"""Sound, pictures, data."""


def missing_s(fd: int, stream: VideoStream, clock: Clock, header_s: float, readable_s: float) -> float:
    """Seconds announced behind ``readable_s``, where the packets end, whose bytes are not there; 0 where nothing tells of any.
    ``header_s``: the length in the file's head, which may count from 0 wherever the clock begins."""
    head = os.pread(fd, HEAD_BYTES, 0)
    kind = container_of(head)
    if kind not in ("mp4", "matroska", "avi", "flv"):
        return 0.0
    named_s = 0.0
    if kind != "avi":  # whose index FFmpeg makes up where there is none
        named_s = next((clock.seconds(e.timestamp) for e in reversed(stream.index_entries) if not e.is_discard), 0.0)
    told_s = _told_s(kind, head, stream, header_s) - max(-clock.seconds(0), 0.0)
    whole_s = max(named_s, told_s if told_s - readable_s > LEAST_SHARE * told_s else 0.0)
    return whole_s - readable_s if whole_s - readable_s > LEAST_S and _lacks_bytes(fd, kind, head, stream) else 0.0


def overwritten(fd: int, stream: VideoStream) -> list[int]:
    """Of Matroska, the moments that its index puts into clusters where none begins. FFmpeg goes on at the next that is there, and
    says nothing of those between."""
    if container_of(os.pread(fd, HEAD_BYTES, 0)) != "matroska":
        return []
    places = range(os.fstat(fd).st_size)  # nowhere else can be read, and an index may say what it likes
    entries = stream.index_entries
    return [e.timestamp for e in entries if e.pos not in places or os.pread(fd, len(_CLUSTER), e.pos) != _CLUSTER]


def _told_s(kind: str, head: bytes, stream: VideoStream, header_s: float) -> float:
    """The length in the head, not as FFmpeg estimates it: that of AVI by the bytes that are there, of FLV by its bit rate."""
    if kind == "avi":
        return float(stream.frames * (stream.time_base or 0))
    if kind == "flv":
        told = head.partition(_FLV_DURATION)[2][:8]
        told_s = struct.unpack(">d", told)[0] if len(told) == 8 else 0.0
        return told_s if math.isfinite(told_s) else 0.0
    return header_s


def _lacks_bytes(fd: int, kind: str, head: bytes, stream: VideoStream) -> bool:
    """Whether the file names bytes behind its last: in its index, or by the size of what it consists of."""
    size = os.fstat(fd).st_size
    if kind == "avi":
        return 8 + int.from_bytes(head[4:8], "little") > size
    if any(entry.pos + entry.size > size for entry in stream.index_entries):
        return True
    if kind == "mp4":
        return any(at + length > size for _, at, length, _ in boxes(fd))
    if kind == "matroska":
        gone = overwritten(fd, stream)
        return _segment_end(head) > size or (bool(gone) and gone[-1] == stream.index_entries[-1].timestamp)
    return not _ends_with_a_tag(fd, size)


def _segment_end(head: bytes) -> int:
    """Where Matroska's only segment ends; 0 where its size is unknown."""
    at, _ = _element(head, 4)
    if head[at : at + len(_SEGMENT)] != _SEGMENT:
        return 0
    end, is_known = _element(head, at + len(_SEGMENT))
    return end if is_known else 0


def _element(head: bytes, at: int) -> tuple[int, bool]:
    """Where an element ends whose size stands at ``at``, and whether that is known (RFC 8794: a number of 1 to 8 bytes)."""
    n_bytes = 9 - int.from_bytes(head[at : at + 1], "big").bit_length()
    most = (1 << 7 * n_bytes) - 1
    size = int.from_bytes(head[at : at + n_bytes], "big") & most
    return at + n_bytes + size, size < most


def _ends_with_a_tag(fd: int, size: int) -> bool:
    """Whether the last four bytes of FLV say how far before them a tag of that length begins."""
    length = int.from_bytes(os.pread(fd, 4, max(size - 4, 0)), "big")
    tag = os.pread(fd, 4, max(size - 4 - length, 0))
    return tag[:1] in _FLV_TAGS and 11 + int.from_bytes(tag[1:], "big") == length

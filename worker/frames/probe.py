"""Opens a container on a file descriptor and checks it against the limits before anything is decoded.

Nothing can be opened by name: FFmpeg reads by its ``fd:`` protocol, the only one allowed, and only formats that hold media
themselves are allowed, no playlist, session description or image sequence.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from worker.errors import CorruptMedia, MediaTooLarge, MediaTooLong, OutOfMemory, UnsupportedMedia
from worker.frames.limits import Limits

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,avi,flv,ogg,asf,ivf,mxf"
HEAD_BYTES = 1024
_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"moof", b"styp", b"wide", b"free", b"skip", b"sidx"))
_ISO_STILLS = frozenset((b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"))
NO_INDEX = "the file has no index (moov): the recording or download was not finished; fetch it again or repair it"
_MAX_MOOV_BYTES = 256 * 1024**2


def container_of(head: bytes) -> str | None:
    """Which of the containers the first ``HEAD_BYTES`` announce; None for none that we read as video."""
    if head[4:8] in _BOXES:
        return None if head[8:12] in _ISO_STILLS and head[4:8] == b"ftyp" else "mp4"
    if head.startswith(b"RIFF"):
        return "avi" if head[8:12] == b"AVI " else None
    if len(head) >= 377 and head[0] == head[188] == head[376] == 0x47:
        return "mpegts"
    if len(head) >= 389 and head[4] == head[196] == head[388] == 0x47:
        return "mpegts"
    magics = {
        b"\x1a\x45\xdf\xa3": "matroska",
        b"FLV\x01": "flv",
        b"OggS": "ogg",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
        b"\0\0\x01\xba": "mpeg",
        b"DKIF": "ivf",
        b"\x06\x0e\x2b\x34\x02\x05\x01\x01": "mxf",
    }
    return next((name for magic, name in magics.items() if head.startswith(magic)), None)


@contextmanager
def open_container(
    file: BinaryIO, limits: Limits, accel: HWAccel | None = None, *, parses: bool = True
) -> Iterator[InputContainer]:
    """The demuxer of the file from its start; its streams are decoded on ``accel``. Not ``parses``: packets are not cut into
    pictures. Raises UnsupportedMedia, or CorruptMedia where it is a container that we read."""
    fd = file.fileno()
    head = os.pread(fd, HEAD_BYTES, 0)
    kind = container_of(head)
    if kind is None:
        raise UnsupportedMedia("not a video container or picture that is read here")
    if kind == "mp4" and _is_encrypted(fd):
        raise UnsupportedMedia("the video is encrypted")
    os.lseek(fd, 0, os.SEEK_SET)
    options = {
        "fd": str(fd),
        "protocol_whitelist": "fd",
        "format_whitelist": FORMATS,
        "max_pixels": str(limits.max_pixels),
    }
    if not parses:
        options["fflags"] = "noparse+nofillin"
        options["analyzeduration"] = "1"  # else it would look far ahead for what it does not parse
    if kind == "mpegts":
        options["merge_pmt_versions"] = "1"  # pictures that go on under another PID of their program are the same stream
        options["correct_ts_overflow"] = "0"  # an earlier clock is another recording's; one that wraps is laid out alike
    try:
        container = av.open("fd:", mode="r", options=options, metadata_errors="replace", hwaccel=accel)
    except av.error.ArgumentError as exc:
        raise UnsupportedMedia(f"not a container that is read here: {exc.strerror}") from exc
    except av.error.MemoryError as exc:
        raise OutOfMemory(f"opening the {kind} file: {exc.strerror}") from exc
    except (av.error.FFmpegError, ValueError) as exc:
        check_disk(fd)
        if kind == "mp4" and not _find_box(fd, b"moov"):
            raise CorruptMedia(NO_INDEX) from exc
        raise CorruptMedia(f"damaged {kind} file: {exc.strerror if isinstance(exc, av.error.FFmpegError) else exc}") from exc
    except RuntimeError as exc:
        if accel is None:
            raise
        raise UnsupportedMedia(f"no stream that the card decodes: {exc}") from exc
    with container:
        yield container


def check_disk(fd: int) -> None:
    """After a read that failed: raises OSError where the file's bytes cannot be had, which says nothing of the file. FFmpeg's own
    error does not tell: it is the same for some damage."""
    os.pread(fd, 1, os.lseek(fd, 0, os.SEEK_CUR))


def video_stream(container: InputContainer, limits: Limits) -> VideoStream:
    """The stream to decode, within the limits; the others are discarded unread.

    Raises UnsupportedMedia or MediaTooLarge. How long it is the packets tell: a header counts from 0, wherever the clock begins.
    """
    if len(container.streams) > limits.max_streams:
        raise MediaTooLarge(f"{len(container.streams)} streams, limit {limits.max_streams}")
    moving = moving_streams(container)
    if not moving:
        raise UnsupportedMedia("no video stream")
    if all(s.codec_context is None for s in moving):
        raise UnsupportedMedia("no decoder for the video stream")
    best = container.streams.best("video")
    stream = best if best in moving and best.codec_context is not None else next(s for s in moving if s.codec_context is not None)
    _discard_others(container, stream)
    check_pixels(stream.codec_context.width, stream.codec_context.height, limits)
    check_packets(max(stream.frames, len(stream.index_entries)), limits)
    return stream


def moving_streams(container: InputContainer) -> list[VideoStream]:
    """All streams of pictures but covers and the like, which are one picture (FFmpeg's ``attached_pic``)."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def stream_at(container: InputContainer, index: int) -> VideoStream:
    """The stream of this number; the others are discarded unread. Raises UnsupportedMedia."""
    stream = next((stream for stream in container.streams.video if stream.index == index), None)
    if stream is None or stream.codec_context is None:
        raise UnsupportedMedia("the video stream is found in one way of reading alone")
    _discard_others(container, stream)
    return stream


def _discard_others(container: InputContainer, stream: VideoStream) -> None:
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all


def check_pixels(width: int, height: int, limits: Limits) -> None:
    """Raises MediaTooLarge beyond ``limits.max_pixels``."""
    if width * height > limits.max_pixels:
        raise MediaTooLarge(f"frames of {width}x{height} pixels, limit {limits.max_pixels}")


def check_packets(packets: int, limits: Limits) -> None:
    """Raises MediaTooLarge beyond ``limits.max_packets``."""
    if packets > limits.max_packets:
        raise MediaTooLarge(f"{packets} packets, limit {limits.max_packets}")


def check_duration(duration_s: float, limits: Limits) -> None:
    """Raises MediaTooLong beyond ``limits.max_duration_s``."""
    if duration_s > limits.max_duration_s:
        raise MediaTooLong(f"{duration_s:.0f} s, limit {limits.max_duration_s:.0f} s")


def duration_of(container: InputContainer, stream: VideoStream) -> float:
    """Seconds by the header; 0 where it does not say."""
    if stream.duration and stream.time_base:
        return max(float(stream.duration * stream.time_base), 0.0)
    return max((container.duration or 0) / av.time_base, 0.0)


def has_fragments(fd: int) -> bool:
    """Whether an ISO file has any at its top level."""
    return any(name == b"moof" for name, *_ in boxes(fd))


def _is_encrypted(fd: int) -> bool:
    """Whether an ISO file has a video track of protected samples (``encv``, ISO/IEC 23001-7), whose frames would be noise."""
    moov = _find_box(fd, b"moov")
    return any(
        entry[4:8] == b"encv"
        for trak in _children(moov, b"trak")
        for mdia in _children(trak, b"mdia")
        for minf in _children(mdia, b"minf")
        for stbl in _children(minf, b"stbl")
        for stsd in _children(stbl, b"stsd")
        for entry in (stsd[8:16],)
    )


def _find_box(fd: int, name: bytes) -> bytes:
    """Payload of the first box of this name at the top level; empty where there is none, or an absurdly large one."""
    for found, at, size, header in boxes(fd):
        if found == name:
            return os.pread(fd, size - header, at + header) if size <= _MAX_MOOV_BYTES else b""
    return b""


def boxes(fd: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Name, place, size and header's size, in bytes, of each box at the top level of an ISO file. The last may end behind it."""
    at, end = 0, os.fstat(fd).st_size
    while at + 8 <= end:
        head = os.pread(fd, 16, at)
        if len(head) < 8:
            break
        size, header = int.from_bytes(head[:4], "big"), 8
        if size == 1 and len(head) == 16:
            size, header = int.from_bytes(head[8:], "big"), 16
        size = size or end - at
        if size < header:
            break
        yield head[4:8], at, size, header
        at += size


def _children(payload: bytes, name: bytes) -> Iterator[bytes]:
    at = 0
    while at + 8 <= len(payload):
        size, kind = struct.unpack_from(">I4s", payload, at)
        header = 8
        if size == 1 and at + 16 <= len(payload):
            size, header = int.from_bytes(payload[at + 8 : at + 16], "big"), 16
        size = size or len(payload) - at
        if size < header:
            return
        if kind == name:
            yield payload[at + header : at + size]
        at += size

"""FLV cut at key frames: each cut is a header, the decoder's configuration and the video tags from a key frame on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from worker.errors import CorruptMedia
from worker.source.live.cuts import FRAME_S, Cut
from worker.source.live.pieces import MAX_PIECE_BYTES

_HEADER: Final = b"FLV\x01\x01\x00\x00\x00\x09\x00\x00\x00\x00"
"""Video alone, and no tag before the first."""
_VIDEO, _AUDIO, _SCRIPT = 9, 8, 18
_TAG_BYTES: Final = 160
"""What a tag takes in memory besides its body: of empty ones there may be millions."""
_WITH_CONFIGURATION: Final = frozenset((7, 12, 13))
"""Codec numbers of H.264, and as they are used without being standard, H.265 and AV1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tag:
    time_ms: int
    body: bytes


class FlvCutter:
    """A ``Cutter``. A cut is at least ``cut_s`` long and ends before a key frame, or where the configuration changes; its own
    clock begins at 0."""

    wrap_s: float = 2**32 / 1000

    def __init__(self, cut_s: float) -> None:
        self._cut_s = cut_s
        self._rest = bytearray()
        self._at = 0
        """Place of ``_rest`` in the stream."""
        self._has_begun = False
        self._needed = 13
        """Bytes of the rest with which something can be done again."""
        self._configuration: bytes | None = None
        self._tags: list[_Tag] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Cut]:
        self._rest += data
        if len(self._rest) >= self._needed:  # a tag may come in a million portions
            yield from self._tags_of(bytes(self._rest))

    def _tags_of(self, data: bytes) -> Iterator[Cut]:
        at = 0
        if not self._has_begun:
            if len(data) < 13:
                return
            if data[:3] != b"FLV":
                raise CorruptMedia("not FLV")
            at, self._has_begun = int.from_bytes(data[5:9], "big") + 4, True
        self._needed = 11
        while at + 11 <= len(data):
            kind, size = data[at] & 0x1F, int.from_bytes(data[at + 1 : at + 4], "big")
            if kind not in (_VIDEO, _AUDIO, _SCRIPT):
                raise CorruptMedia("FLV that is broken")
            if at + 15 + size > len(data):
                self._needed = 15 + size
                break
            time_ms = data[at + 7] << 24 | int.from_bytes(data[at + 4 : at + 7], "big")
            body = data[at + 11 : at + 11 + size]
            cut = self._take(_Tag(time_ms=time_ms, body=body), self._at + at) if kind == _VIDEO and size > 1 else None
            at += 15 + size
            if cut is not None:
                yield cut
        self._rest, self._at = bytearray(data[at:]), self._at + at

    def rest(self) -> Cut | None:
        """A stream that goes on after this begins with a header again."""
        end_at = self._at + len(self._rest)
        self._rest, self._has_begun, self._needed = bytearray(), False, 13
        return self._finish(None, end_at)

    def skip_to(self, at: int) -> None:
        self._rest, self._at, self._has_begun, self._needed = bytearray(), at, True, 11
        self._finish(None, at)

    def _take(self, tag: _Tag, at: int) -> Cut | None:
        cut: Cut | None = None
        if _is_configuration(tag.body):
            if self._configuration not in (None, tag.body):  # what came before is decoded by the other
                cut = self._finish(None, at)
            self._configuration = tag.body
            return cut
        if not _is_frame(tag.body):
            return None
        if _is_key(tag.body):
            held_ms = (tag.time_ms - self._tags[0].time_ms) % (1 << 32) if self._tags else None
            if held_ms is None or held_ms >= 1000 * self._cut_s:
                cut = self._finish(tag.time_ms, at)
                self._add(tag)
                return cut
        if self._tags:
            self._add(tag)
        return cut

    def _add(self, tag: _Tag) -> None:
        self._tags.append(tag)
        self._size += len(tag.body) + _TAG_BYTES
        if self._size > MAX_PIECE_BYTES:
            self._tags, self._size = [], 0

    def _finish(self, end_ms: int | None, end_at: int) -> Cut | None:
        tags, self._tags, self._size = self._tags, [], 0
        if not tags:
            return None
        begin_ms = tags[0].time_ms
        times_ms = [_later_ms(tag.time_ms - begin_ms) for tag in tags]
        span_ms = max(times_ms) * len(tags) / (len(tags) - 1) if len(tags) > 1 else FRAME_S * 1000
        first = [] if self._configuration is None else [_written(0, self._configuration)]
        return Cut(
            data=b"".join([_HEADER, *first, *(_written(ms, tag.body) for ms, tag in zip(times_ms, tags, strict=True))]),
            begin_s=begin_ms / 1000,
            end_s=((begin_ms + span_ms) / 1000) % self.wrap_s if end_ms is None else end_ms / 1000,
            span_s=span_ms / 1000,
            end_at=end_at,
        )


def _later_ms(difference_ms: int) -> int:
    """On a clock that wraps. What is earlier than its key frame, as where an encoder began anew, is not weeks later."""
    difference_ms %= 1 << 32
    return difference_ms if difference_ms < 1 << 31 else 0


def _is_key(body: bytes) -> bool:
    return body[0] >> 4 & 7 == 1


def _is_configuration(body: bytes) -> bool:
    if body[0] & 0x80:  # enhanced FLV: the packet's type instead of the codec
        return body[0] & 0x0F == 0
    return body[0] & 0x0F in _WITH_CONFIGURATION and body[1] == 0


def _is_frame(body: bytes) -> bool:
    """Neither the end of a sequence nor what is about all of it."""
    if body[0] & 0x80:
        return body[0] & 0x0F in (1, 3)
    return body[0] & 0x0F not in _WITH_CONFIGURATION or body[1] == 1


def _written(time_ms: int, body: bytes) -> bytes:
    size = len(body).to_bytes(3, "big")
    time = (time_ms & 0xFFFFFF).to_bytes(3, "big") + bytes([time_ms >> 24 & 0xFF])
    return bytes([_VIDEO]) + size + time + b"\0\0\0" + body + (len(body) + 11).to_bytes(4, "big")

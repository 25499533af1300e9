"""MPEG-TS (ISO 13818-1) cut at key frames: each cut is the program's tables and its first video stream's packets from one on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from worker.errors import CorruptMedia
from worker.program_tables import (
    H264,
    HEVC,
    MPEG,
    PACKET,
    SYNC,
    WATCHED,
    Assembled,
    is_sound,
    packets_of,
    payload,
    pid_of,
    programs_of,
    streams_of,
)
from worker.source.live.cuts import FRAME_S, Cut
from worker.source.live.pieces import MAX_PIECE_BYTES

_HZ: Final = 90_000
_MOST_LOST_BYTES: Final = 1 << 20
"""So many bytes without a packet among them are no MPEG-TS."""


def is_mpegts(head: bytes) -> bool:
    return len(head) > 2 * PACKET and all(head[at] == SYNC for at in range(0, 3 * PACKET, PACKET))


class _Table:
    """The first section of a table as it holds now, each time it comes: of a map the one with its program's number. One with a
    wrong checksum, or another number, counts only while none better came."""

    def __init__(self, kind: int, number: int | None = None) -> None:
        self._kind, self._number = kind, number
        self._assembled = Assembled()
        self._best = (False, False)

    def take(self, packet: bytes) -> Iterator[bytes]:
        for section in self._assembled.take(packet):
            if section[0] == self._kind and section[5] & 1 and not section[6]:
                rank = (is_sound(section), section[3] << 8 | section[4] == self._number)
                if rank >= self._best:
                    self._best = rank
                    yield section


class TsCutter:
    """A ``Cutter``. A cut ends before a key frame: the first ``cut_s`` from its beginning on, or the first of another PID."""

    wrap_s: float = 2**33 / _HZ

    def __init__(self, cut_s: float) -> None:
        self._cut_s = cut_s
        self._rest = b""
        self._at = 0
        """Place of ``_rest`` in the stream."""
        self._lost_bytes = 0
        self._lists, self._maps = _Table(0x00), _Table(0x02)
        self._pat = self._pmt = b""
        """As packets."""
        self._program: tuple[int, int] | None = None
        self._video: tuple[int, int] | None = None
        self._packets: list[bytes] = []
        """Of the cut that is not whole yet; first the tables that held when it began."""
        self._begin_s: float | None = None
        self._times_s: list[float] = []
        self._begun_as: tuple[int, int] | None = None
        """``_video`` when it began: the tables in it say nothing of another."""

    def feed(self, data: bytes) -> Iterator[Cut]:
        data = self._rest + data
        at = 0
        while at + 2 * PACKET <= len(data):
            if data[at] != SYNC or data[at + PACKET] != SYNC:
                at += 1
                self._lost_bytes += 1
                if self._lost_bytes > _MOST_LOST_BYTES:
                    raise CorruptMedia("not MPEG-TS")
                continue
            cut = self._take(data[at : at + PACKET], self._at + at)
            at += PACKET
            if cut is not None:
                yield cut
        self._rest, self._at = data[at:], self._at + at

    def rest(self) -> Cut | None:
        if len(self._rest) == PACKET and self._rest[0] == SYNC:
            self._take(self._rest, self._at)
        end_at = self._at + len(self._rest)
        self._rest = b""
        return self._finish(None, end_at)

    def skip_to(self, at: int) -> None:
        self._rest, self._at = b"", at
        self._finish(None, at)

    def _take(self, packet: bytes, at: int) -> Cut | None:
        pid = pid_of(packet)
        if pid == 0:
            for section in self._lists.take(packet):
                self._take_list(section)
        elif self._program is not None and pid == self._program[1]:
            for section in self._maps.take(packet):
                self._pmt = packets_of(pid, section)
                self._video = _video_of(section[:-4]) or self._video
        elif self._video is not None and pid == self._video[0]:
            return self._take_video(packet, self._video[1], at)
        return None

    def _take_list(self, section: bytes) -> None:
        self._pat = packets_of(0, section)
        first = next(iter(programs_of(section[:-4])), None)
        if first is not None and first != self._program:
            self._program, self._maps = first, _Table(0x02, first[0])

    def _take_video(self, packet: bytes, kind: int, at: int) -> Cut | None:
        cut: Cut | None = None
        if packet[1] & 0x40:
            pts_s = _pts_s(payload(packet))
            if pts_s is not None and _is_key(packet, kind):
                held_s = None if self._begin_s is None else (pts_s - self._begin_s) % self.wrap_s
                if held_s is None or held_s + 1e-3 >= self._cut_s or self._video != self._begun_as:
                    cut = self._finish(pts_s, at)
                    self._begin_s, self._times_s, self._packets = pts_s, [], [self._pat, self._pmt]
                    self._begun_as = self._video
            if pts_s is not None and self._begin_s is not None:
                self._times_s.append((pts_s - self._begin_s) % self.wrap_s)
        if self._begin_s is not None:
            self._packets.append(packet)
            if len(self._packets) * PACKET > MAX_PIECE_BYTES:
                self._begin_s, self._packets = None, []
        return cut

    def _finish(self, end_s: float | None, end_at: int) -> Cut | None:
        packets, begin_s, times_s = self._packets, self._begin_s, self._times_s
        self._packets, self._begin_s, self._times_s = [], None, []
        if begin_s is None or not packets:
            return None
        span_s = _span_s([one for one in times_s if one < self.wrap_s / 2])
        return Cut(
            data=b"".join(packets),
            begin_s=begin_s,
            end_s=(begin_s + span_s) % self.wrap_s if end_s is None else end_s,
            span_s=span_s,
            end_at=end_at,
        )


def _span_s(times_s: list[float]) -> float:
    """From the first frame to the end of the last, all frames taken for equally long."""
    if len(times_s) < 2:
        return FRAME_S
    return max(times_s) * len(times_s) / (len(times_s) - 1)


def _video_of(pmt: bytes) -> tuple[int, int] | None:
    """(PID, type) of the first video stream."""
    return next(((pid, kind) for pid, kind, _ in streams_of(pmt) if kind in WATCHED), None)


def _pts_s(pes: bytes) -> float | None:
    if len(pes) < 14 or pes[:3] != b"\0\0\1" or not pes[7] & 0x80:
        return None
    pts = (pes[9] >> 1 & 7) << 30 | pes[10] << 22 | pes[11] >> 1 << 15 | pes[12] << 7 | pes[13] >> 1
    return pts / _HZ


def _is_key(packet: bytes, kind: int) -> bool:
    """As the multiplexer says, or by the first units of the frame where it says nothing."""
    if packet[3] & 0x20 and packet[4] and packet[5] & 0x40:
        return True
    data = payload(packet)
    at = data.find(b"\0\0\1", 9)
    while 0 <= at < len(data) - 3:
        head = data[at + 3]
        if kind in H264 and head & 0x1F in (5, 7):
            return True
        if kind in HEVC and (16 <= head >> 1 & 0x3F <= 21 or 32 <= head >> 1 & 0x3F <= 34):
            return True
        if kind in MPEG and head == 0xB3:
            return True
        at = data.find(b"\0\0\1", at + 3)
    return False

"""The tables of MPEG-TS (ISO 13818-1) that say which packets are whose pictures: program association (PAT) and map (PMT)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

PACKET: Final = 188
SYNC: Final = 0x47
MPEG: Final = frozenset((0x01, 0x02))
H264: Final = frozenset((0x1B,))
HEVC: Final = frozenset((0x24,))
WATCHED: Final = MPEG | H264 | HEVC | {0x10}
"""Types of video that a live stream is cut by."""
_LEAST_BYTES, _MOST_BYTES, _STUFFING = 12, 4096, 0xFF
"""Of sections."""
_MIRRORED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""zlib's checksum takes the bits of each byte the other way round."""


def pid_of(packet: bytes) -> int:
    """Of a packet of ``PACKET`` bytes: which stream it belongs to, 0 to 8191."""
    return (packet[1] & 0x1F) << 8 | packet[2]


def payload(packet: bytes) -> bytes:
    """What a packet of ``PACKET`` bytes carries behind its header and adaptation field; empty where that is nothing."""
    control = packet[3] >> 4 & 3
    if not control & 1:
        return b""
    return packet[5 + packet[4] :] if control & 2 else packet[4:]


def is_sound(section: bytes) -> bool:
    """Whether the checksum (CRC-32/MPEG-2) that it ends with is right."""
    return zlib.crc32(section.translate(_MIRRORED)) == 0xFFFFFFFF


def packets_of(pid: int, section: bytes) -> bytes:
    """A section, with its checksum, laid in packets of its own."""
    data, size = b"\0" + section, PACKET - 4
    return b"".join(
        bytes((SYNC, (0 if at else 0x40) | pid >> 8, pid & 0xFF, 0x10 | at // size & 0x0F))
        + data[at : at + size].ljust(size, bytes((_STUFFING,)))
        for at in range(0, len(data), size)
    )


class Assembled:
    """Sections of one PID as FFmpeg puts them together out of packets (``write_section_data`` in its libavformat/mpegts.c)."""

    def __init__(self) -> None:
        self._counter = -1
        self._held = bytearray(_MOST_BYTES)
        self._begin = self._end = 0
        """In ``_held``: of the section that is not whole yet."""
        self._is_done = False

    def take(self, packet: bytes) -> Iterator[bytes]:
        """The sections, with their checksums, that are whole with this packet. One that does not follow the one before takes
        none up."""
        control = packet[3] >> 4 & 3
        if not control:
            return
        counter = packet[3] & 0x0F
        is_next = (
            self._counter in (-1, (counter - (control & 1)) & 0x0F)
            or (control & 2 and packet[4] > 0 and packet[5] & 0x80)  # as it says
        )
        self._counter = counter
        data = payload(packet)
        rest, begun = data, b""
        if data and packet[1] & 0x40:
            if data[0] >= len(data):
                return
            rest, begun = data[1 : 1 + data[0]], data[1 + data[0] :]
        if rest and is_next and not self._is_done:
            yield from self._put(rest)
        if begun:
            self._begin = self._end = 0
            yield from self._put(begun)

    def _put(self, data: bytes) -> Iterator[bytes]:
        held = self._held
        data = data[: _MOST_BYTES - self._end]
        held[self._end : self._end + len(data)] = data
        self._end += len(data)
        self._is_done = self._begin > 0
        while self._begin < _MOST_BYTES and held[self._begin] != _STUFFING:
            begin, left = self._begin, self._end - self._begin
            length = 3 + ((held[begin + 1] & 0x0F) << 8 | held[begin + 2]) if left >= 3 else 0
            if length > _MOST_BYTES:
                return
            if not length or length > left:
                self._is_done = False
                return
            self._is_done = True
            self._begin += length
            if length >= _LEAST_BYTES:
                yield bytes(held[begin : begin + length])


def programs_of(pat: bytes) -> tuple[tuple[int, int], ...]:
    """(number, PID of the map) of each program, in order."""
    found = ((pat[at] << 8 | pat[at + 1], (pat[at + 2] & 0x1F) << 8 | pat[at + 3]) for at in range(8, len(pat) - 3, 4))
    return tuple((number, pid) for number, pid in found if number)


def streams_of(pmt: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(PID, type, descriptors) of a program's streams."""
    if len(pmt) < 12:
        return
    at = 12 + ((pmt[10] & 0x0F) << 8 | pmt[11])
    while at + 5 <= len(pmt):
        behind = at + 5 + ((pmt[at + 3] & 0x0F) << 8 | pmt[at + 4])
        yield (pmt[at + 1] & 0x1F) << 8 | pmt[at + 2], pmt[at], pmt[at + 5 : behind]
        at = behind

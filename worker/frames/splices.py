"""Whether pictures of MPEG-TS that go on under another PID begin there with one that refers to none before it.

FFmpeg gives those under all PIDs to one decoder. A player that keeps to the first PID shows what goes on under it after others by
its own pictures; here these would be replaced by the others', and what is looked at would be shown by nobody.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final, NamedTuple, NoReturn

from av.packet import Packet
from av.video.stream import VideoStream

from worker.errors import UnsupportedMedia
from worker.frames import probe
from worker.frames.demuxer import Demuxer
from worker.frames.limits import Limits
from worker.program_tables import PACKET, SYNC, payload, pid_of

_BEGINS: Final = b"\x00\x00\x01"
_UNITS: Final = re.compile(rb"\x00\x00\x01(?=(.{3,6}))", re.DOTALL)
"""The first bytes of each."""
_MOST_PICTURES: Final = 2
"""Those of a PID's last PES packet FFmpeg gives late, behind the others: one, or two fields."""
_SETS: Final = {"h264": {7, 8}, "hevc": {33, 34}}
"""The kinds of units without which no picture is decoded, and those before are of the other PID."""
_PICTURES: Final = {"mpeg1video": b"\x00", "mpeg2video": b"\x00", "mpeg4": b"\xb6", "vc1": b"\x0d", "cavs": b"\xb3\xb6"}
"""The kinds of what begins a picture, of codecs of which nothing says whether it refers to others."""
_NO_BLOCK: Final = 1 << 19
_SKIPS: Final = (0, 4, 16)
"""Where a packet begins behind the place that FFmpeg gives for it: with 188, 192 and 204 bytes from one to the next."""


class _Unit(NamedTuple):
    """``begins``: a picture. ``is_apart``: and refers to none before it, nor does any behind it."""

    kind: int
    is_slice: bool
    begins: bool
    is_apart: bool


def count_changes(file: BinaryIO, limits: Limits, stream: VideoStream, pids: set[int]) -> int:
    """How often the pictures of a file's stream go on under another PID, of which its demuxer says nothing but in which place
    it found them. Raises as ``check_apart`` and ``Demuxer`` do."""
    fd = file.fileno()
    place = os.lseek(fd, 0, os.SEEK_CUR)  # of whoever reads the file already
    with probe.open_container(file, limits, parses=False) as container:
        same = probe.stream_at(container, stream.index)
        packets = Demuxer(container, same, limits, lambda: (container, same)).packets()
        sent = ((_pid_at(fd, packet.pos), packet) for packet in packets if packet.pos is not None)
        changes = check_apart(sent, stream.codec_context.name, pids)
    os.lseek(fd, place, os.SEEK_SET)
    return changes


def check_apart(sent: Iterable[tuple[int, Packet[VideoStream]]], codec: str, pids: set[int]) -> int:
    """How often pictures go on under another PID; ``sent`` are PIDs and contents of PES packets as they come to be decoded.

    Raises UnsupportedMedia where they do so with a picture that may refer to others before it; of codecs other than H.264 and
    HEVC where they do so under a PID that was left; and where there are none under one of ``pids``. One late picture is no
    matter, in front of its PID's next such one or with others at the end.
    """
    changes, last, left, late = 0, -1, set[int](), set[int]()
    for pid, packet in sent:
        if pid != last or late:
            data = bytes(packet)
            changes += pid != last >= 0
            is_apart = last < 0 or (_is_apart(data, codec) if codec in _SETS else pid not in left)
            if is_apart and late <= {pid}:
                late.clear()
            elif pid in late or _pictures(data, codec) > _MOST_PICTURES:
                _refuse()
            else:
                late.add(pid)
            left.add(pid)
        last = pid
    if not pids <= left:
        raise UnsupportedMedia("the stream changes in the middle to pictures that are taken for another's")
    return changes


def _is_apart(pes: bytes, codec: str) -> bool:
    found = set[int]()
    for unit in _units(pes, codec):
        if unit.is_slice:
            return unit.is_apart and found >= _SETS[codec]
        found.add(unit.kind)
    return False


def _pictures(pes: bytes, codec: str) -> int:
    """How many begin there; too many where nobody knows."""
    if codec in _SETS:
        return sum(unit.begins for unit in _units(pes, codec))
    kinds = _PICTURES.get(codec)
    return sum(pes.count(_BEGINS + bytes((kind,))) for kind in kinds) if kinds else _MOST_PICTURES + 1


def _units(data: bytes, codec: str) -> Iterator[_Unit]:
    last_block = _NO_BLOCK
    for found in _UNITS.finditer(data):
        first, second, third = found[1][:3]
        if codec == "h264":
            kind = first & 0x1F
            is_slice, begins = 1 <= kind <= 5, False
            if kind in (1, 2, 5):
                block = _exp_golomb(found[1][1:])
                begins, last_block = block <= last_block, block
            elif 6 <= kind <= 9:
                last_block = _NO_BLOCK
            yield _Unit(kind, is_slice, begins, kind == 5 and second & 0x80 > 0)
        elif not first & 1 and not second >> 3:  # else of another layer
            kind = first >> 1
            begins = kind < 32 and third & 0x80 > 0
            # A CRA picture (21) may have leading ones that refer to others before it; the second bit drops those not yet shown.
            yield _Unit(kind, kind < 32, begins, begins and 16 <= kind <= 20 and not third & 0x40)


def _exp_golomb(data: bytes) -> int:
    """The number that begins there (ue(v) of H.264), if it is below 2**19."""
    bits = int.from_bytes(data.ljust(5, b"\0"), "big")
    zeros = 40 - bits.bit_length()
    return (bits >> (39 - 2 * zeros)) - 1 if zeros < 20 else 0


def _pid_at(fd: int, place: int) -> int:
    """Of the packet with which a PES packet begins, ``place`` as FFmpeg gives it. Raises UnsupportedMedia where it may be one of
    several."""
    data = os.pread(fd, _SKIPS[-1] + PACKET, place)
    pids = {pid_of(packet) for skip in _SKIPS if _begins_pes(packet := data[skip : skip + PACKET])}
    if len(pids) != 1:
        raise UnsupportedMedia("nobody can say which PID pictures of the stream have")
    return pids.pop()


def _begins_pes(packet: bytes) -> bool:
    if len(packet) < PACKET or packet[0] != SYNC or not packet[1] & 0x40:
        return False
    head = payload(packet)[:3]
    return head != b"" and _BEGINS.startswith(head)


def _refuse() -> NoReturn:
    raise UnsupportedMedia("the stream changes in the middle to pictures under another PID that do not stand by themselves")

"""Whether pictures of MPEG-TS that go on under another PID begin there with one that refers to none before it.

FFmpeg gives those under all PIDs to one decoder. A player that keeps to the first PID shows what goes on under it after others by
its own pictures; here these would be replaced by the others', and what is looked at would be shown by nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, NoReturn

from worker.errors import UnsupportedMedia
from worker.program_tables import payload, pid_of

_UNITS: Final = re.compile(rb"\x00\x00\x01(?=(...))", re.DOTALL)
"""The first bytes of each."""
_VIDEO: Final = range(0xE0, 0xF0)
_MOST_PACKETS: Final = 1 << 15
_MOST_PICTURES: Final = 2
"""Those of a PID's last PES packet FFmpeg may give late, behind the others: one, or two fields."""
_SETS: Final = {"h264": {7, 8}, "hevc": {33, 34}}
"""The kinds of units without which no picture is decoded, and those before are of the other PID."""


class _Unit(NamedTuple):
    """``begins``: a picture. ``is_apart``: and refers to none before it, nor does any behind it."""

    kind: int
    is_slice: bool
    begins: bool
    is_apart: bool


def check_apart(packets: Iterable[bytes], codec: str) -> int:
    """How often pictures go on under another PID, of ``packets`` of the PIDs that are one stream.

    Raises UnsupportedMedia where they do so with a picture that may refer to others before it; of codecs other than H.264 and
    HEVC where they do so under a PID that was left.
    """
    changes, last, left = 0, -1, set[int]()
    held: list[bytes] = []
    is_first = False
    for packet in packets:
        data = payload(packet)
        if not data:
            continue
        pid, begins = pid_of(packet), packet[1] & 0x40 > 0
        is_other = pid != last >= 0
        if is_first and (begins or is_other):
            _check_first(b"".join(held), codec)
        if is_other:
            changes += 1
            left.add(last)
            _check_last(held, codec)
            if not begins or (codec not in _SETS and pid in left):
                _refuse()
        if begins:
            held, is_first = [], is_other and codec in _SETS
        if len(held) < _MOST_PACKETS:
            held.append(data)
        last = pid
    if is_first:
        _check_first(b"".join(held), codec)
    if changes:
        _check_last(held, codec)
    return changes


def _check_first(pes: bytes, codec: str) -> None:
    found = set[int]()
    for unit in _units(pes[9 + pes[8] :], codec) if len(pes) > 8 and pes[:3] == b"\0\0\1" and pes[3] in _VIDEO else ():
        if unit.is_slice:
            if unit.is_apart and found >= _SETS[codec]:
                return
            break
        found.add(unit.kind)
    _refuse()


def _check_last(held: list[bytes], codec: str) -> None:
    if codec in _SETS and (
        len(held) == _MOST_PACKETS or sum(unit.begins for unit in _units(b"".join(held), codec)) > _MOST_PICTURES
    ):
        _refuse()


def _units(data: bytes, codec: str) -> Iterator[_Unit]:
    for found in _UNITS.finditer(data):
        first, second, third = found[1]
        if codec == "h264":
            kind = first & 0x1F
            begins = kind in (1, 2, 5) and second & 0x80 > 0
            yield _Unit(kind, 1 <= kind <= 5, begins, begins and kind == 5)
        elif not first & 1 and not second >> 3:  # else of another layer
            kind = first >> 1
            begins = kind < 32 and third & 0x80 > 0
            # A CRA picture (21) may have leading ones that refer to others before it; the second bit drops those not yet shown.
            yield _Unit(kind, kind < 32, begins, begins and 16 <= kind <= 20 and not third & 0x40)


def _refuse() -> NoReturn:
    raise UnsupportedMedia("the stream changes in the middle to pictures under another PID that do not stand by themselves")

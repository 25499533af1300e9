"""How far apart decoding and presentation of an ISO file's pictures lie, by its tables of offsets (``ctts``, ISO/IEC 14496-12):
FFmpeg shows of an index when pictures are decoded, and of their offsets nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

PLAIN_BOXES = frozenset((b"ftyp", b"free", b"skip", b"wide", b"uuid", b"mdat"))
"""Boxes beside ``moov`` in which FFmpeg looks for no tables."""
MAX_BOXES = 1000
MAX_MOOV_BYTES = 64 * 1024**2
MAX_TABLES = 16


def spread_of(fd: int) -> int | None:
    """By how many ticks the offsets of any one table differ at most; 0 without tables. None where that cannot be told for sure:
    whatever may be a table to FFmpeg must be one here. So tables are sought by name alone, wherever in ``moov`` they are, and
    files with other boxes around it, or with compressed ones or fragments (``trun``) in it, are left alone.
    """
    moov = _only_moov(fd)
    if moov is None or b"cmov" in moov or b"trun" in moov:
        return None
    spread = end = 0
    for number, at in enumerate(_places(moov, b"ctts")):
        size, count = (int.from_bytes(moov[place : place + 4], "big") for place in (at - 4, at + 8))
        if number == MAX_TABLES or at - 4 < end or 16 + 8 * count > size or at - 4 + size > len(moov):
            return None
        end = at - 4 + size
        offsets = np.frombuffer(moov, ">i4", 2 * count, at + 12)[1::2]
        spread = max(spread, int(offsets.max()) - int(offsets.min()) if count else 0)
    return spread


def _only_moov(fd: int) -> bytes | None:
    """The ``moov`` box whole, if there is one, of no unusual size, and none but plain boxes beside it."""
    at, end = 0, os.fstat(fd).st_size
    moov: bytes | None = None
    for _ in range(MAX_BOXES):
        if at >= end:
            return moov
        head = os.pread(fd, 16, at)
        size, least, name = int.from_bytes(head[:4], "big"), 8, head[4:8]
        if size == 1:
            size, least = int.from_bytes(head[8:], "big"), 16
        size = size or end - at
        if size < least or (name not in PLAIN_BOXES and (name != b"moov" or moov is not None)):
            return None
        if name == b"moov":
            if size > min(MAX_MOOV_BYTES, end - at):
                return None
            moov = os.pread(fd, size, at)
        at += size
    return None


def _places(data: bytes, name: bytes) -> Iterator[int]:
    at = data.find(name)
    while at >= 0:
        yield at
        at = data.find(name, at + 1)

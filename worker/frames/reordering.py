"""How far apart decoding and presentation of an ISO file's pictures lie, by its tables of offsets (``ctts``, ISO/IEC 14496-12):
FFmpeg shows of an index when pictures are decoded, and of their offsets nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PLAIN_BOXES = frozenset((b"ftyp", b"free", b"skip", b"wide", b"uuid", b"mdat"))
"""Boxes beside ``moov`` in which FFmpeg looks for no tables."""
MAX_BOXES = 1000
MAX_MOOV_BYTES = 64 * 1024**2
MAX_TABLES = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Offsets:
    """``spread``: by how many ticks those of any one table differ at most; 0 without tables. ``runs_N2``: of the only table, for
    how many pictures which offset holds; empty without tables, None where there are several."""

    spread: int
    runs_N2: npt.NDArray[np.int64] | None

    def of(self, n_pictures: int) -> npt.NDArray[np.int64] | None:
        """Each picture's, in the order of decoding; None where the table is not of so many pictures."""
        if not self.spread:
            return np.zeros(n_pictures, np.int64)
        if self.runs_N2 is None or self.runs_N2[:, 0].sum() != n_pictures:
            return None
        return np.repeat(self.runs_N2[:, 1], self.runs_N2[:, 0])


def offsets_of(fd: int) -> Offsets | None:
    """None where they cannot be told for sure: whatever may be a table to FFmpeg must be one here. So tables are sought by name
    alone, wherever in ``moov`` they are, and files with other boxes around it, or with compressed ones or fragments (``trun``) in
    it, are left alone.
    """
    moov = _only_moov(fd)
    if moov is None or b"cmov" in moov or b"trun" in moov:
        return None
    tables: list[npt.NDArray[np.int64]] = []
    end = 0
    for number, at in enumerate(_places(moov, b"ctts")):
        size, count = (int.from_bytes(moov[place : place + 4], "big") for place in (at - 4, at + 8))
        if number == MAX_TABLES or at - 4 < end or 16 + 8 * count > size or at - 4 + size > len(moov):
            return None
        end = at - 4 + size
        runs_N2 = np.frombuffer(moov, ">u4", 2 * count, at + 12).reshape(-1, 2).astype(np.int64)
        runs_N2[:, 1] -= (runs_N2[:, 1] >= 2**31) * 2**32
        tables.append(runs_N2)
    spread = max((int(np.ptp(runs_N2[:, 1])) for runs_N2 in tables if len(runs_N2)), default=0)
    empty = np.zeros((0, 2), np.int64)
    return Offsets(spread=spread, runs_N2=empty if not tables else tables[0] if len(tables) == 1 else None)


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

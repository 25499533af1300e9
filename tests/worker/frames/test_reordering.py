"""Offsets from decoding to presentation are known for sure or not at all."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from worker.frames.reordering import MAX_BOXES, MAX_TABLES, offsets_of


def box(name: bytes, payload: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(payload), name) + payload


def table(*offsets: int, count: int | None = None) -> bytes:
    entries = b"".join(struct.pack(">Ii", 1, offset) for offset in offsets)
    return box(b"ctts", struct.pack(">II", 0, len(offsets) if count is None else count) + entries)


MOOV = box(b"moov", box(b"trak", table(40, 120, 0, 40)))


@pytest.mark.parametrize(
    ("data", "spread"),
    [
        (box(b"ftyp") + box(b"moov", box(b"trak")) + box(b"mdat"), 0),
        (box(b"moov", table()), 0),
        (MOOV, 120),
        (struct.pack(">I4sQ", 1, b"mdat", 16) + MOOV + box(b"uuid") + struct.pack(">I4s", 0, b"mdat") + bytes(100), 120),
        (MOOV + box(b"mdat", bytes(100))[:50], 120),
        (box(b"moov", table(-512, 1024) + box(b"wherever", table(9)[4:])), None),
        (box(b"moov", table(-512, 1024) + table(9, 9000)), 8991),
        (b"", None),
        (box(b"mdat"), None),
        (MOOV + MOOV, None),
        (box(b"mdia", MOOV) + box(b"moov"), None),
        (box(b"moov") + box(b"trak", table(9000, 0)), None),
        (MOOV[:-8], None),
        (box(b"moov", box(b"cmov")), None),
        (box(b"moov", box(b"moof", box(b"traf", box(b"trun", bytes(12))))), None),
        (box(b"moov", table(1, 2, count=3) + table(3, 4)), None),
        (box(b"moov", table(1, 2, count=2**32 - 1)), None),
        (box(b"moov", table(1, 2)[:-8]), None),
        (box(b"moov", table(0x63747473, 0)), None),
        (box(b"moov", b"ctts"), None),
        (box(b"moov", table() * (MAX_TABLES + 1)), None),
        (MOOV + box(b"free") * MAX_BOXES, None),
        (struct.pack(">I4sQ", 1, b"mdat", 8) + MOOV, None),
    ],
)  # fmt: skip
def test_the_offsets_of_offsets(tmp_path: Path, data: bytes, spread: int | None) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    with path.open("rb") as file:
        found = offsets_of(file.fileno())
    assert (None if found is None else found.spread) == spread

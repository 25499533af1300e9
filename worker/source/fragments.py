"""Fragments of MP4 (ISO 14496-12) behind an initialisation: their times counted anew, and what their decoder must know.

Live streams count their time from when they began, or from 1970: to a decoder such a fragment is a file of hours or decades, and
too long. Recordings that are put together of several count each by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

_MAX_BOXES: Final = 100_000
"""At the top of a file; one of hours has some thousand fragments."""
_MAX_HEAD_BYTES: Final = 16 << 20
"""Of the heads of a file and of its fragments together."""
_FREE = b"free"
Box = tuple[bytes, int, int, int]
"""Kind; where it begins, its content does, and it ends."""


def rebased(init: bytes, segment: bytes) -> bytes:
    """``init`` without edit lists and total length, then ``segment`` with each track's time counted from its first fragment. What
    cannot be read is left as it is."""
    return without_lengths(init) + retimed(segment, {}, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What an initialisation says of its tracks: the units of a second of each, and, as bytes to compare, all that matters for
    decoding (sample descriptions and defaults)."""

    timescales: Mapping[bytes, int]
    decoding: tuple[bytes, ...]


def described(init: bytes) -> Described:
    data = bytearray(init)
    timescales: dict[bytes, int] = {}
    decoding: list[bytes] = []
    for _, _, moov, end in _of(data, b"moov", 0, len(data)):
        for _, _, trak, trak_end in _of(data, b"trak", moov, end):
            track = b"".join(_field(data, at, 12, 20) for _, _, at, _ in _of(data, b"tkhd", trak, trak_end))
            for _, _, mdia, mdia_end in _of(data, b"mdia", trak, trak_end):
                for _, _, at, _ in _of(data, b"mdhd", mdia, mdia_end):
                    timescales[track] = int.from_bytes(_field(data, at, 12, 20), "big")
                decoding += [track, *_descriptions(data, mdia, mdia_end)]
        for _, _, mvex, mvex_end in _of(data, b"mvex", moov, end):
            decoding += [bytes(data[at:to]) for _, _, at, to in _of(data, b"trex", mvex, mvex_end)]
    return Described(timescales=timescales, decoding=tuple(decoding))


def has_box(data: bytes, kind: bytes) -> bool:
    """Whether there is a box of this kind at the top."""
    return any(_of(bytearray(data), kind, 0, len(data)))


def holds_samples(data: bytes) -> bool:
    """Whether its heads (moov) are more than one, or name samples, as those of a file do that is no stream of fragments."""
    body = bytearray(data)
    return len(list(_below(body, 0, len(body), b"moov"))) > 1 or any(
        any(body[at + skipped : at + skipped + 4])
        for table, skipped in ((b"stts", 4), (b"stsz", 8), (b"stz2", 8))
        for _, _, at, _ in _below(body, 0, len(body), b"moov", b"trak", b"mdia", b"minf", b"stbl", table)
    )


def earliest_s(path: Path) -> float:
    """When the earliest fragment of a file that is not empty begins, on the file's own clock; 0 where other samples are in it, or
    one does not say, or there are more of them than any player would load."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        boxes = list(islice(_boxes(data, 0, len(data)), _MAX_BOXES))
        if sum(end - start for kind, start, _, end in boxes if kind in (b"moov", b"moof")) > _MAX_HEAD_BYTES:
            return 0.0
        heads = [data[start:end] for kind, start, _, end in boxes if kind == b"moov"]
        if len(heads) != 1 or boxes[-1][3] != len(data) or holds_samples(heads[0]):
            return 0.0
        timescales = described(heads[0]).timescales
        moofs = ((moof, end) for kind, _, moof, end in boxes if kind == b"moof")
        trafs = list(islice((traf for moof, end in moofs for traf in _of(data, b"traf", moof, end)), _MAX_BOXES + 1))
        if len(trafs) > _MAX_BOXES:
            return 0.0
        return min((_begin_s(bytearray(data[traf:end]), timescales) for _, traf, _, end in trafs), default=0.0)


def _begin_s(traf: bytearray, timescales: Mapping[bytes, int]) -> float:
    track = b"".join(bytes(traf[at + 4 : at + 8]) for _, _, at, _ in _below(traf, 0, len(traf), b"traf", b"tfhd"))
    times = [
        int.from_bytes(traf[at + 4 : at + (12 if traf[at] == 1 else 8)])
        for _, _, at, _ in _below(traf, 0, len(traf), b"traf", b"tfdt")
    ]
    timescale = timescales.get(track, 0)
    return times[0] / timescale if len(times) == 1 and timescale else 0.0


def _field(data: bytearray, at: int, short: int, long: int) -> bytes:
    """Four bytes of a full box whose version 1 has longer times in front of them."""
    at += long if data[at : at + 1] == b"\1" else short
    return bytes(data[at : at + 4])


def _descriptions(data: bytearray, mdia: int, mdia_end: int) -> Iterator[bytes]:
    for _, _, minf, minf_end in _of(data, b"minf", mdia, mdia_end):
        for _, _, stbl, stbl_end in _of(data, b"stbl", minf, minf_end):
            for _, _, at, to in _of(data, b"stsd", stbl, stbl_end):
                yield bytes(data[at:to])


def without_lengths(init: bytes) -> bytes:
    """Without edit lists and total length."""
    head = bytearray(init)
    for moov in _of(head, b"moov", 0, len(head)):
        for trak in _of(head, b"trak", moov[2], moov[3]):
            _blank(head, _of(head, b"edts", trak[2], trak[3]))
        for mvex in _of(head, b"mvex", moov[2], moov[3]):
            _blank(head, _of(head, b"mehd", mvex[2], mvex[3]))
    return bytes(head)


def retimed(segment: bytes, begins: dict[bytes, int], starts: Mapping[bytes, int]) -> bytes:
    """A segment with each track's time counted from ``begins``, where the first time of a track is noted that is not there yet,
    and set off by ``starts``; both by the track's number, in its own units. Raises OverflowError for times that do not fit."""
    body = bytearray(segment)
    _blank(body, _of(body, b"sidx", 0, len(body)))
    for moof in _of(body, b"moof", 0, len(body)):
        for traf in _of(body, b"traf", moof[2], moof[3]):
            _retime(body, traf, begins, starts)
    return bytes(body)


def _retime(data: bytearray, traf: Box, begins: dict[bytes, int], starts: Mapping[bytes, int]) -> None:
    track = b"".join(bytes(data[at + 4 : at + 8]) for _, _, at, _ in _of(data, b"tfhd", traf[2], traf[3]))
    for _, _, at, end in _of(data, b"tfdt", traf[2], traf[3]):
        size = 8 if data[at] == 1 else 4
        if at + 4 + size > end:
            continue
        time = int.from_bytes(data[at + 4 : at + 4 + size], "big")
        begin = begins.setdefault(track, time)
        data[at + 4 : at + 4 + size] = (max(time - begin, 0) + starts.get(track, 0)).to_bytes(size, "big")


def _blank(data: bytearray, boxes: Iterator[Box]) -> None:
    """Readers skip these boxes."""
    for _, start, _, _ in boxes:
        data[start + 4 : start + 8] = _FREE


def _below(data: bytearray, at: int, end: int, *path: bytes) -> Iterator[Box]:
    """Boxes at the end of a path of kinds."""
    for box in _of(data, path[0], at, end):
        if len(path) == 1:
            yield box
        else:
            yield from _below(data, box[2], box[3], *path[1:])


def _of(data: bytearray | mmap, kind: bytes, at: int, end: int) -> Iterator[Box]:
    """Boxes of this kind in [at, end), but for empty ones, up to one that is broken."""
    return (box for box in _boxes(data, at, end) if box[0] == kind and box[3] > box[2])


def _boxes(data: bytearray | mmap, at: int, end: int) -> Iterator[Box]:
    while at + 8 <= end:
        size, content = int.from_bytes(data[at : at + 4], "big"), at + 8
        if size == 1:
            size, content = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        size = size or end - at
        if size < content - at or at + size > end:
            return
        yield bytes(data[at + 4 : at + 8]), at, content, at + size
        at += size

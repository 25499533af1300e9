"""MP4 files that no muxer at hand writes: of several sample entries, or with edits."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path

import av
from av.packet import Packet
from av.video.stream import VideoStream

from tests.worker.frames.conftest import FPS


def box(name: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), name) + b"".join(parts)


def table(name: bytes, *numbers: int, more: bytes = b"", flags: int = 0) -> bytes:
    return box(name, struct.pack(f">{1 + len(numbers)}I", flags, *numbers), more)


def mp4(sources: Sequence[Path], edits: Sequence[tuple[int, int]] = ()) -> bytes:
    """Packets of MP4 files, without reordering, in one track, each file's with its own sample entry. ``edits``: how many frames
    are shown, from which on; from -1 on: none is."""
    entries = b""
    packets: list[Packet[VideoStream]] = []
    runs: list[tuple[int, int, int]] = []
    for source in sources:
        data = source.read_bytes()
        at = data.index(b"stsd") + 12
        entries += data[at : at + int.from_bytes(data[at : at + 4], "big")]
        runs.append((len(packets) + 1, 1, len(runs) + 1))
        with av.open(str(source)) as container:
            packets += [packet for packet in container.demux(container.streams.video[0]) if packet.size]
    head = box(b"ftyp", b"isom", bytes(4))
    places = [len(head) + 8 + size for size in accumulate((packet.size for packet in packets), initial=0)][:-1]
    keys = [number for number, packet in enumerate(packets, 1) if packet.is_keyframe]
    tables = box(
        b"stbl",
        table(b"stsd", len(sources), more=entries),
        table(b"stts", 1, len(packets), 1),
        table(b"stss", len(keys), *keys),
        table(b"stsc", len(runs), *chain(*runs)),
        table(b"stsz", 0, len(packets), *(packet.size for packet in packets)),
        table(b"stco", len(places), *places),
    )
    references = box(b"dinf", table(b"dref", 1, more=table(b"url ", flags=1)))
    media = table(b"mdhd", 0, 0, FPS, len(packets), 0), table(b"hdlr", 0, more=b"vide" + bytes(13))
    cuts = table(b"elst", len(edits), more=b"".join(struct.pack(">IiI", count, first, 1 << 16) for count, first in edits))
    header = table(b"mvhd", 0, 0, FPS, sum(count for count, _ in edits) or len(packets), more=bytes(80))
    track = box(b"trak", *[box(b"edts", cuts)] * bool(edits), box(b"mdia", *media, box(b"minf", references, tables)))
    return head + box(b"mdat", *map(bytes, packets)) + box(b"moov", header, track)

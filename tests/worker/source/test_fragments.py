"""Fragments of a stream that has run for hours, as files of their own."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import av
import pytest

from tests.worker.source.live.streams import segments
from worker.frames.limits import Limits
from worker.frames.sandbox import SandboxedFrames
from worker.source.fragments import earliest_s, rebased
from worker.types import SamplingRequest, Strategy


@pytest.fixture(scope="module")
def fragments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return segments(tmp_path_factory.mktemp("fmp4"), [100, 150, 200, 100], kind="fmp4", seconds=2, start_s=20_000)


def since_1970(segment: bytes) -> bytes:
    data = bytearray(segment)
    at = data.find(b"tfdt")
    assert data[at + 4] == 1
    data[at + 8 : at + 16] = struct.pack(">Q", 1_700_000_000 * 10_240)
    return bytes(data)


def test_a_fragment_is_as_long_as_it_is_however_long_the_stream_ran(fragments: dict[str, bytes], tmp_path: Path) -> None:
    with SandboxedFrames(Limits()) as frames:
        for number, change in ((0, bytes), (1, bytes), (1, since_1970)):
            (tmp_path / "piece").write_bytes(rebased(fragments["init.mp4"], change(fragments[f"seg{number}.m4s"])))
            with frames.open(tmp_path / "piece") as media:
                assert media.info.duration_s == pytest.approx(2, abs=0.05)
                request = SamplingRequest(strategy=Strategy.FPS, fps=2, end_s=2)
                assert [round(frame.pts_s, 2) for frame in media.frames(request)] == [0, 0.5, 1, 1.5]


def test_several_fragments_keep_their_distance(fragments: dict[str, bytes]) -> None:
    both = rebased(fragments["init.mp4"], fragments["seg0.m4s"] + fragments["seg1.m4s"])
    with av.open(io.BytesIO(both)) as media:
        times = [float(frame.time or 0) for frame in media.decode(video=0)]
    assert times == pytest.approx([times[0] + i / 10 for i in range(40)])


def test_hostile_boxes_are_left_as_they_are(fragments: dict[str, bytes]) -> None:
    draw = random.Random(7)
    whole = fragments["init.mp4"], fragments["seg1.m4s"]
    for _ in range(300):
        init, segment = (bytearray(one) for one in whole)
        for data in (init, segment):
            for _ in range(draw.choice([1, 5, 50])):
                data[draw.randrange(min(len(data), 1500))] = draw.randrange(256)
        cut = draw.randrange(len(segment))
        assert len(rebased(bytes(init), bytes(segment[:cut]))) == len(init) + cut


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


@pytest.mark.parametrize(("n_trafs", "padding", "earliest"), [(1, 0, 30.0), (2, 0, 30.0), (20_000, 0, 0.0), (1, 3 << 20, 0.0)])
def test_heads_of_fragments_are_read_within_bounds(tmp_path: Path, n_trafs: int, padding: int, earliest: float) -> None:
    """Whatever is more than that begins nowhere, and is refused by whoever asks."""
    head = struct.pack(">III", 0, 0, 0)
    moov = box(b"moov", box(b"trak", box(b"tkhd", head + b"\0\0\0\1") + box(b"mdia", box(b"mdhd", head + struct.pack(">I", 10)))))
    traf = box(b"traf", box(b"tfhd", struct.pack(">II", 0, 1)) + box(b"tfdt", struct.pack(">II", 0, 300)))
    path = tmp_path / "one.mp4"
    path.write_bytes(moov + 6 * (box(b"moof", traf * n_trafs + box(b"free", bytes(padding))) + box(b"mdat")))
    assert earliest_s(path) == earliest

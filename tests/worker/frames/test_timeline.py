"""Nothing of a file is hidden by its clock, its header or its index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.worker.frames.conftest import FPS, Clips
from worker.errors import CorruptMedia
from worker.frames import sampling
from worker.frames.limits import Limits
from worker.frames.pyav import PyavDecoder, PyavMedia
from worker.frames.reader import MAX_STAMP, laid_out
from worker.frames.timeline import Order
from worker.types import SamplingRequest, Strategy

ALL = SamplingRequest(strategy=Strategy.FPS, fps=float(FPS))
N = 72


def seen(media: PyavMedia, request: SamplingRequest, read_barcode: Any) -> list[tuple[float, int]]:
    return [(frame.pts_s, read_barcode(np.asarray(frame.rgb_HWC))) for frame in media.frames(request)]


def joined(clips: Clips, name: str, *pids: int) -> Path:
    """Recordings one behind the other, each with a clock and a PID of its own, as ``cat`` joins them, or HLS with an
    advertisement."""
    parts = []
    for pid in pids:
        part = clips.path(f"{pid}.ts")
        with av.open(str(clips["h264"].path)) as old, av.open(str(part), "w", options={"mpegts_start_pid": str(pid)}) as new:
            stream = old.streams.video[0]
            copy = new.add_stream_from_template(stream)
            for packet in old.demux(stream):
                if packet.dts is not None:
                    packet.stream = copy
                    new.mux(packet)
        parts.append(part.read_bytes())
    path = clips.path(name)
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("pids", [(256, 256), (256, 400)], ids=["one PID", "another PID"])
def test_recordings_joined_are_looked_at_one_behind_the_other(clips: Clips, read_barcode: Any, pids: tuple[int, ...]) -> None:
    with joined(clips, "twice.ts", *pids).open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert media.info.n_frames == 2 * N
        assert media.info.duration_s == pytest.approx(2 * N / FPS, abs=0.1)
        frames = seen(media, ALL, read_barcode)
        lost = 2 * N - len(frames)
        assert lost <= (pids[0] != pids[1]), "where the PID changes, FFmpeg's demuxer loses what it had begun to put together"
        assert [number for _, number in frames[:70]] == [*range(70)]
        assert [number for _, number in frames[N - lost :]] == [*range(N)]
        assert [at for at, _ in frames[N - lost :]] == pytest.approx([(N + i) / FPS for i in range(N)], abs=0.1)
        late = seen(media, SamplingRequest(times_s=(3.0, 4.0)), read_barcode)
        assert [at for at, _ in late] == pytest.approx([3.0, 4.0], abs=0.1)
        assert [number for _, number in late] == pytest.approx([18, 48], abs=2)
        keys = seen(media, SamplingRequest(strategy=Strategy.KEYFRAMES), read_barcode)
        assert [number for _, number in keys] == [0, 24, 48] * 2
        assert keys == [frame for frame in frames if frame[1] in (0, 24, 48)]
        assert media.counts.bad == 0 or lost


def test_a_long_recording_that_was_joined_is_looked_at_by_its_key_frames() -> None:
    keys_s = tuple(float(i) for i in range(0, 7200, 10))
    clip = sampling.Clip(duration_s=7200.0, fps=25.0, keys_s=keys_s)
    moments = SamplingRequest(times_s=(101.0, 3000.0))
    assert not sampling.plan(moments, clip).keys_only
    assert sampling.plan(moments, replace(clip, restarts=True)) == sampling.Plan(times_s=(100.0, 3000.0), keys_only=True)
    assert not sampling.plan(moments, replace(clip, duration_s=60.0, keys_s=keys_s[:6], restarts=True)).keys_only


def stamps(run: Sequence[int], shift: int = 0) -> list[tuple[int | None, int | None]]:
    return [(2 * i + 4 + shift, 2 * i + shift) for i in run]


@pytest.mark.parametrize(
    ("packets", "goes_back"),
    [
        (stamps(range(200)), False),
        ([(10 * (i - i % 4) + (0, 30, 10, 20)[i % 4], None) for i in range(200)], False),
        ([*stamps(range(100)), (3, 3), *stamps(range(100, 200))], False),
        ([*stamps(range(100)), *stamps(range(100))], True),
        ([*stamps(range(20)), *stamps(range(20))], True),
        ([(at, None) for at in range(100)] * 2, True),
        ([(at + 1000 if at < 100 else at, at) for at in range(300)], True),
        ([(None, at) for at in range(100)] * 2, True),
        ([(None, None)] * 100, False),
    ],
    ids=["steady", "reordered", "one odd", "again", "again, short", "no dts", "dts alone rises", "no pts", "none"],
)
def test_time_that_goes_back_is_told_from_reordering(packets: Sequence[tuple[int | None, int | None]], goes_back: bool) -> None:
    order = Order()
    for pts, dts in packets:
        order.is_passed(pts, dts)
    assert order.goes_back is goes_back
    assert order.count == len(packets)


def test_times_beyond_all_measure_are_corrupt(clips: Clips) -> None:
    with av.open(str(joined(clips, "huge.ts", 256, 256))) as container:
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
    assert len(list(laid_out(iter(packets)))) == 2 * N
    packets[-1].pts = packets[-1].dts = MAX_STAMP + 1
    with pytest.raises(CorruptMedia, match="measure"):
        list(laid_out(iter(packets)))


def test_a_matroska_header_and_index_cannot_hide_length(clips: Clips, read_barcode: Any) -> None:
    data = bytearray(clips["h264_mkv"].path.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3  # Duration, a float of 8 bytes, in milliseconds
    data[at : at + 8] = np.array(400.0, ">f8").tobytes()
    while (cues := data.rfind(b"\x1c\x53\xbb\x6b")) >= 0:
        data[cues + 3] += 1
    assert_all_are_seen(clips.path("lying.mkv"), data, read_barcode)


def test_an_avi_header_and_index_cannot_hide_frames(clips: Clips, read_barcode: Any) -> None:
    data = bytearray(clips["mpeg4_avi"].path.read_bytes())
    few = (20).to_bytes(4, "little")
    at = data.index(b"avih") + 8 + 16
    data[at : at + 4] = few
    at = data.index(b"strh") + 8 + 32
    data[at : at + 4] = few
    at = data.rindex(b"idx1") + 4
    data[at : at + 4] = (20 * 16).to_bytes(4, "little")
    del data[at + 4 + 20 * 16 :]
    assert_all_are_seen(clips.path("lying.avi"), data, read_barcode)


def assert_all_are_seen(path: Path, data: bytes, read_barcode: Any) -> None:
    path.write_bytes(data)
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert media.info.n_frames == N
        assert [number for _, number in seen(media, ALL, read_barcode)] == [*range(N)]

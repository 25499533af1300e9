"""Seeking finds what reading through has told, or is given up; what a disk does not give is no damage."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from tests.worker.frames.conftest import FPS, Clips, read_number, repeat
from worker.frames.demuxer import Demuxer
from worker.frames.limits import Limits
from worker.frames.probe import open_container
from worker.frames.pyav import PyavDecoder, PyavMedia
from worker.types import SamplingRequest, Strategy

KEYS = SamplingRequest(strategy=Strategy.KEYFRAMES)
TIMES = 40
N = 72 * TIMES


def numbers(media: PyavMedia, request: SamplingRequest) -> list[tuple[int, int | None]]:
    """Numbers of the frames given, by the clip's times and as drawn."""
    return [(round(frame.pts_s * FPS) % 72, read_number(np.asarray(frame.rgb_HWC))) for frame in media.frames(request)]


@pytest.fixture(scope="module")
def clean(clips: Clips) -> Path:
    return repeat(clips["h264_ip"], clips.path("sought.ts"), TIMES).path


@pytest.mark.parametrize("at_s", [0.0, 0.5, 32.0, 90.1])
@pytest.mark.parametrize("is_key", [True, False], ids=["key", "no key"])
def test_a_stray_packet_at_the_end_hides_nothing(clips: Clips, clean: Path, at_s: float, is_key: bool) -> None:
    """FFmpeg takes the last packet's time for the file's last."""
    stray = clips.path("stray.ts")
    with av.open(str(clips["h264_ip"].path)) as old, av.open(str(stray), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        packet = [packet for packet in old.demux(video=0) if packet.size][0 if is_key else 1]
        packet.pts = packet.dts = round(at_s / packet.time_base)
        packet.stream = copy
        new.mux(packet)
    path = clips.path("led_astray.ts")
    path.write_bytes(clean.read_bytes() + stray.read_bytes())
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        opening = media.counts.packets
        assert [number for _, number in numbers(media, KEYS)] == [0, 24, 48] * TIMES
        assert media.counts.packets - opening <= 5 * N
        for request in (SamplingRequest(), SamplingRequest(times_s=(10.0, 50.5, 95.9))):
            found = numbers(media, request)
            assert len(found) == (32 if request.strategy is Strategy.AUTO and request.times_s is None else 3)
            assert all(shown == drawn for shown, drawn in found)
        assert media.counts.packets - opening <= 12 * N


@pytest.mark.parametrize("name", ["h264_avi", "mpeg4_avi"])
def test_an_avi_index_that_leads_elsewhere_is_not_followed(clips: Clips, name: str) -> None:
    """Every key frame is said to lie where the first one does: FFmpeg takes the time from the index."""
    data = bytearray(clips[name].path.read_bytes())
    entries = range(data.rindex(b"idx1") + 8, len(data), 16)
    keys = [at for at in entries if data[at + 4] & 0x10]
    for at in keys:
        data[at + 8 : at + 16] = data[keys[0] + 8 : keys[0] + 16]
    path = clips.path("elsewhere.avi")
    path.write_bytes(data)
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert [drawn for _, drawn in numbers(media, KEYS)] == [0, 24, 48]
        assert [drawn for _, drawn in numbers(media, SamplingRequest(times_s=(1.0, 2.0)))] == [30, 60]


def test_an_flv_index_that_leads_to_the_start_is_not_followed(clips: Clips) -> None:
    """It names moments a little behind the key frames, and the place of the second for all of them but two. Reading on from there
    would find each, and read the file as often as there are moments."""
    path = clips.path("indexed.flv")
    options = {"flvflags": "add_keyframe_index"}
    long = repeat(clips["h264_ip"], clips.path("long.mkv"), TIMES).path
    with av.open(str(long)) as old, av.open(str(path), "w", options=options) as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    data = bytearray(path.read_bytes())
    places, times = (data.index(name) + len(name) + 4 + 1 for name in (b"filepositions\n", b"times\n"))  # 10: an array
    for at in range(2 * 9, 3 * TIMES * 9, 9):
        data[places + at : places + at + 8] = data[places + 9 : places + 9 + 8]
        later_s = struct.unpack_from(">d", data, times + at)[0] + 0.04
        struct.pack_into(">d", data, times + at, later_s)
    path.write_bytes(data)
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        opening = media.counts.packets
        assert [drawn for _, drawn in numbers(media, KEYS)] == [0, 24, 48] * TIMES
        assert len(numbers(media, SamplingRequest())) == 32
        assert media.counts.packets - opening <= 5 * N


@pytest.mark.parametrize("end_of_key", [16, 24, 40, 56])
def test_a_window_that_ends_behind_its_last_key_frame_shows_that(clips: Clips, end_of_key: int) -> None:
    """Half a picture later: what follows it lies outside."""
    request = SamplingRequest(end_s=(end_of_key + 0.5) / FPS, max_frames=end_of_key // 8 + 1)
    with clips["h264_often"].path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        shown = [read_number(np.asarray(frame.rgb_HWC)) for frame in media.frames(request)]
    assert shown[-1] == end_of_key
    assert len(shown) == request.max_frames


def test_a_disk_that_fails_is_no_damage(clips: Clips) -> None:
    """The kernel gives an input/output error to all that read the file, FFmpeg among them."""
    path = repeat(clips["h264"], clips.path("not_read.mkv"), 10).path
    with path.open("rb") as file, open_container(file, Limits()) as container:
        demuxer = Demuxer(container, container.streams.video[0], Limits(), pytest.fail)
        handles = [int(handle.name) for handle in Path("/proc/self/fd").iterdir() if handle.resolve() == path.resolve()]
        with open("/proc/self/mem", "rb", buffering=0) as failing:
            for handle in handles:
                os.dup2(failing.fileno(), handle)
        with pytest.raises(OSError, match=r"^\[Errno 5\] Input/output error$"):
            list(demuxer.packets())


@pytest.mark.parametrize("name", ["h264", "h264_mkv"])
def test_a_disk_that_fails_where_a_file_is_opened_is_no_damage(clips: Clips, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is read of it but its first bytes: what kind of file it is was known already."""
    data, pread = clips[name].path.read_bytes(), os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: data[at : at + size] if size > 1 else pread(fd, size, at))
    expected = pytest.raises(OSError, match=r"^\[Errno 5\] Input/output error$")
    with open("/proc/self/mem", "rb", buffering=0) as failing, expected, open_container(failing, Limits()):
        pass

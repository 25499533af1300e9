"""Each frame counts for its own moment, in whatever order a decoder gives frames, and whatever packets say of their times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.worker.frames.conftest import FPS, Clips, read_number
from worker.errors import CorruptMedia
from worker.frames.choose import open_media
from worker.frames.intime import DELAYED, InTime
from worker.frames.limits import Limits
from worker.frames.pyav import PyavDecoder
from worker.ports import OpenMedia
from worker.types import SamplingRequest, Strategy

N = 72
FINE = 8
"""Ticks a frame."""
ALL = SamplingRequest(strategy=Strategy.FPS, fps=float(FINE * FPS))
Shift = Callable[[int, bool], float]
"""By how many frames a packet, by its place in the file and whether it is a key frame, is laid late."""


def forged(clips: Clips, name: str, suffix: str, shift: Shift) -> Path:
    path = clips.path("forged_" + name + suffix)
    with av.open(str(clips[name].path)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        packets = [packet for packet in old.demux(stream) if packet.size]
        order = sorted(packet.pts for packet in packets)
        for place, packet in enumerate(packets):
            shown = order.index(packet.pts) + 20 + shift(place, packet.is_keyframe)
            packet.time_base, packet.duration = Fraction(1, FINE * FPS), FINE
            packet.pts, packet.dts, packet.stream = round(FINE * shown), FINE * place, copy
            new.mux(packet)
    return path


def numbers(media: OpenMedia, request: SamplingRequest) -> list[int | None]:
    frames = list(media.frames(request))
    assert all(earlier.pts_s < later.pts_s for earlier, later in pairwise(frames))
    return [read_number(np.asarray(frame.rgb_HWC)) for frame in frames]


@pytest.mark.parametrize("shift", [
    lambda place, _: 32.5 * (place % 32 == 1),
    lambda place, _: 16.5 * (place % 16 == 0),
    lambda place, _: 3.5 * (place % 4 == 2),
    lambda place, _: -15.5 * (place % 16 == 8),
    lambda _, is_key: 12.5 * is_key,
    lambda place, is_key: -15.5 * (is_key and place > 0),
    lambda place, _: 15.5 * (place % 32 < 12),
], ids=["one of 32", "the first of 16", "one of 4", "early", "late key frames", "early key frames", "twelve of 32"])  # fmt: skip
@pytest.mark.parametrize(
    ("name", "suffix"), [("h264_ip", ".mkv"), ("h264_ip", ".ts"), ("h264_often", ".mkv"), ("h264", ".mkv"), ("vp9", ".webm")]
)
def test_packets_laid_late_or_early_hide_no_frame(clips: Clips, name: str, suffix: str, shift: Shift) -> None:
    """Containers that do not tell when a packet is decoded cannot tell them from reordered ones."""
    with forged(clips, name, suffix, shift).open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        opening = media.counts.decoded
        found = numbers(media, ALL)
        assert len(set(found) - {None}) == len(found) >= N - 3
        assert media.counts.decoded - opening <= N
        shown = sorted(number for number in found if number is not None)
        assert all(later - earlier <= 2 for earlier, later in pairwise((-1, *shown, N)))


@pytest.mark.parametrize("threads", [4, 32])
def test_packets_laid_late_hide_no_frame_from_many_threads(clips: Clips, threads: int) -> None:
    """Each but one holds a further frame back."""
    path = forged(clips, "h264_ip", ".mkv", lambda place, _: 16.5 * (place % 16 == 0))
    with path.open("rb") as file, PyavDecoder(Limits(), threads).open(file) as media:
        assert set(numbers(media, ALL)) - {None} >= {*range(N)}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_what_is_laid_behind_the_next_key_frame_is_seen_by_whoever_seeks_that(clips: Clips, suffix: str) -> None:
    """An index of decoding times says nothing of it."""
    with forged(clips, "h264_often", suffix, lambda place, _: 5.5 * (place % 8 > 4 and place < 64)).open("rb") as file:
        with PyavDecoder(Limits()).open(file) as media:
            whole = [(frame.pts_s, read_number(np.asarray(frame.rgb_HWC))) for frame in media.frames(ALL)]
        with PyavDecoder(Limits()).open(file) as media:
            there = [number for pts_s, number in whole if 1.2 <= pts_s < 1.6]
            window = numbers(media, replace(ALL, start_s=1.2, end_s=1.6))
            assert len(window) - len(there) in (0, 1), "the picture on the screen when it begins"
            assert window[-len(there) :] == there


def test_what_follows_key_frames_hides_none_of_them_however_late_it_is_laid(clips: Clips) -> None:
    path = forged(clips, "h264_often", ".mkv", lambda place, _: 31.5 * (place % 8 in (1, 3, 7) and place < 40))
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert numbers(media, SamplingRequest(strategy=Strategy.KEYFRAMES)) == [*range(0, N, 8)]
        assert numbers(media, SamplingRequest(max_frames=9)) == [8, 17, 24, 35, 40, 55, 56, 65]


def test_late_frames_of_interlaced_video_are_seen_once_one_was(clips: Clips) -> None:
    path = forged(clips, "interlaced", ".mkv", lambda place, _: 3.5 * (place % 4 == 2))
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert len(set(numbers(media, ALL)) - {None}) >= N - 3


def test_decord_is_not_used_where_time_goes_back(clips: Clips) -> None:
    path = forged(clips, "h264_ip", ".mkv", lambda place, _: 3.5 * (place % 4 == 2))
    with path.open("rb") as file, open_media(file, Limits(), "decord") as media:
        assert media.info.decoder == "pyav"
        assert len(numbers(media, ALL)) == N


@pytest.mark.parametrize("request_", [
    SamplingRequest(max_frames=20), SamplingRequest(strategy=Strategy.UNIFORM, max_frames=20), SamplingRequest(times_s=(1.5, 2)),
], ids=["auto", "uniform", "times"])  # fmt: skip
@pytest.mark.parametrize(
    ("name", "suffix"), [("hevc", ".mkv"), ("hevc", ".mp4"), ("h264_one_key", ".mp4"), ("h264_ip", ".mp4"), ("mpeg4_avi", ".mp4")]
)
def test_packets_said_to_be_key_frames_hide_none_of_the_others(
    clips: Clips, name: str, suffix: str, request_: SamplingRequest
) -> None:
    path = clips.path(f"all_keys_{name}{suffix}")
    with av.open(str(clips[name].path)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for packet in [packet for packet in old.demux(stream) if packet.size]:
            packet.is_keyframe, packet.stream = True, copy
            new.mux(packet)
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        found = [number for number in numbers(media, request_) if number is not None]
        times_s = request_.times_s or [(i + 0.5) * N / FPS / 20 for i in range(20)]
        near = [min((abs(time_s * FPS - number) for number in found), default=N) for time_s in times_s]
        assert sum(distance <= 1 for distance in near) >= len(near) - 2


def repeated(clips: Clips, name: str, turns: int, damage: Callable[[bytes], bytes], emptied: dict[int, bytes]) -> Path:
    """The clip again and again, its packets damaged; behind those that ``emptied`` names, by moments, two of such data,
    shown an eighth of a frame before and after."""
    path = clips.path(f"{name}_{turns}.mkv")
    with av.open(str(clips[name].path)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        packets = [(bytes(packet), packet.pts, packet.is_keyframe) for packet in old.demux(stream) if packet.size]
        order = sorted(pts for _, pts, _ in packets)
        for turn, (place, (data, pts, is_key)) in product(range(turns), enumerate(packets)):
            at = FINE * (N * turn + order.index(pts) + 20)
            empty = emptied.get(N * turn + order.index(pts))
            for content, shown in ((damage(data), at), (empty, at - 1), (empty, at + 1)):
                if content is not None:
                    packet = av.Packet(content)
                    packet.pts, packet.dts, packet.time_base = shown, FINE * (N * turn + place), Fraction(1, FINE * FPS)
                    packet.is_keyframe, packet.stream = is_key and shown == at, copy
                    new.mux(packet)
    return path


def test_wanted_frames_that_are_lost_to_damage_keep_few_others_waiting(clips: Clips) -> None:
    def halved(data: bytes) -> bytes:
        return data if data[4] & 0x60 else data[: len(data) // 3] + bytes(len(data) - len(data) // 3)

    with repeated(clips, "h264", 13, halved, {}).open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert len(numbers(media, SamplingRequest(strategy=Strategy.UNIFORM, max_frames=10))) == 10
        assert media.counts.decoded < 10 * 48


@pytest.mark.parametrize("turns", [1, 13])
@pytest.mark.parametrize(("name", "empty"), [("h264", b"\x0c\xff\x80"), ("hevc", b"\x4c\x01\xff\x80")])
def test_packets_that_hold_no_picture_hide_none_to_which_no_other_refers(
    clips: Clips, name: str, empty: bytes, turns: int
) -> None:
    """Where a moment's frame is sought among packets, these are nearest each moment."""
    moments = [round((i + 0.5) * turns * N / 10) for i in range(10)]
    path = repeated(clips, name, turns, bytes, dict.fromkeys(moments, len(empty).to_bytes(4, "big") + empty))
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        found = numbers(media, SamplingRequest(strategy=Strategy.UNIFORM, max_frames=10))
        assert sum(number == moment % N for number, moment in zip(found, moments, strict=True)) > 8


def frame(pts: int) -> av.VideoFrame:
    made = av.VideoFrame(16, 16, "yuv420p")
    made.pts = pts
    return made


def test_what_never_comes_out_of_the_decoder_is_not_waited_for_long() -> None:
    line = InTime(0)
    line.send(3)
    line.send(5)
    assert list(line.give([frame(5)], (), delays=True)) == []
    for stamp in range(6, 4 + DELAYED):
        line.send(stamp)
        assert list(line.give([frame(stamp)], (), delays=True)) == []
    line.send(100)
    assert [given.pts for given in line.give([], (), delays=True)] == [*range(5, 4 + DELAYED)]


def test_frames_that_cannot_all_be_kept_back_are_an_error_and_damage_is_none() -> None:
    line = InTime(0, max_kept_bytes=1000)
    assert list(line.give([frame(30)], (10, 20), delays=False)) == []
    with pytest.raises(CorruptMedia, match="back"):
        list(line.give([frame(31), frame(32)], (10, 20), delays=False))
    line = InTime(0, max_kept_bytes=1000)
    line.send(3)
    assert [given.pts for given in line.give([frame(pts) for pts in (5, 6, 7)], (), delays=True)] == [5, 6, 7]


class Counted:
    """A frame that counts how often its planes are asked for."""

    interlaced_frame = False

    def __init__(self, pts: int) -> None:
        self.pts = pts
        self.asked = 0
        self._frame = frame(pts)

    @property
    def planes(self) -> Any:
        self.asked += 1
        return self._frame.planes


def test_frames_kept_back_are_measured_once() -> None:
    """However many there are: a forger may keep back hundreds of thousands of small ones."""
    line = InTime(0)
    kept = [Counted(30 + place) for place in range(20)]
    for one in kept:
        assert list(line.give([one], (10, 20), delays=True)) == []  # type: ignore[list-item]
    assert [given.pts for given in line.give([], (), delays=True)] == [one.pts for one in kept]
    assert {one.asked for one in kept} == {1}


def test_what_was_given_leaves_its_room() -> None:
    line = InTime(0, max_kept_bytes=2 * sum(plane.buffer_size for plane in frame(0).planes))
    for pts in range(10, 100, 10):
        assert list(line.give([frame(pts), frame(pts + 1)], (pts - 1,), delays=False)) == []
        assert [given.pts for given in line.give([], (), delays=False)] == [pts, pts + 1]

"""Pictures of MPEG-TS that go on under another PID are looked at where they refer to none before: else players differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.worker.frames.conftest import GOP, Clips, Recipe, encode
from tests.worker.frames.test_programs import frames_of, laid, listing, mapping, packets_of, pid_of, stuffed, table
from tests.worker.frames.test_timeline import ALL, N, part, seen
from worker.errors import UnsupportedMedia
from worker.frames.limits import Limits
from worker.frames.pyav import PyavDecoder

KINDS = {"h264": 0x1B, "h264_ip": 0x1B, "h264_often": 0x1B, "open_gop": 0x1B, "hevc": 0x24, "hevc_open_gop": 0x24}


def pictures(clips: Clips, clip: str, pid: int) -> list[list[bytes]]:
    """The packets of each, as they are decoded."""
    found: list[list[bytes]] = []
    for packet in packets_of(part(clips, ".ts", clip=clip, pid=pid)):
        if pid_of(packet) == pid:
            if packet[1] & 0x40:
                found.append([])
            found[-1].append(packet)
    return found


def spliced(clips: Clips, clip: str, *places: int, of: slice = slice(2)) -> list[bytes]:
    """Pictures of another PID in front of these of a clip."""
    head = [packet for packet in packets_of(part(clips, ".ts", clip=clip)) if pid_of(packet) == 0][:1]
    there, back = (mapping(1, 0x1000, pid, KINDS[clip]) for pid in (0x300, 256))
    packets = [*head, back]
    other = [packet for picture in pictures(clips, clip, 0x300)[of] for packet in picture]
    for place, picture in enumerate(pictures(clips, clip, 256)):
        packets += [there, *other, back, *picture] if place in places else picture
    return packets


@pytest.mark.parametrize("clip", ["h264", "h264_ip", "hevc"])
@pytest.mark.parametrize("place", [GOP, GOP + 2])
def test_a_key_frame_under_another_pid_is_looked_at_in_front_of_key_frames_alone(
    clips: Clips, tmp_path: Path, clip: str, place: int
) -> None:
    """Elsewhere the pictures behind it would refer to it, and what players show that keep to the first PID would go unseen."""
    data = b"".join(spliced(clips, clip, place))
    if place == GOP:
        assert frames_of(tmp_path / "spliced.ts", data) == N + 2
    else:
        with pytest.raises(UnsupportedMedia):
            frames_of(tmp_path / "spliced.ts", data)


@pytest.mark.parametrize(
    ("clip", "of"), [("h264_ip", slice(1, 9)), ("open_gop", slice(2)), ("hevc_open_gop", slice(2))], ids=["P", "I", "CRA"]
)
def test_pictures_that_begin_with_others_than_these_are_refused(clips: Clips, tmp_path: Path, clip: str, of: slice) -> None:
    """What says that it can be begun with may be followed by pictures that refer to others before it."""
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "spliced.ts", b"".join(spliced(clips, clip, GOP, of=of)))


def test_recordings_around_one_of_another_pid_are_looked_at(clips: Clips, read_barcode: Any) -> None:
    """As HLS with an advertisement."""
    path = clips.path("around.ts")
    path.write_bytes(b"".join(part(clips, ".ts", pid=pid, start_s=start_s) for pid, start_s in ((256, 0), (400, 90), (256, 3))))
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert media.info.n_frames == 3 * N
        numbers = [number for _, number in seen(media, ALL, read_barcode)]
        assert np.bincount(numbers, minlength=N).min() >= 2
        assert len(numbers) >= 3 * N - 2


def test_a_picture_that_comes_when_all_others_have_is_looked_at(clips: Clips, tmp_path: Path) -> None:
    """The last under a PID FFmpeg gives at the end."""
    data = b"".join(spliced(clips, "h264_ip", GOP + 2, of=slice(1)))
    assert frames_of(tmp_path / "spliced.ts", data) == N + 1


@pytest.mark.parametrize("way", ["junk", "second section", "tail before the next", "many packets", "another counter between"])
def test_pictures_under_another_pid_are_found_however_they_are_laid(clips: Clips, tmp_path: Path, way: str) -> None:
    packets = spliced(clips, "h264_ip", GOP + 2)
    if way == "junk":
        packets = [packet + b"\0" if pid_of(packet) == 0x300 else packet for packet in packets]
    else:
        at = packets.index(mapping(1, 0x1000, 0x300))
        packets[at : at + 1] = laid(packets[at], way)
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "spliced.ts", b"".join(packets))


def pes(pid: int, data: bytes, place: int, counter: Iterator[int]) -> list[bytes]:
    """The packets of a PES packet that is shown in this place."""
    pts = 90_000 + 3_000 * place
    stamp = bytes((0x21 | (pts >> 29 & 14), pts >> 22 & 255, 1 | (pts >> 14 & 254), pts >> 7 & 255, 1 | (pts << 1 & 254)))
    data = b"\0\0\1\xe0\0\0\x80\x80\5" + stamp + data
    return [stuffed(pid, data[at : at + 180], next(counter) % 16, begins=not at) for at in range(0, len(data), 180)]


@pytest.mark.parametrize(
    ("codec", "kind"), [("libx264", 0x1B), ("mpeg2video", 2), ("mpeg4", 0x10)], ids=["h264", "mpeg2", "mpeg4"]
)
@pytest.mark.parametrize("count", [1, 3])
def test_many_pictures_in_the_last_packet_before_others_are_refused(tmp_path: Path, codec: str, kind: int, count: int) -> None:
    """FFmpeg gives them behind the others. Those of H.264 lack the slice that says where it begins."""
    path = tmp_path / "joined.ts"
    options = {"preset": "veryfast", "x264-params": "slices=4:bframes=0:repeat-headers=1"} if kind == 0x1B else {}
    encode(Recipe(codec=codec, options=options, n_frames=4), path)
    with av.open(str(path)) as container:
        first, *more = (bytes(packet) for packet in container.demux(video=0) if packet.size)
    if kind == 0x1B:
        first_slice = re.compile(rb"\x00\x00\x01[\x41\x61](?=[\x80-\xff]).*?(?=\x00\x00\x01)", re.DOTALL)
        more = [first_slice.sub(b"", data, count=1) for data in more]
    here, there = cycle(range(16)), cycle(range(16))
    packets = [listing((1, 0x1000)), mapping(1, 0x1000, 256, kind)]
    packets += pes(256, first, 0, here) + pes(256, b"".join(more[:count]), 1, here)
    packets += [mapping(1, 0x1000, 0x80, kind), *pes(0x80, first, 4, there), *pes(0x80, first, 5, there)]
    if kind == 0x1B:
        packets += [mapping(1, 0x1000, 256, kind), *pes(256, first, 6, here), *pes(256, first, 7, here)]
    if count == 1:
        assert frames_of(path, b"".join(packets)) >= 4
    else:
        with pytest.raises(UnsupportedMedia):
            frames_of(path, b"".join(packets))


@pytest.mark.parametrize("times", [4, 5])
def test_pictures_that_go_on_elsewhere_too_often_are_refused(clips: Clips, tmp_path: Path, times: int) -> None:
    """They could be those of all moments looked at, and no player show them."""
    data = b"".join(spliced(clips, "h264_often", *range(8, 8 * times + 1, 8), of=slice(1)))
    if times == 4:
        assert frames_of(tmp_path / "spliced.ts", data) == N + times
    else:
        with pytest.raises(UnsupportedMedia):
            frames_of(tmp_path / "spliced.ts", data)


@pytest.mark.parametrize("pids", [(256, 400), (256, 400, 256)])
def test_other_codecs_are_looked_at_under_one_pid_after_the_other(tmp_path: Path, pids: tuple[int, ...]) -> None:
    path = tmp_path / "joined.ts"
    data = b""
    for pid in pids:
        encode(Recipe(codec="mpeg2video", options={}, muxer={"mpegts_start_pid": str(pid)}, n_frames=9), path)
        data += path.read_bytes()
    if len(pids) == 2:
        assert frames_of(path, data) == 18
    else:
        with pytest.raises(UnsupportedMedia):
            frames_of(path, data)


def test_pictures_under_the_pid_of_another_stream_are_not_taken_for_looked_at(clips: Clips, tmp_path: Path) -> None:
    """FFmpeg leaves them to that stream."""

    def mapped(video: int, audio: int) -> bytes:
        streams = b"".join(
            bytes((kind,)) + (0xE000 | pid).to_bytes(2, "big") + b"\xf0\0" for kind, pid in ((0x1B, video), (15, audio))
        )
        return table(0x1000, b"\2\xb0\x17\0\1\xc1\0\0\xe1\0\xf0\0" + streams)

    first, second = (
        [packet for packet in packets_of(part(clips, ".ts", pid=pid)) if pid_of(packet) == pid] for pid in (256, 257)
    )
    sound = stuffed(257, b"\0\0\1\xc0\0\0\x80\0\0" + b"\xff\xf1" * 10, 0, begins=True)
    packets = [listing((1, 0x1000)), mapped(256, 257), *first[:40], sound, *first[40:], mapped(257, 258), *second]
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "joined.ts", b"".join(packets))


@pytest.mark.parametrize("place", [GOP, GOP + 2])
def test_the_pid_of_packets_with_times_before_them_is_found(clips: Clips, tmp_path: Path, place: int) -> None:
    data = b"".join(b"\0\0\0\0" + packet for packet in spliced(clips, "h264_ip", place))
    if place == GOP:
        assert frames_of(tmp_path / "spliced.m2ts", data) == N + 2
    else:
        with pytest.raises(UnsupportedMedia):
            frames_of(tmp_path / "spliced.m2ts", data)


def test_a_packet_of_which_nobody_can_say_where_it_begins_is_refused(clips: Clips, tmp_path: Path) -> None:
    """Of 204 bytes, the last 16 of the one before may be another header, which leads to the same picture."""
    packets = packets_of(part(clips, ".ts"))
    other = b"G\x43\x00\x30\x0f".ljust(16, b"\0")
    data = b"".join(packet + (other if pid_of(packet) == 256 else bytes(16)) for packet in packets)
    with pytest.raises(UnsupportedMedia, match="which PID"):
        frames_of(tmp_path / "many.ts", b"".join(packets[:3]) + data)


def recording(path: Path, cameras: int) -> bytes:
    """Two seconds of as many streams of pictures, and sound behind them, each under the next PID."""
    with av.open(str(path), "w", format="mpegts") as out:
        streams = [out.add_stream("libx264", rate=20, width=64, height=64, pix_fmt="yuv420p") for _ in range(cameras)]
        sound = out.add_stream("mp2", rate=48000)
        for number in range(40):
            for stream in streams:
                picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 6 * number, np.uint8), format="rgb24")
                picture.pts = number
                out.mux(stream.encode(picture))
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), format="s16", layout="stereo")
            silence.sample_rate, silence.pts = 48000, 2400 * number
            out.mux(sound.encode(silence))
        for stream in (*streams, sound):
            out.mux(stream.encode())
    return path.read_bytes()


def test_sound_in_the_place_of_another_camera_is_no_damage(tmp_path: Path) -> None:
    data = recording(tmp_path / "two.ts", cameras=2) + recording(tmp_path / "one.ts", cameras=1)
    assert frames_of(tmp_path / "joined.ts", data) == 80

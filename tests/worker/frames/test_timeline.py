"""Nothing of a file is hidden by its clock, its header or its index."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.worker.frames.conftest import FPS, Clips, Recipe, draw, encode, shorten_header
from worker.errors import MediaTooLong
from worker.frames import sampling
from worker.frames.choose import DecoderName, open_media
from worker.frames.demuxer import Demuxer
from worker.frames.limits import Limits
from worker.frames.pyav import PyavDecoder
from worker.ports import OpenMedia
from worker.types import SamplingRequest, Strategy

ALL = SamplingRequest(strategy=Strategy.FPS, fps=float(FPS))
N = 72


def seen(media: OpenMedia, request: SamplingRequest, read_barcode: Any) -> list[tuple[float, int]]:
    return [(frame.pts_s, read_barcode(np.asarray(frame.rgb_HWC))) for frame in media.frames(request)]


def part(clips: Clips, suffix: str, *, clip: str = "h264", pid: int = 256, start_s: int = 0, **muxer: str) -> bytes:
    """The packets of a clip in another container, on a clock of its own, written with ``muxer``'s options."""
    path = clips.path(f"{pid}-{start_s}{suffix}")
    options = muxer | ({"mpegts_start_pid": str(pid)} if suffix == ".ts" else {})
    with av.open(str(clips[clip].path)) as old, av.open(str(path), "w", options=options) as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.dts is not None and packet.pts is not None:
                shift = round(start_s / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, copy
                new.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("pid", "starts_s"),
    [(256, (0, 0)), (400, (0, 0)), (256, (0, 1000)), (256, (1000, 0)), (256, (0, 20000)), (256, (10, 70000))],
    ids=["same clock", "another PID", "later clock", "earlier clock", "hours later", "most of a day later"],
)
def test_recordings_joined_are_looked_at_one_behind_the_other(
    clips: Clips, read_barcode: Any, pid: int, starts_s: tuple[int, int]
) -> None:
    """As ``cat`` joins them, or HLS with an advertisement."""
    path = clips.path("twice.ts")
    path.write_bytes(part(clips, ".ts", start_s=starts_s[0]) + part(clips, ".ts", pid=pid, start_s=starts_s[1]))
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert media.info.n_frames == 2 * N
        assert media.info.duration_s == pytest.approx(2 * N / FPS, abs=0.1)
        frames = seen(media, ALL, read_barcode)
        lost = 2 * N - len(frames)
        assert lost <= (pid != 256), "where the PID changes, FFmpeg's demuxer loses what it had begun to put together"
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


@pytest.mark.parametrize(
    ("suffix", "muxer"),
    [(".mp4", {"movflags": "frag_keyframe+empty_moov"}), (".mkv", {}), (".flv", {"flvflags": "no_metadata"})],
)
def test_a_clock_that_does_not_begin_near_nothing_is_not_length(
    clips: Clips, read_barcode: Any, suffix: str, muxer: dict[str, str]
) -> None:
    path = clips.path("late" + suffix)
    data = bytearray(part(clips, suffix, start_s=20_000, **muxer))
    for found in re.finditer(rb"tfdt\x01\0\0\0", bytes(data)):  # FFmpeg begins them at 0
        moment = int.from_bytes(data[found.end() : found.end() + 8], "big") + 20_000 * 15_360
        data[found.end() : found.end() + 8] = moment.to_bytes(8, "big")
    path.write_bytes(data)
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert media.info.duration_s == pytest.approx(N / FPS, abs=0.1)
        assert [number for _, number in seen(media, ALL, read_barcode)] == [*range(N)]


def test_what_is_too_long_is_not_read_to_its_end(clips: Clips) -> None:
    limits = Limits(max_duration_s=60.0, max_packets=60 * FPS + 2)
    with clips["half_hour_ts"].path.open("rb") as file, pytest.raises(MediaTooLong), PyavDecoder(limits).open(file):
        pass


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(
    ("suffix", "keyint"), [(suffix, keyint) for suffix in (".ts", ".mkv", ".mp4") for keyint in (1, 2, 24)] + [(".flv", 24)]
)
def test_of_two_pictures_at_each_moment_both_are_looked_at(
    clips: Clips, read_barcode: Any, suffix: str, decoder: DecoderName, keyint: int
) -> None:
    """One moment's pictures are numbered alike, but for 128 in the second. Of key frames alone, FFmpeg leaves out the first of an
    MP4 file."""
    path = paired(clips, keyint, "pairs" + suffix, lambda number: (number - number % 2 + 2, number, Fraction(1, 2 * FPS)))
    with path.open("rb") as file, open_media(file, Limits(), decoder) as media:
        assert media.info.n_frames == N - (suffix == ".mp4" and keyint == 1)
        assert media.info.duration_s == pytest.approx(N / (2 * FPS), abs=0.02)
        for request in (ALL, SamplingRequest()):
            numbers = [number for _, number in seen(media, request, read_barcode)]
            assert len(numbers) >= 30
            assert abs(sum(1 if number >= 128 else -1 for number in numbers)) <= 2
            assert [number % 128 for number in numbers] == sorted({number % 128 for number in numbers})


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_what_follows_a_key_frame_at_once_is_looked_at(
    clips: Clips, read_barcode: Any, suffix: str, decoder: DecoderName
) -> None:
    """Each second picture a millisecond behind a key frame."""
    path = paired(clips, 2, "close" + suffix, lambda number: (33 * (number // 2) + number % 2,) * 2 + (Fraction(1, 1000),))
    with path.open("rb") as file, open_media(file, Limits(), decoder) as media:
        numbers = [number for _, number in seen(media, SamplingRequest(), read_barcode)]
        assert sum(number >= 128 for number in numbers) == len(numbers) // 2 == 16
        keys = seen(media, SamplingRequest(strategy=Strategy.KEYFRAMES), read_barcode)
        assert [number for _, number in keys] == [*range(N // 2)]


def test_what_follows_the_key_frames_of_joined_recordings_is_looked_at(clips: Clips, read_barcode: Any) -> None:
    path = paired(clips, 2, "joined.ts", lambda number: (number, number, Fraction(1, 2 * FPS)))
    path.write_bytes(2 * path.read_bytes())
    with path.open("rb") as file, open_media(file, Limits()) as media:
        assert media.info.n_frames == 2 * N
        numbers = [number for _, number in seen(media, SamplingRequest(), read_barcode)]
        assert sum(number >= 128 for number in numbers) == len(numbers) // 2 == 16


def paired(clips: Clips, keyint: int, name: str, times: Callable[[int], tuple[int, int, Fraction]]) -> Path:
    """A clip of pictures of which each second has 128 more than its forerunner; ``times`` gives their pts, dts and time base."""
    options = {"preset": "veryfast", "x264-params": f"keyint={keyint}:min-keyint=1:scenecut=0:bframes=0"}
    recipe = Recipe(options=options, paint=lambda number: draw(number // 2 + number % 2 * 128))
    path = clips.path(f"{keyint}-{name}")
    with av.open(str(encode(recipe, clips.path("single.mp4")).path)) as old, av.open(str(path), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            packet.pts, packet.dts, packet.time_base = times(number)
            packet.duration, packet.stream = 1, copy
            new.mux(packet)
    return path


def test_flv_recordings_joined_are_looked_at_though_key_frames_noted_while_reading_lead_to_the_second(
    clips: Clips, read_barcode: Any
) -> None:
    path = clips.path("twice.flv")
    path.write_bytes(part(clips, ".flv") + part(clips, ".flv")[13:])
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert [number for _, number in seen(media, ALL, read_barcode)] == [*range(N)] * 2


@pytest.mark.parametrize("early", [0, 1], ids=["first is no key", "first before 0"])
def test_what_lies_before_an_index_is_looked_at(clips: Clips, read_barcode: Any, early: int) -> None:
    """A frame that is shown before 0 has no time in Matroska, and is left out."""
    path = clips.path(f"hidden_{early}.mkv")
    with av.open(str(clips["h264_ip"].path)) as old, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            packet.time_base, packet.dts, packet.pts = Fraction(1, FPS), number - early, number - early
            packet.is_keyframe, packet.stream = packet.is_keyframe and number > 0, copy
            new.mux(packet)
    assert_all_are_seen(path, path.read_bytes(), read_barcode, early)


def test_what_an_asf_file_has_before_the_second_key_frame_is_looked_at(clips: Clips, read_barcode: Any) -> None:
    path = encode(Recipe(codec="mpeg4", options={"b": "20M", "bf": "0"}), clips.path("whole.asf")).path
    assert_all_are_seen(path, path.read_bytes(), read_barcode)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_no_frame_is_given_that_is_shown_before_the_first(clips: Clips, read_barcode: Any, strategy: Strategy) -> None:
    """A first picture at 0 behind a recording that begins at 1 s."""
    early = part(clips, ".ts")
    _, second, *_ = (at for at in range(0, len(early), 188) if early[at + 1] & 0x40 and b"\0\0\1\xe0" in early[at : at + 188])
    path = clips.path("early.ts")
    path.write_bytes(part(clips, ".ts", start_s=1) + early[:second])
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert all(at >= 0 for at, _ in seen(media, SamplingRequest(strategy=strategy), read_barcode))


def test_pictures_without_any_time_are_looked_at(clips: Clips, read_barcode: Any) -> None:
    data = bytearray(part(clips, ".ts"))
    starts = [at for at in range(0, len(data), 188) if data[at + 1] & 0x40 and b"\0\0\1\xe0" in data[at : at + 188]]
    for at in starts[20:]:
        data[data.index(b"\0\0\1\xe0", at) + 7] &= 0x3F
    path = clips.path("untimed.ts")
    path.write_bytes(data)
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert media.info.n_frames == N
        frames = seen(media, ALL, read_barcode)
        assert [number for _, number in frames] == [*range(N)]
        assert [at for at, _ in frames] == pytest.approx([i / FPS for i in range(N)], abs=0.1)


def test_when_matroska_is_decoded_is_not_guessed(clips: Clips) -> None:
    with av.open(str(clips["h264_mkv"].path)) as container:
        packets = list(Demuxer(container, container.streams.video[0], Limits(), pytest.fail).packets())
    assert len(packets) == N
    assert all(packet.dts is None and packet.pts is not None for packet in packets)


def test_a_long_recording_that_was_joined_is_looked_at_by_its_key_frames() -> None:
    keys_s = tuple(float(i) for i in range(0, 7200, 10))
    clip = sampling.Clip(duration_s=7200.0, fps=25.0, keys_s=keys_s)
    moments = SamplingRequest(times_s=(101.0, 3000.0))
    assert not sampling.plan(moments, clip).keys_only
    assert sampling.plan(moments, replace(clip, restarts=True)) == sampling.Plan(times_s=(100.0, 3000.0), keys_only=True)
    assert not sampling.plan(moments, replace(clip, duration_s=60.0, keys_s=keys_s[:6], restarts=True)).keys_only


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


def assert_all_are_seen(path: Path, data: bytes, read_barcode: Any, first: int = 0) -> None:
    path.write_bytes(data)
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert media.info.n_frames == N - first
        assert [number for _, number in seen(media, ALL, read_barcode)] == [*range(first, N)]


def test_decoding_times_cannot_hide_what_is_shown_later(clips: Clips, read_barcode: Any) -> None:
    """All are decoded at once. The index has them so, and FFmpeg shows of an index no more."""
    path = clips.path("squeezed.mp4")
    with av.open(str(clips["h264"].path)) as old, av.open(str(path), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            packet.dts, packet.stream = number, copy
            new.mux(packet)
    data = path.read_bytes()
    assert_all_are_seen(path, data, read_barcode)
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert (media.info.duration_s, media.info.fps) == pytest.approx((N / FPS, FPS), abs=0.1)
    decoy = dict(boxes(clips["h264"].path.read_bytes()))[b"moov"]
    found = dict(boxes(data))
    moov = found.pop(b"moov")
    for elsewhere in (box(b"mdia", moov) + decoy, compressed(moov) + decoy):
        assert_all_are_seen(path, b"".join(found.values()) + elsewhere, read_barcode)


def test_an_index_in_which_time_stands_still_hides_nothing(clips: Clips, read_barcode: Any) -> None:
    """Pictures are laid out anew, no more than two at one moment."""
    options = {"preset": "veryfast", "x264-params": "keyint=24:scenecut=0:bframes=0"}
    clip = encode(Recipe(options=options), clips.path("moving.mp4"))
    data = bytearray(shorten_header(clip, clips.path("standing.mp4"), 0.2).path.read_bytes())
    at = data.index(b"stts") + 16  # the ticks that each picture of the only entry lasts
    data[at : at + 4] = bytes(4)
    path = clips.path("standing.mp4")
    path.write_bytes(data)
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert media.info.n_frames == N
        assert [number // 2 for _, number in seen(media, ALL, read_barcode)] == [*range(N // 2)]


def test_a_slowing_clip_is_as_long_in_mp4_as_in_matroska(clips: Clips, read_barcode: Any) -> None:
    """Pictures that others refer to are decoded well before they are shown."""
    ticks = (*range(0, 192, 4), *range(192, 192 + 8 * 480, 480))
    recipe = Recipe(ticks=ticks, options={"preset": "veryfast", "x264-params": "bframes=3:b-adapt=0:scenecut=0"})
    seen_in = []
    for suffix in (".mp4", ".mkv"):
        path = encode(recipe, clips.path("slowing" + suffix)).path
        with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
            frames = seen(media, SamplingRequest(), read_barcode)
            seen_in.append((media.info.n_frames, media.info.duration_s, frames))
    (n_frames, duration_s, frames), matroska = seen_in
    assert n_frames == matroska[0]
    assert duration_s == pytest.approx(matroska[1], abs=0.01)
    assert [number for _, number in frames] == [number for _, number in matroska[2]]
    assert frames[-1][1] == len(ticks) - 1


def test_a_few_pictures_shown_behind_the_index_are_not_hidden(clips: Clips, read_barcode: Any) -> None:
    """A second is decoded as fast as can be, and shown within what reordering may take."""
    path = clips.path("tail_squeezed.mp4")
    with av.open(str(clips["h264"].path)) as old, av.open(str(path), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        dts = 0
        for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            dts, packet.stream = (dts + 1 if number > 30 else packet.dts), copy
            packet.dts = dts
            new.mux(packet)
    assert_all_are_seen(path, path.read_bytes(), read_barcode)
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert media.info.duration_s == pytest.approx(N / FPS, abs=0.1)


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names of ISO boxes, and the boxes whole."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at : at + size]
        at += size


def box(name: bytes, payload: bytes) -> bytes:
    return (8 + len(payload)).to_bytes(4, "big") + name + payload


def compressed(moov: bytes) -> bytes:
    data = len(moov).to_bytes(4, "big") + zlib.compress(moov)
    return box(b"moov", box(b"cmov", box(b"dcom", b"zlib") + box(b"cmvd", data)))


def segment_index(size: int) -> bytes:
    words = (0, 1, 1000, 0, 0, 1, size, 2400, 0)  # version, track, ticks a second, first moment, offset, number; bytes, ticks
    return box(b"sidx", b"".join(word.to_bytes(4, "big") for word in words))


def test_an_index_cannot_hide_the_fragments_behind_it(clips: Clips, read_barcode: Any) -> None:
    """However they are announced, the first of them too, whose time has passed."""
    whole = dict(boxes(part(clips, ".mp4")))
    fragmented = part(clips, ".mp4", movflags="frag_keyframe+empty_moov+default_base_moof")
    later = b"".join(found for name, found in boxes(fragmented) if name in (b"moof", b"mdat"))
    extends = dict(boxes(dict(boxes(fragmented))[b"moov"][8:]))[b"mvex"]
    moov, media = whole.pop(b"moov")[8:], b"".join(whole.values())
    wide_box = (1).to_bytes(4, "big") + b"free" + (16).to_bytes(8, "big")
    tricks = {
        "honest": box(b"moov", moov + extends),
        "behind a box of 64 bits": box(b"moov", moov + wide_box + extends),
        "compressed": compressed(box(b"moov", moov + extends)),
        "in another box": box(b"moov", moov + box(b"udta", extends[8:])),
        "outside": box(b"moov", moov) + extends[8:],
        "read when reached": box(b"moov", moov) + extends[8:] + segment_index(len(later)),
    }
    for name, head in tricks.items():
        path = clips.path("fragments_behind.mp4")
        path.write_bytes(media + head + later)
        with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media_seen:
            numbers = [number for _, number in seen(media_seen, ALL, read_barcode)]
            assert numbers == [*range(N)] * 2, name


@pytest.mark.parametrize("overlap", [N, 10])
def test_fragments_whose_time_has_passed_are_looked_at(clips: Clips, read_barcode: Any, overlap: int) -> None:
    """Players that take fragments one by one show them; FFmpeg reads them, and keeps them from being shown."""
    fragmented = part(clips, ".mp4", movflags="frag_keyframe+empty_moov+default_base_moof")
    head = b"".join(found for name, found in boxes(fragmented) if name in (b"ftyp", b"moov"))
    later = b"".join(found for name, found in boxes(fragmented) if name in (b"moof", b"mdat"))
    ticks = (N - overlap) * 15_360 // FPS

    def moved(found: re.Match[bytes]) -> bytes:
        return found[1] + (int.from_bytes(found[2], "big") + ticks).to_bytes(8, "big")

    path = clips.path("passed.mp4")
    path.write_bytes(head + later + re.sub(rb"(?s)(tfdt\x01\0\0\0)(.{8})", moved, later))
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert (media.info.n_frames, media.info.has_edit_list) == (2 * N, False)
        assert [number for _, number in seen(media, ALL, read_barcode)] == [*range(N)] * 2
        keys = seen(media, SamplingRequest(strategy=Strategy.KEYFRAMES), read_barcode)
        assert [number for _, number in keys] == [0, 24, 48] * 2

"""The contract of every decoder: whatever the kind of file, a frame is the one whose time was asked for."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.worker.frames.conftest import RECIPES, encode
from worker.errors import OutOfMemory
from worker.frames import decord
from worker.frames.choose import DecoderName, open_media
from worker.frames.demuxer import Demuxer
from worker.frames.limits import Limits
from worker.frames.pyav import PyavDecoder
from worker.types import SamplingRequest, Strategy

CLIPS = (
    "h264",
    "h264_mkv",
    "h264_one_key",
    "fragmented",
    "hevc",
    "vp9",
    "av1",
    "h264_10bit",
    "hevc_10bit",
    "rotated",
    "vfr",
    "open_gop",
    "hevc_open_gop",
    "mpegts",
    "interlaced",
    "mpeg4_avi",
    "h264_avi",
    "edit_list",
    "truncated",
    "truncated_ts",
    "corrupt",
    "corrupt_tail",
    "lying",
)
FOR_DECORD = {"h264", "h264_mkv", "h264_one_key", "fragmented", "hevc", "vp9", "vfr", "open_gop", "hevc_open_gop", "lying"}
TRUNCATED = {"truncated", "truncated_ts"}
DAMAGED = TRUNCATED | {"corrupt", "corrupt_tail"}
TOLERANCE_S = 0.002

ReadBarcode = Callable[[np.ndarray], int | None]


@pytest.fixture(params=["pyav", "decord"])
def decoder(request: pytest.FixtureRequest) -> DecoderName:
    if request.param == "decord" and not decord.is_installed():
        pytest.skip("decord is not installed")
    return request.param


@pytest.fixture(params=CLIPS)
def clip(request: pytest.FixtureRequest, clips: Any) -> Any:
    return request.param, clips[request.param]


@pytest.fixture
def media(decoder: DecoderName, clip: Any) -> Iterator[Any]:
    name, barcoded = clip
    with barcoded.path.open("rb") as file, open_media(file, Limits(), decoder=decoder) as opened:
        expected = decoder if name in FOR_DECORD else "pyav"
        assert opened.info.decoder == expected
        yield opened


def numbers(media: Any, read_barcode: ReadBarcode, **request: Any) -> list[tuple[float, int | None]]:
    return [(frame.pts_s, read_barcode(frame.rgb_HWC)) for frame in media.frames(SamplingRequest(**request))]


def assert_are(got: list[tuple[float, int | None]], expected: list[tuple[float, int]]) -> None:
    assert [number for _, number in got] == [number for _, number in expected]
    assert [at for at, _ in got] == pytest.approx([at for at, _ in expected], abs=TOLERANCE_S)


def test_every_frame_has_its_own_number(media: Any, clip: Any, read_barcode: ReadBarcode) -> None:
    name, barcoded = clip
    expected = list(barcoded.shown)
    got = numbers(media, read_barcode, times_s=tuple(at for at, _ in expected))
    if name in TRUNCATED:
        assert 20 < len(got) < len(expected)
        there = [number for _, number in got]
        expected = [entry for entry in expected if entry[1] in there]
    assert_are(got, expected)


def test_scattered_moments_in_any_order_of_passes(media: Any, clip: Any, read_barcode: ReadBarcode) -> None:
    name, barcoded = clip
    there = [entry for entry in barcoded.shown if name not in TRUNCATED or entry[1] < 24]
    for picked in (there[5::17], there[3::7], there[-1:], there[:1], there[len(there) // 2 :: 11]):
        assert_are(numbers(media, read_barcode, times_s=tuple(at for at, _ in reversed(picked))), picked)


def test_a_moment_between_two_frames_gets_the_nearer(media: Any, clip: Any, read_barcode: ReadBarcode) -> None:
    name, barcoded = clip
    if name in DAMAGED:
        pytest.skip("its neighbours are gone")
    picked = [(a, b) for a, b in zip(barcoded.shown[2:], barcoded.shown[3:], strict=False)][::9]
    early = numbers(media, read_barcode, times_s=tuple(a[0] + 0.3 * (b[0] - a[0]) for a, b in picked))
    late = numbers(media, read_barcode, times_s=tuple(a[0] + 0.7 * (b[0] - a[0]) for a, b in picked))
    assert_are(early, [a for a, _ in picked])
    assert_are(late, [b for _, b in picked])


def test_key_frames(media: Any, clip: Any, read_barcode: ReadBarcode) -> None:
    name, barcoded = clip
    got = numbers(media, read_barcode, strategy=Strategy.KEYFRAMES)
    numbers_of_keys = [number for _, number in got]
    expected = [key for key in barcoded.keys if name not in TRUNCATED or key <= 24]
    assert numbers_of_keys == expected
    times = {number: at for at, number in barcoded.shown}
    assert all(at == pytest.approx(times[key], abs=TOLERANCE_S) for at, key in got if key in times)


@pytest.mark.parametrize("strategy", [Strategy.AUTO, Strategy.UNIFORM, Strategy.FPS])
def test_strategies_give_true_frames_within_the_window(
    media: Any, clip: Any, read_barcode: ReadBarcode, strategy: Strategy
) -> None:
    _, barcoded = clip
    there = {round(at * 120): number for at, number in barcoded.shown}
    got = numbers(media, read_barcode, strategy=strategy, max_frames=6, fps=5.0, start_s=0.1, end_s=1.1)
    assert 2 <= len(got) <= 6
    assert all(0.1 - 1 / 30 <= at < 1.1 for at, _ in got)
    assert [at for at, _ in got] == sorted({at for at, _ in got})
    assert all(there.get(round(at * 120), number) == number for at, number in got)


@pytest.mark.parametrize("strategy", [Strategy.AUTO, Strategy.UNIFORM, Strategy.FPS])
def test_what_is_shown_in_a_window_is_looked_at_though_it_began_before(
    decoder: DecoderName, clips: Any, read_barcode: ReadBarcode, strategy: Strategy
) -> None:
    """Slides of 5 s each."""
    slides = encode(replace(RECIPES["h264"], ticks=tuple(600 * at for at in range(5))), clips.path("slides.mp4"))
    with slides.path.open("rb") as file, open_media(file, Limits(), decoder=decoder) as media:
        for start_s, end_s, shown in ((6.0, 7.0, [1]), (8.0, 9.0, [1]), (8.0, 10.0, [1]), (24.0, 25.0, [4])):
            window = numbers(media, read_barcode, strategy=strategy, fps=10.0, start_s=start_s, end_s=end_s)
            assert window == [(5.0 * number, number) for number in shown]


def test_what_the_probe_says(clips: Any) -> None:
    def info(name: str) -> Any:
        with clips[name].path.open("rb") as file, open_media(file, Limits()) as opened:
            return opened.info

    h264 = info("h264")
    assert (h264.codec, h264.width, h264.height, h264.n_frames, h264.pix_fmt) == ("h264", 320, 192, 72, "yuv420p")
    assert h264.duration_s == pytest.approx(2.4)
    assert h264.fps == pytest.approx(30)
    lying = info("lying")
    assert (lying.duration_s, lying.fps) == (pytest.approx(2.4), pytest.approx(30))
    assert not any((h264.variable_rate, h264.interlaced, h264.has_edit_list, h264.hdr))
    assert (info("rotated").width, info("rotated").height, info("rotated").rotation_deg) == (192, 320, 270)
    assert info("hevc_10bit").pix_fmt == "yuv420p10le"
    assert info("vfr").variable_rate
    assert info("interlaced").interlaced
    assert info("edit_list").has_edit_list
    assert info("av1").codec == "av1"
    assert info("mpegts").n_frames == 72


@pytest.mark.parametrize("suffix", ["", "_ts"])
def test_cost_follows_the_sampled_frames_not_the_length(clips: Any, read_barcode: ReadBarcode, suffix: str) -> None:
    """Counted, not timed: packets read and frames decoded for 32 frames of half a minute and of half an hour. Where no index
    can be trusted each packet is read once more, undecoded."""
    counts = {}
    for name in ("half_minute" + suffix, "half_hour" + suffix):
        with clips[name].path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
            got = numbers(media, read_barcode, max_frames=32)
            assert len(got) == 32
            assert all(round(at % 2.4 * 30) % 72 == number for at, number in got)
            counts[name] = media.counts.packets, media.counts.decoded
    short, long = counts.values()
    assert long[1] <= short[1] + 4
    once = [len(clips[name].shown) if suffix else 0 for name in counts]
    assert long[0] - once[1] <= 2 * (short[0] - once[0])


def test_moments_of_a_long_video_cost_their_group_of_pictures(clips: Any, read_barcode: ReadBarcode) -> None:
    barcoded = clips["half_hour"]
    picked = [barcoded.shown[i] for i in (100, 20_017, 40_001, 53_990)]
    with barcoded.path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        before = media.counts.decoded
        assert_are(numbers(media, read_barcode, times_s=tuple(at for at, _ in picked)), picked)
        assert media.counts.decoded - before <= len(picked) * (24 + 16)


def test_rare_key_frames_without_an_index_cost_a_few_ways_through(clips: Any, read_barcode: ReadBarcode) -> None:
    barcoded = clips["mpegts_one_key"]
    with barcoded.path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert media.clip.keys_s == (0.0,)
        opening = media.counts.packets
        assert opening <= 2 * 240
        picked = barcoded.shown[3::8]
        assert_are(numbers(media, read_barcode, times_s=tuple(at for at, _ in picked)), picked)
        assert media.counts.packets - opening <= 2 * 240
        late = media.counts.packets
        assert_are(numbers(media, read_barcode, times_s=(barcoded.shown[200][0],)), [barcoded.shown[200]])
        assert media.counts.packets - late <= 4 * 240


def test_damaged_files_give_the_same_every_time(clips: Any) -> None:
    def digest() -> str:
        with clips["corrupt"].path.open("rb") as file, open_media(file, Limits()) as media:
            frames = media.frames(SamplingRequest(strategy=Strategy.FPS, fps=30.0))
            return hashlib.sha256(b"".join(frame.rgb_HWC.tobytes() for frame in frames)).hexdigest()

    assert len({digest() for _ in range(5)}) == 1


@pytest.fixture
def scarce_memory() -> Iterator[Callable[[int], None]]:
    """Sets FFmpeg's limit of one allocation, in bytes."""
    (path,) = (Path(av.__file__).parent.parent / "av.libs").glob("libavutil-*") or pytest.skip("FFmpeg is not bundled")
    av_max_alloc = ctypes.CDLL(str(path)).av_max_alloc
    av_max_alloc.argtypes = [ctypes.c_size_t]
    yield av_max_alloc
    av_max_alloc(2**31 - 1)


@pytest.mark.parametrize(("largest_bytes", "doing"), [(30_000, "decoding"), (2_000, "reading")])
def test_refused_memory_is_not_damage(clips: Any, scarce_memory: Callable[[int], None], largest_bytes: int, doing: str) -> None:
    with clips["mpeg4_avi"].path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        scarce_memory(largest_bytes)
        with pytest.raises(OutOfMemory, match=doing):
            list(media.frames(SamplingRequest()))
        assert media.counts.bad == 0


def test_an_empty_packet_is_not_the_end(clips: Any) -> None:
    path = clips.path("hole.nut")
    with av.open(str(clips["h264"].path)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for number, packet in enumerate(p for p in old.demux(stream) if p.pts is not None):
            kept = av.Packet(b"") if number == 20 else packet
            kept.pts, kept.dts, kept.time_base, kept.stream = packet.pts, packet.dts, packet.time_base, copy
            new.mux(kept)
    with av.open(str(path)) as container:
        assert sum(1 for _ in Demuxer(container, container.streams.video[0], Limits(), pytest.fail).packets()) == 71


def test_damage_is_counted(clips: Any) -> None:
    with clips["truncated"].path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert sum(1 for _ in media.frames(SamplingRequest(strategy=Strategy.UNIFORM, max_frames=72))) > 20
        assert media.counts.bad > 0


def test_decord_says_why_not(clips: Any) -> None:
    if not decord.is_installed():
        pytest.skip("decord is not installed")
    for name, word in {"mpegts": "container", "av1": "codec", "h264_10bit": "pixel format"}.items():
        with clips[name].path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
            assert word in (decord.unfit(media) or "")

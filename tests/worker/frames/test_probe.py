"""What is refused, with which code, and that nothing else is opened on the way."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from worker.errors import CorruptMedia, EmptyMedia, MediaError, MediaTooLarge, MediaTooLong, UnsupportedMedia
from worker.frames import probe
from worker.frames.choose import open_media
from worker.frames.limits import Limits
from worker.types import SamplingRequest


def scan(path: Path, limits: Limits | None = None) -> int:
    """Number of frames that ``auto`` gives."""
    with path.open("rb") as file, open_media(file, limits or Limits()) as media:
        return sum(1 for _ in media.frames(SamplingRequest()))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", EmptyMedia),
        (b"hello, this is text\n" * 100, UnsupportedMedia),
        (np.random.default_rng(1).bytes(100_000), UnsupportedMedia),
        (b"\0\0\0\x18ftypisom" + bytes(2000), CorruptMedia),
        (b"\x1a\x45\xdf\xa3" + bytes(2000), CorruptMedia),
        (b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(2000), UnsupportedMedia),
    ],
    ids=["empty", "text", "random", "mp4 head", "matroska head", "heic"],
)
def test_what_is_no_video(tmp_path: Path, content: bytes, error: type[MediaError]) -> None:
    path = tmp_path / "file.mp4"
    path.write_bytes(content)
    with pytest.raises(error):
        scan(path)


def test_an_encrypted_track_is_found_behind_a_box_of_64_bits(tmp_path: Path) -> None:
    def box(name: bytes, payload: bytes) -> bytes:
        return (8 + len(payload)).to_bytes(4, "big") + name + payload

    track = box(b"stsd", bytes(8) + box(b"encv", bytes(78)))
    for name in (b"stbl", b"minf", b"mdia"):
        track = box(name, track)
    wide = (1).to_bytes(4, "big") + b"free" + (16).to_bytes(8, "big")
    path = tmp_path / "encrypted.mp4"
    for before in (b"", wide):
        path.write_bytes(box(b"ftyp", b"isom" + bytes(4)) + box(b"moov", before + box(b"trak", before + track)))
        with pytest.raises(UnsupportedMedia, match="encrypted"):
            scan(path)


def test_what_was_cut_short_is_told_in_words(clips: Any, tmp_path: Path) -> None:
    recorded = clips["h264_one_key"].path.read_bytes()
    for data, message in (
        (recorded[: len(recorded) // 2], probe.NO_INDEX),
        (b"\x1a\x45\xdf\xa3" + bytes(2000), "damaged matroska file: Invalid data found when processing input"),
    ):
        path = tmp_path / "cut.mp4"
        path.write_bytes(data)
        with pytest.raises(CorruptMedia) as raised:
            scan(path)
        assert str(raised.value) == message


def test_a_fragment_is_found_behind_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    for data, has_any in ((b"\0\0\0\x08moof\0\0\0\x08mdat", True), (b"\0\0\0\x08mdat", False), (b"", False)):
        path.write_bytes(data)
        with path.open("rb") as file:
            assert probe.has_fragments(file.fileno()) is has_any


def test_content_counts_not_the_name(clips: Any, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(clips["h264"].path.read_bytes())
    assert scan(path) == 32


def test_sound_alone_is_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UnsupportedMedia, match="no video"):
        scan(path)


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (Limits(max_pixels=320 * 192 - 1), MediaTooLarge),
        (Limits(max_duration_s=2.0), MediaTooLong),
        (Limits(max_packets=71), MediaTooLarge),
        (Limits(max_bytes=1000), MediaTooLarge),
    ],
)
def test_limits(clips: Any, limits: Limits, error: type[MediaError]) -> None:
    assert scan(clips["h264"].path, Limits(max_pixels=320 * 192, max_duration_s=2.5, max_packets=72)) == 32
    with pytest.raises(error):
        scan(clips["h264"].path, limits)


def test_a_header_cannot_hide_length(clips: Any) -> None:
    assert scan(clips["lying"].path) == 32
    with pytest.raises(MediaTooLong):
        scan(clips["lying"].path, Limits(max_duration_s=2.0))


def test_the_packet_limit_is_that_of_one_way_through(clips: Any) -> None:
    assert scan(clips["mpegts"].path, Limits(max_packets=72)) == 32
    with pytest.raises(MediaTooLarge):
        scan(clips["mpegts"].path, Limits(max_packets=71))


@pytest.mark.parametrize("name", ["mpegts", "vp9"])
def test_the_packet_limit_holds_without_an_index(clips: Any, name: str) -> None:
    with pytest.raises(MediaTooLarge):
        scan(clips[name].path, Limits(max_packets=10))


def test_streams_beside_the_one_that_is_looked_at_are_counted_and_a_cover_is_none(tmp_path: Path) -> None:
    path = tmp_path / "angles.mp4"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=30) for codec in ("mpeg4", "mpeg4", "mjpeg")]
        for stream, size in zip(streams, (64, 32, 16), strict=True):
            stream.width, stream.height = size, size
            stream.pix_fmt = "yuvj420p" if size == 16 else "yuv420p"
        streams[2].disposition = Disposition.attached_pic
        for stream in streams:
            container.mux(stream.encode(av.VideoFrame(stream.width, stream.height, stream.pix_fmt)))
            container.mux(stream.encode(None))
    with path.open("rb") as file, open_media(file, Limits()) as media:
        assert (media.info.width, media.info.more_videos) == (64, 1)


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "mpeg4"), ("mp4", "mpeg4"), ("ts", "mpeg2video")])
def test_pictures_that_begin_later_than_the_sound(tmp_path: Path, suffix: str, codec: str) -> None:
    """Times count from the first picture, those of a player from the sound."""
    for late_s in (0, 4):
        path = tmp_path / f"late-{late_s}.{suffix}"
        with av.open(str(path), "w") as container:
            video, audio = container.add_stream(codec, rate=25), container.add_stream("mp2", rate=48000)
            video.width = video.height = 64
            for number in range(250):
                sound = av.AudioFrame("s16", "stereo", 1152)
                sound.rate, sound.pts = 48000, 1152 * number
                container.mux(audio.encode(sound))
            for number in range(25):
                frame = av.VideoFrame(64, 64, "yuv420p")
                frame.pts, frame.time_base = 25 * late_s + number, Fraction(1, 25)
                container.mux(video.encode(frame))
            for stream in (audio, video):
                container.mux(stream.encode(None))
        with path.open("rb") as file, open_media(file, Limits()) as media:
            assert media.info.starts_s == pytest.approx(late_s, abs=0.1)
            (first, *_) = media.frames(SamplingRequest(max_frames=2))
            assert 0 <= first.pts_s < 1
            assert media.info.duration_s == pytest.approx(1, abs=0.1)
        with path.open("rb") as file, open_media(file, Limits(max_duration_s=3)) as media:
            assert media.info.starts_s <= 3, "it may be damage"


@pytest.mark.parametrize(("suffix", "codec", "begins"), [("mkv", "mpeg4", b"\x1f\x43\xb6\x75"), ("ts", "mpeg2video", b"")])
def test_sound_of_a_recording_behind_begins_before_no_picture(tmp_path: Path, suffix: str, codec: str, begins: bytes) -> None:
    """Of two joined: pictures alone from 20 s on, then a clock that begins anew, with sound. What comes first is a picture."""
    parts = []
    for start_s, sounds in ((20, 0), (0, 50)):
        path = tmp_path / f"{start_s}.{suffix}"
        with av.open(str(path), "w", options={"live": "1"} if suffix == "mkv" else {}) as container:
            video, audio = container.add_stream(codec, rate=25), container.add_stream("mp2", rate=48000)
            video.width = video.height = 64
            for number in range(50):
                frame = av.VideoFrame(64, 64, "yuv420p")
                frame.pts, frame.time_base = 25 * start_s + number, Fraction(1, 25)
                container.mux(video.encode(frame))
            for number in range(sounds):
                sound = av.AudioFrame("s16", "stereo", 1152)
                sound.rate, sound.pts = 48000, 1152 * number
                container.mux(audio.encode(sound))
            container.mux(video.encode(None))
        data = path.read_bytes()
        parts.append(data[data.index(begins) :] if parts else data)
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(b"".join(parts))
    with path.open("rb") as file, open_media(file, Limits()) as media:
        assert media.info.duration_s == pytest.approx(4, abs=0.1)
        assert media.info.starts_s == 0


def test_too_many_streams(tmp_path: Path) -> None:
    path = tmp_path / "streams.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=30) for _ in range(5)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for stream in streams:
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
            container.mux(stream.encode(None))
    assert scan(path) >= 1
    with pytest.raises(MediaTooLarge, match="5 streams"):
        scan(path, Limits(max_streams=4))


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8192 x 8192 for a minute in 1.6 MB: one encoded key frame, again and again."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"preset": "ultrafast", "x264-params": "threads=1"})
        stream.width = stream.height = 8192
        stream.pix_fmt = "yuv420p"
        black = av.VideoFrame.from_ndarray(np.zeros((8192 * 3 // 2, 8192), np.uint8), format="yuv420p")
        (packet,) = [*stream.encode(black), *stream.encode(None)]
        data = bytes(packet)
        for at in range(8):
            copy = av.Packet(data)
            copy.pts = copy.dts = 8 * at
            copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, True, stream
            container.mux(copy)
    return path


def test_a_bomb_is_too_large(bomb: Path) -> None:
    assert bomb.stat().st_size < 2_000_000
    with pytest.raises(MediaTooLarge, match="8192x8192"):
        scan(bomb)


def test_a_bomb_with_a_lying_header_decodes_nothing(bomb: Path, tmp_path: Path) -> None:
    data = bytearray(bomb.read_bytes())
    at = data.index(b"avc1", data.index(b"stsd")) + 4 + 24
    data[at : at + 4] = (320).to_bytes(2, "big") + (192).to_bytes(2, "big")
    path = tmp_path / "liar.mp4"
    path.write_bytes(data)
    with pytest.raises(MediaError):
        scan(path)


class Opened:
    """Counts, by inotify, how often a file is opened."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK)
        in_open = 0x20
        if libc.inotify_add_watch(self._fd, os.fsencode(path), in_open) < 0:
            pytest.skip("no inotify here")

    def count(self) -> int:
        try:
            return len(os.read(self._fd, 4096))
        except BlockingIOError:
            return 0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


PLAYLISTS = {
    "hls local": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{local}\n#EXT-X-ENDLIST\n",
    "hls file:": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:{local}\n#EXT-X-ENDLIST\n",
    "hls url": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n",
    "ffconcat local": "ffconcat version 1.0\nfile '{local}'\n",
    "ffconcat url": "ffconcat version 1.0\nfile {url}\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><BaseURL>{url}</BaseURL></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "pls": "[playlist]\nFile1={url}\n",
}


@pytest.mark.skipif(sys.platform != "linux", reason="inotify tells what is opened on Linux only")
@pytest.mark.parametrize("text", PLAYLISTS.values(), ids=PLAYLISTS)
def test_a_playlist_is_refused_and_nothing_is_opened(clips: Any, tmp_path: Path, listener: socket.socket, text: str) -> None:
    local = tmp_path / "local.ts"
    local.write_bytes(clips["mpegts"].path.read_bytes())
    port = listener.getsockname()[1]
    path = tmp_path / "video.mp4"
    path.write_text(text.format(local=local, url=f"http://127.0.0.1:{port}/a.ts", port=port))
    opened = Opened(local)
    with pytest.raises(UnsupportedMedia):
        scan(path)
    assert opened.count() == 0
    with pytest.raises(BlockingIOError):
        listener.accept()
    local.read_bytes()
    assert opened.count() > 0


@pytest.mark.parametrize("name", ["ffconcat local", "ffconcat url", "sdp"])
@pytest.mark.parametrize(
    ("more_formats", "error"), [("", UnsupportedMedia), (",concat,sdp", CorruptMedia)], ids=["formats", "protocols"]
)
def test_each_of_ffmpegs_own_lists_refuses_what_passes_for_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, more_formats: str, error: type[MediaError]
) -> None:
    """With our look at the first bytes out of the way the allowed formats refuse it; with these wider, the allowed protocols."""
    monkeypatch.setattr(probe, "container_of", lambda head: "mp4")
    monkeypatch.setattr(probe, "FORMATS", probe.FORMATS + more_formats)
    path = tmp_path / "video.mp4"
    path.write_text(PLAYLISTS[name].format(local=tmp_path / "local.ts", url="http://127.0.0.1:9/a.ts", port=9))
    with path.open("rb") as file, pytest.raises(error), probe.open_container(file, Limits()):
        pass


ODD = {
    "made_here/zero_length.mp4": "empty",
    "made_here/random_bytes.mp4": "unsupported",
    "made_here/text_renamed.mp4": "unsupported",
    "made_here/truncated_half.mp4": "corrupt",
    "go_mp4/testdata__sample_init.encv.mp4": "unsupported",
    "mp4parse_rust/mp4parse_capi__tests__av1-clearkey-cbcs-video.mp4": "unsupported",
    "mp4parse_rust/mp4parse_capi__tests__short-cenc.mp4": "unsupported",
    "mp4parse_rust/mp4parse__tests__amr_nb_1f.3gp": "unsupported",
    "mp4parse_rust/mp4parse_capi__tests__zero_empty_stsc.mp4": "corrupt",
    "smallest_files/mp3.mp3": "unsupported",
    "smallest_files/svg.svg": "unsupported",
    "torchcodec/test__resources__sine_mono_s16.wav": "unsupported",
    "bbb/video.mp4": 32,
    "decord/tests__test_data__corrupted.mp4": 32,
    "decord/tests__test_data__unordered.mov": 4,
    "decord/tests__test_data__video_90.mov": 3,
    "mp4parse_rust/mp4parse_capi__tests__video_colr_nclx_hlg.mp4": 3,
    "mp4parse_rust/mp4parse_capi__tests__video_rotation_90.mp4": 1,
    "smallest_files/jpeg.jpg": 1,
    "smallest_files/webm.webm": 1,
    "torchcodec/test__resources__h265_10bits.mp4": 30,
    "torchcodec/test__resources__nasa_13013.mp4": 32,
}


def test_every_odd_file_gives_frames_or_a_code(shared_data: Path) -> None:
    folder = shared_data / "odd_media"
    outcomes: dict[str, int | str] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            outcomes[path.relative_to(folder).as_posix()] = scan(path)
        except MediaError as error:
            outcomes[path.relative_to(folder).as_posix()] = error.code
    assert len(outcomes) > 70
    assert 0 not in outcomes.values()
    assert {name: outcomes[name] for name in ODD} == ODD

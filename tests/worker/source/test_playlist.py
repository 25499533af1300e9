"""Recordings behind playlists: fetched part by part, joined, and whole: every frame of them decodes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from yt_dlp.aes import aes_cbc_encrypt_bytes

from tests.worker.source.loopback import Answer, Loopback, files, reply, serve
from tests.worker.source.recordings import FPS, SECONDS, dash, frames_in, hls, record
from tests.worker.spy import Spy
from worker.errors import (
    CorruptMedia,
    FetchGone,
    FetchRefused,
    MediaTooLarge,
    MediaTooLong,
    UnsupportedMedia,
    VeriframeError,
)
from worker.source.fetch import UrlSource
from worker.source.guard import AddressGuard
from worker.source.http import HttpSource
from worker.source.playlist import PlaylistLimits, Playlists

ALL_FRAMES = FPS * SECONDS
KEY = bytes(range(16))


@contextlib.contextmanager
def source(answer: Answer, spy: Spy, *, max_bytes: int = 1 << 20, **limits: Any) -> Iterator[tuple[Loopback, UrlSource]]:
    with serve(answer) as server:
        spy.allow(server.at)
        guard = AddressGuard(allow_private_hosts=[server.at])
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        http = HttpSource(guard=guard, max_bytes=max_bytes, timeout_s=60, retries=1, ssl_context=tls)
        yield server, UrlSource(http=http, playlists=Playlists(PlaylistLimits(**limits)))


def fails(held: Mapping[str, bytes], spy: Spy, folder: Path, **changed: Any) -> VeriframeError:
    """The error, after which no byte is left."""
    into = folder / "into"
    into.mkdir(parents=True)
    with source(files(held), spy, **changed) as (server, urls), pytest.raises(VeriframeError) as caught:
        urls.fetch(server.url("/media.m3u8"), into)
    assert list(into.iterdir()) == []
    return caught.value


@pytest.mark.parametrize("how", ["mpegts", "fmp4", "ranges"])
def test_hls(how: str, spy: Spy, tmp_path: Path) -> None:
    held = hls(tmp_path / "made", kind="fmp4" if how == "ranges" else how, single=how == "ranges")
    told: list[tuple[int, int | None]] = []
    with source(files(held), spy) as (server, urls):
        fetched = urls.fetch(server.url("/media.m3u8?token=1"), tmp_path, lambda done, total: told.append((done, total)))
    assert frames_in(fetched.path) == ALL_FRAMES
    assert fetched.sha256 == hashlib.sha256(fetched.path.read_bytes()).hexdigest()
    assert told[-1] == (fetched.size_bytes, fetched.size_bytes)
    assert fetched.final_url == server.url("/media.m3u8")
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} <= {fetched.path.name, "connections.jsonl"}


@pytest.mark.parametrize("options", [{}, {"use_template": "0"}, {"single_file": "1"}, {"use_timeline": "0"}])
def test_dash(options: dict[str, str], spy: Spy, tmp_path: Path) -> None:
    held = dash(tmp_path / "made", **options)
    with source(files(held), spy) as (server, urls):
        assert frames_in(urls.fetch(server.url("/manifest.mpd"), tmp_path).path) == ALL_FRAMES


def test_a_dash_file_that_is_one_is_fetched_whole(spy: Spy, tmp_path: Path) -> None:
    held = dash(tmp_path / "made", single_file="1")
    manifest = held["manifest.mpd"].decode()
    cut = manifest[: manifest.index("<SegmentList")] + manifest[manifest.index("</SegmentList>") + len("</SegmentList>") :]
    with source(files({**held, "manifest.mpd": cut.encode()}), spy) as (server, urls):
        fetched = urls.fetch(server.url("/manifest.mpd"), tmp_path)
    assert fetched.path.read_bytes() == held["manifest-stream0.mp4"]


@pytest.mark.parametrize(
    ("begins", "shown_from", "is_read"),
    [
        ((90, 91, 92), 90.0, True),
        ((90, 91, 92), 91.5, False),
        ((0, 1, 2), 0.9, True),
        ((0, 1, 2), 1.1, False),
        ((90, 0, 92), 90.0, False),
    ],
)
def test_one_dash_file_is_shown_from_its_beginning_on_whenever_that_is(
    begins: tuple[int, ...], shown_from: float, is_read: bool, spy: Spy, tmp_path: Path
) -> None:
    """Packagers say the time at which a file begins as its offset, where that is not nought."""
    file = bytearray(
        record(tmp_path / "made", "one.mp4", "mp4", movflags="frag_keyframe+empty_moov+default_base_moof")["one.mp4"]
    )
    fragments = [match.end() for match in re.finditer(b"tfdt\1...", file, re.DOTALL)]
    timescale = int.from_bytes(file[file.index(b"mdhd") + 16 :][:4])
    for at, begin in zip(fragments, begins, strict=True):
        file[at : at + 8] = (begin * timescale).to_bytes(8)
    manifest = (
        '<MPD mediaPresentationDuration="PT3S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1">'
        f'<BaseURL>one.mp4</BaseURL><SegmentBase timescale="10" presentationTimeOffset="{round(10 * shown_from)}"/>'
        "</Representation></AdaptationSet></Period></MPD>"
    )
    held = {"media.m3u8": manifest.encode(), "one.mp4": bytes(file)}
    if not is_read:
        assert isinstance(fails(held, spy, tmp_path), UnsupportedMedia)
        return
    with source(files(held), spy) as (server, urls):
        assert urls.fetch(server.url("/media.m3u8"), tmp_path).path.read_bytes() == file


def test_encrypted_segments(spy: Spy, tmp_path: Path) -> None:
    held = dict(hls(tmp_path / "made"))
    for sequence in range(SECONDS):
        data = held[f"media{sequence}.ts"]
        pad = 16 - len(data) % 16
        held[f"media{sequence}.ts"] = aes_cbc_encrypt_bytes(data + bytes([pad]) * pad, KEY, sequence.to_bytes(16, "big"))
    tag = b'#EXT-X-KEY:METHOD=AES-128,URI="key"\n#EXTINF'
    held["media.m3u8"] = held["media.m3u8"].replace(b"#EXTINF", tag, 1)
    with source(files({**held, "key": KEY}), spy) as (server, urls):
        assert frames_in(urls.fetch(server.url("/media.m3u8"), tmp_path).path) == ALL_FRAMES
        assert [path for path, _ in server.requests].count("/key") == 1
    assert isinstance(fails({**held, "key": KEY[::-1]}, spy, tmp_path / "a"), CorruptMedia)


def test_the_rendition_that_a_scan_can_use(spy: Spy, tmp_path: Path) -> None:
    held = hls(tmp_path / "made")
    master = "#EXTM3U\n" + "".join(
        f"#EXT-X-STREAM-INF:BANDWIDTH={1000 * side},RESOLUTION={side * 2}x{side}\n{side}.m3u8\n" for side in (360, 1080, 720)
    )
    held = {**held, "master.m3u8": master.encode(), "720.m3u8": held["media.m3u8"], "360.m3u8": held["media.m3u8"]}
    with source(files(held), spy) as (server, urls):
        assert frames_in(urls.fetch(server.url("/master.m3u8"), tmp_path).path) == ALL_FRAMES
    assert [path for path, _ in server.requests][:2] == ["/master.m3u8", "/720.m3u8"]
    (tmp_path / "low").mkdir()
    with source(files(held), spy, max_side_px=480) as (server, urls):
        urls.fetch(server.url("/master.m3u8"), tmp_path / "low")
    assert server.requests[1][0] == "/360.m3u8"


def test_segments_are_relative_to_where_the_playlist_was_found(spy: Spy, tmp_path: Path) -> None:
    held = files({f"deep/{name}": data for name, data in hls(tmp_path / "made").items()})

    def answer(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        (reply(b"", 302, Location="/deep/media.m3u8?x=/") if request.path == "/short" else held)(request, served)

    with source(answer, spy) as (server, urls):
        assert frames_in(urls.fetch(server.url("/short"), tmp_path).path) == ALL_FRAMES


def playlist(*lines: str) -> bytes:
    return "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:4", *lines, "#EXT-X-ENDLIST"]).encode()


SEGMENT = ("#EXTINF:4,", "a")
MASTER = "#EXT-X-STREAM-INF:BANDWIDTH=1"


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["#EXTINF:4,", "http://127.0.0.1:1/a"], FetchRefused),
        (["#EXTINF:4,", "file:///etc/passwd"], FetchRefused),
        (["#EXTINF:4,", "concat:a|b"], FetchRefused),
        (["#EXTINF:4,", "data:text/plain,a"], FetchRefused),
        (['#EXT-X-MAP:URI="http://169.254.169.254/"', *SEGMENT], FetchRefused),
        (['#EXT-X-MAP:URI="file:///etc/passwd"', *SEGMENT], FetchRefused),
        (['#EXT-X-KEY:METHOD=AES-128,URI="http://10.0.0.1/"', *SEGMENT], FetchRefused),
        (['#EXT-X-KEY:METHOD=AES-128,URI="file:///etc/passwd"', *SEGMENT], FetchRefused),
        ([MASTER, "http://[::1]/"], FetchRefused),
        ([MASTER, "nested.m3u8"], UnsupportedMedia),
        ([MASTER, "page"], CorruptMedia),
        (["#EXTINF:4,", "nested.m3u8"], CorruptMedia),
        (["#EXTINF:4,", "page"], CorruptMedia),
        (["#EXTINF:4,", "gone"], FetchGone),
        ([*SEGMENT * 4], MediaTooLarge),
        ([*SEGMENT * 5], UnsupportedMedia),
        (["#EXTINF:99,", "a"], MediaTooLong),
        ([], UnsupportedMedia),
        (['#EXT-X-MAP:URI="a"'], UnsupportedMedia),
    ],
)
def test_playlists_that_end_in_an_error(lines: list[str], error: type[Exception], spy: Spy, tmp_path: Path) -> None:
    held = {"media.m3u8": playlist(*lines), "a": b"\x47" * 300, "page": b"<html>", "nested.m3u8": playlist(MASTER, "x")}
    raised = fails(held, spy, tmp_path, max_bytes=1000, max_segments=4, max_duration_s=60)
    assert type(raised) is error


def test_segments_that_are_more_than_the_disk_could_hold(spy: Spy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((1, 1, 1000, 20, 10, 0, 0, 0, 0, 255)))
    raised = fails({"media.m3u8": playlist(*SEGMENT * 4), "a": b"\x47" * 300}, spy, tmp_path)
    assert isinstance(raised, MediaTooLarge)
    assert "the disk could hold: 980 bytes" in str(raised)


def test_a_live_stream_is_no_recording(spy: Spy, tmp_path: Path) -> None:
    raised = fails({"media.m3u8": b"#EXTM3U\n#EXTINF:4,\na\n"}, spy, tmp_path)
    assert isinstance(raised, UnsupportedMedia)
    assert "live" in str(raised)


@pytest.mark.parametrize(
    ("told", "content"),
    [(["#EXT-X-BYTERANGE:3@2"], b"Gde"), (['#EXT-X-KEY:METHOD=AES-128,URI="key",IV=0x1'], b"Gbcdef")],
    ids=["range", "key"],
)
def test_a_segment_that_is_the_only_one_is_what_the_playlist_says_of_it(
    told: list[str], content: bytes, spy: Spy, tmp_path: Path
) -> None:
    closed = aes_cbc_encrypt_bytes(b"Gbcdef" + bytes([10]) * 10, KEY, bytes(15) + b"\1")
    held = {"media.m3u8": playlist(*told, *SEGMENT), "a": b"abGdef" if "RANGE" in told[0] else closed, "key": KEY}
    with source(files(held), spy) as (server, urls):
        assert urls.fetch(server.url("/media.m3u8"), tmp_path).path.read_bytes() == content


@pytest.mark.parametrize(
    "told",
    [
        [*SEGMENT, "#EXT-X-GAP", *SEGMENT],
        ['#EXT-X-DATERANGE:ID="ad",CLASS="com.apple.hls.interstitial",X-ASSET-URI="b.m3u8"', *SEGMENT],
        ['#EXT-X-DATERANGE:X-ASSET-LIST="b.json",ID="ad"', *SEGMENT],
        [*SEGMENT, '#EXT-X-DATERANGE:ID="ad",DURATION=5,X-ASSET-URI="b.m3u8"'],
        ["#EXT-X-SKIP:SKIPPED-SEGMENTS=3", *SEGMENT],
        [*SEGMENT, '#EXT-X-PART:DURATION=1,URI="a.0"', '#EXT-X-PART:DURATION=1,URI="a.1"'],
    ],
    ids=["gap", "interstitial", "list of them", "at the end", "skip", "parts"],
)
@pytest.mark.parametrize("master", [False, True], ids=["outright", "as a rendition"])
def test_a_recording_that_is_not_whole_is_refused(told: list[str], master: bool, spy: Spy, tmp_path: Path) -> None:
    media = playlist(*told)
    held = {"media.m3u8": f"#EXTM3U\n{MASTER}\nlow".encode() if master else media, "low": media, "a": b"\x47" * 300}
    raised = fails(held, spy, tmp_path)
    assert isinstance(raised, UnsupportedMedia)
    assert "not whole" in str(raised)


def test_parts_that_are_segments_too_and_dates_are_passed_over(spy: Spy, tmp_path: Path) -> None:
    told = ['#EXT-X-PART:DURATION=1,URI="a.0"', '#EXT-X-DATERANGE:ID="ad",SCTE35-OUT=0xFC', '#EXT-X-PART:DURATION=1,URI="a.1"']
    with source(files({"media.m3u8": playlist(*told, *SEGMENT), "a": b"\x47" * 300}), spy) as (server, urls):
        assert urls.fetch(server.url("/media.m3u8"), tmp_path).size_bytes == 300


def test_a_rendition_too_large_for_the_limit_is_left(spy: Spy, tmp_path: Path) -> None:
    """At its rate the better one would be 1.5 MB, over four seconds."""
    master = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=3000000\nhigh\n#EXT-X-STREAM-INF:BANDWIDTH=300000\nlow\n"
    held = {"media.m3u8": master, "high": playlist("#EXTINF:4,", "h"), "low": playlist(*SEGMENT), "a": b"Glow", "h": b"Ghigh"}
    with source(files(held), spy) as (server, urls):
        assert urls.fetch(server.url("/media.m3u8"), tmp_path).path.read_bytes() == b"Glow"

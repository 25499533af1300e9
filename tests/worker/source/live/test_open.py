"""What an address is, by its first bytes; protocols that need a relay."""

from __future__ import annotations

import gzip
import math
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.worker.source.live.streams import Clock, LiveHls, made
from tests.worker.source.loopback import Answer, Loopback, by_path, in_turn, raw, reply, serve
from tests.worker.spy import Spy
from worker.errors import DamagedRecord, FetchGone, FetchRefused, FetchTimeout, UnreadableRecord, UnsupportedMedia
from worker.source.client import never
from worker.source.guard import AddressGuard
from worker.source.http import HttpSource
from worker.source.live.open import LiveOptions, LiveSource, check_protocol
from worker.source.live.pieces import Gap, Piece

OPTIONS = LiveOptions(max_behind_s=30, give_up_s=30, file_ends_s=5, cut_s=1, max_side_px=720, max_segments=100)
Start = Callable[[Answer], tuple[Loopback, LiveSource]]


NO_TIME = {"kind": "ts", "at": 0, "clock_s": math.nan, "raw_s": 0}
NO_MOMENT = {"kind": "hls", "sequence": 1, "clock_s": 0, "at": "1"}
BEFORE_ALL = {"kind": "file", "at": -1, "clock_s": 0, "raw_s": 0}


@pytest.fixture
def start(spy: Spy) -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(answer: Answer) -> tuple[Loopback, LiveSource]:
            server = stack.enter_context(serve(answer))
            spy.allow(server.at)
            guard = AddressGuard(allow_private_hosts=[server.at])
            http = HttpSource(guard=guard, max_bytes=1 << 20, retries=0, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
            clock = Clock()
            return server, LiveSource(http, OPTIONS, now=clock.now, sleep=clock.sleep, wall=clock.now)

        yield begin


def read(source: LiveSource, url: str) -> list[Piece | Gap]:
    return [item for item in source.address(url)(None).items(never) if item is not None]


@pytest.mark.parametrize("muxer", ["mpegts", "flv"])
def test_byte_streams_are_told_by_their_first_bytes(start: Start, muxer: str, tmp_path: Path) -> None:
    server, source = start(reply(made(tmp_path, muxer, [100] * 3)["made"], Content_Type="text/html"))
    items = read(source, server.url("/live"))
    assert [round(item.start_s, 1) for item in items] == [0, 1, 2]
    position = items[0].position
    assert list(source.address(server.url("/live"))(position).items(never))


def test_hls_is_told_by_its_first_bytes_after_a_while_without_any(start: Start) -> None:
    held = {f"seg{number}.ts": b"segment" for number in range(3)}
    hls = LiveHls(held, Clock(), ready=3)
    server, source = start(in_turn(reply(b"", 503), reply(b"", 204), reply(b""), hls))
    assert len(read(source, server.url("/live.m3u8"))) == 3


@pytest.mark.parametrize(
    ("body", "word"),
    [(b"<!DOCTYPE html>", "web page"), (b'<MPD xmlns="urn">', "DASH"), (b"\0\0\0\x20ftypisom", "MP4"), (b"?", "no stream")],
)
def test_what_is_no_stream_is_refused_with_a_word(start: Start, body: bytes, word: str) -> None:
    server, source = start(reply(body))
    with pytest.raises(UnsupportedMedia, match=word):
        read(source, server.url("/live"))


@pytest.mark.parametrize("url", ["rtmp://h/live/x", "RTMPS://h/x", "rtsp://u:p@h/1", "srt://h:9000", "udp://239.0.0.1:1234"])
def test_protocols_that_need_a_relay_are_refused_with_a_word(url: str, start: Start, spy: Spy) -> None:
    _, source = start(reply())
    for refuse in (check_protocol, source.address):
        with pytest.raises(UnsupportedMedia, match="relay") as caught:
            refuse(url)
        assert caught.value.code == "unsupported"
    assert spy.connections == []


def test_refused_addresses_are_never_asked(start: Start, spy: Spy) -> None:
    server, source = start(reply(b"", 302, Location="http://169.254.169.254/live.m3u8"))
    for url in ("http://127.0.0.1:1/live", "http://10.0.0.1/live.ts", "file:///etc/passwd", "ftp://h/x"):
        with pytest.raises(FetchRefused):
            read(source, url)
    assert spy.connections == []
    with pytest.raises(FetchRefused):
        read(source, server.url("/live"))
    assert set(spy.connections) == {server.at}


@pytest.mark.parametrize(
    "position",
    [{}, [], {"kind": "hls"}, {"kind": "hls", "sequence": "1", "clock_s": 0}, {"kind": "x"}, NO_TIME, NO_MOMENT, BEFORE_ALL],
)
def test_a_position_that_no_reader_said_is_told(position: Any, start: Start, tmp_path: Path) -> None:
    server, source = start(reply())
    with pytest.raises(UnreadableRecord if position == {"kind": "x"} else DamagedRecord):
        source.address(server.url("/live"))(position)
    with pytest.raises(UnreadableRecord if position == {"kind": "x"} else DamagedRecord):
        source.file(tmp_path / "made")(position)


def test_what_is_not_there_fails_at_once_and_what_does_not_answer_later(start: Start) -> None:
    server, source = start(reply(b"", 404))
    with pytest.raises(FetchGone):
        read(source, server.url("/live"))
    server, source = start(reply(b"", 503))
    with pytest.raises(FetchTimeout):
        read(source, server.url("/live"))


def test_whoever_stops_need_not_wait_for_the_first_bytes(start: Start) -> None:
    server, source = start(raw(b"HTTP/1.1 200 OK\r\n\r\n", b"#", every_s=0.1, forever=True))
    assert [item for item in source.address(server.url("/live"))(None).items(lambda: bool(server.requests)) if item] == []


def test_a_playlist_that_is_compressed_unasked_is_one(start: Start) -> None:
    body = gzip.compress(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nseg\n#EXT-X-ENDLIST\n" + b"#" * 100_000)
    answers = by_path(live=reply(body, Content_Encoding="gzip"), seg=reply(b"segment"))
    server, source = start(answers)
    assert len(read(source, server.url("/live"))) == 1


def test_a_file_is_read_until_it_does_not_grow(start: Start, tmp_path: Path) -> None:
    _, source = start(reply())
    made(tmp_path, "mpegts", [100] * 3)
    items = [item for item in source.file(tmp_path / "made")(None).items(never) if item is not None]
    assert [round(item.start_s, 1) for item in items] == [0, 1, 2]

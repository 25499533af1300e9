from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import resource
import ssl
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.worker.source.loopback import Answer, Loopback, by_path, ranged, raw, reply, serve
from tests.worker.spy import Spy
from worker.errors import (
    EmptyMedia,
    FetchAuth,
    FetchGeo,
    FetchGone,
    FetchRateLimited,
    FetchRefused,
    FetchTimeout,
    MediaTooLarge,
    StorageFull,
    VeriframeError,
)
from worker.source.answers import decoded
from worker.source.guard import AddressGuard
from worker.source.http import ByteRange, Fetched, HttpSource

OK = b"HTTP/1.1 200 OK\r\n"
LIMIT = 1 << 20
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Loading the authorities that one trusts takes longer than most of these tests."""


@contextlib.contextmanager
def source(answer: Answer, spy: Spy, **changed: Any) -> Iterator[tuple[Loopback, HttpSource]]:
    """A server, and a source that may go to it alone."""
    with serve(answer) as server:
        spy.allow(server.at)
        limits: dict[str, Any] = {
            "max_bytes": LIMIT,
            "timeout_s": 20,
            "connect_s": 5,
            "stall_s": 10,
            "retries": 0,
            "patience_s": 0,
            **changed,
        }
        yield server, HttpSource(guard=AddressGuard(allow_private_hosts=[server.at]), ssl_context=NO_TLS, **limits)


def fails(answer: Answer, spy: Spy, into: Path, path: str = "/", **changed: Any) -> VeriframeError:
    """The error of a fetch, which leaves no file."""
    with source(answer, spy, **changed) as (server, http), pytest.raises(VeriframeError) as caught:
        http.fetch(server.url(path), into)
    assert not into.exists()
    return caught.value


def test_a_file_is_fetched_and_hashed(spy: Spy, tmp_path: Path) -> None:
    body = bytes(range(256)) * 1000
    told: list[tuple[int, int | None]] = []
    with source(reply(body), spy) as (server, http):
        into = tmp_path / "download"
        fetched = http.fetch(server.url("/clip.mp4?token=SECRET#t=1"), into, lambda done, total: told.append((done, total)))
        path, headers = server.requests[0]
    assert fetched == Fetched(
        path=into, sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body), final_url=server.url("/clip.mp4")
    )
    assert into.read_bytes() == body
    assert into.stat().st_mode & 0o777 == 0o600
    assert told == sorted(told)
    assert told[-1] == (len(body), len(body))
    assert path == "/clip.mp4?token=SECRET"
    assert headers["accept-encoding"] == "identity"
    assert spy.connections == [server.at]


@pytest.mark.parametrize(
    ("status", "error", "retryable"),
    [
        (401, FetchAuth, False),
        (403, FetchAuth, False),
        (404, FetchGone, False),
        (410, FetchGone, False),
        (451, FetchGeo, False),
        (429, FetchRateLimited, True),
        (408, FetchTimeout, True),
        (500, FetchTimeout, True),
        (503, FetchTimeout, True),
        (204, EmptyMedia, False),
        (206, FetchRefused, False),
        (300, FetchRefused, False),
        (302, FetchRefused, False),  # without a Location
        (400, FetchRefused, False),
        (418, FetchRefused, False),
        (999, FetchTimeout, True),
    ],
)
def test_statuses(status: int, error: type[Exception], retryable: bool, spy: Spy, tmp_path: Path) -> None:
    raised = fails(raw(f"HTTP/1.1 {status} Why\r\nContent-Length: 0\r\n\r\n".encode()), spy, tmp_path / "a")
    assert type(raised) is error
    assert raised.retryable is retryable
    assert str(status) in str(raised)


@pytest.mark.parametrize(
    ("status", "error", "tries"),
    [(429, FetchRateLimited, 2), (502, FetchTimeout, 2), (503, FetchTimeout, 2)]
    + [(status, FetchRefused, 1) for status in (302, 403, 404, 407)],
)
def test_what_an_egress_proxy_says_of_a_tunnel(status: int, error: type[Exception], tries: int, spy: Spy, tmp_path: Path) -> None:
    with serve(reply(b"", status)) as proxy:
        spy.allow(proxy.at)
        http = HttpSource(guard=AddressGuard(), max_bytes=1, retries=1, proxy=f"http://{proxy.at}", ssl_context=NO_TLS)
        with pytest.raises(VeriframeError, match="the egress proxy") as caught:
            http.fetch("https://media.example/clip?token=SECRET", tmp_path / "a")
    assert type(caught.value) is error
    assert [path for path, _ in proxy.requests] == ["media.example:443"] * tries


@pytest.mark.parametrize("status", [429, 503])
def test_when_to_come_again_is_kept(status: int, spy: Spy, tmp_path: Path) -> None:
    raised = fails(reply(b"", status, Retry_After="17"), spy, tmp_path / "a")
    assert isinstance(raised, FetchRateLimited)
    assert raised.retry_after_s == 17


def test_redirects_are_followed(spy: Spy, tmp_path: Path) -> None:
    hops = {
        "one": reply(b"", 301, Location="two?token=SECRET"),
        "two": reply(b"", 302, Location="/three#part"),
        "three": lambda request, served: reply(b"", 303, Location=f"//{served.at}/four")(request, served),
        "four": reply(b"", 307, Location="/five"),
        "five": reply(b"", 308, Location="/bytes?token=SECRET"),
        "bytes": reply(),
    }

    with source(by_path(**hops), spy) as (server, http):
        assert http.fetch(server.url("/one"), tmp_path / "a").final_url == server.url("/bytes")
    assert [path for path, _ in server.requests] == [
        "/one",
        "/two?token=SECRET",
        "/three",
        "/four",
        "/five",
        "/bytes?token=SECRET",
    ]
    raised = fails(by_path(**hops), spy, tmp_path / "b", "/one", max_redirects=4)
    assert isinstance(raised, FetchRefused)
    assert "more than 4 redirects" in str(raised)


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://user:word@127.0.0.1/",
        "file:///etc/passwd",
        "ftp://media.example/",
        "http://",
        "http://[",
        "http://media.example:99999/",
        "\xff\xfe",
        "/again",  # and again
    ],
)
def test_every_redirect_is_checked(location: str, spy: Spy, tmp_path: Path) -> None:
    """And none of them leads the spy anywhere."""
    head = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n".encode("latin-1")
    raised = fails(raw(head), spy, tmp_path / "a")
    assert isinstance(raised, FetchRefused)


def test_a_redirect_to_another_server_of_this_machine_is_not_followed(spy: Spy, tmp_path: Path) -> None:
    with serve(reply(b"secrets of a neighbour")) as neighbour:
        raised = fails(reply(b"", 302, Location=neighbour.url("/")), spy, tmp_path / "a")
        assert neighbour.requests == []
    assert isinstance(raised, FetchRefused)


@pytest.mark.parametrize("url", ["", "clip.mp4", "file:///etc/passwd", "http://127.0.0.1:1/", "http://u:p@media.example/"])
def test_a_refused_url_is_not_asked_for(url: str, spy: Spy, tmp_path: Path) -> None:
    with pytest.raises(FetchRefused):
        HttpSource(guard=AddressGuard(), max_bytes=LIMIT).fetch(url, tmp_path / "a")
    assert spy.connections == []


def test_a_slow_loris_is_ended_by_the_whole_limit(spy: Spy, tmp_path: Path) -> None:
    begun = time.monotonic()
    raised = fails(raw(OK + b"\r\n", b"a", every_s=0.02, forever=True), spy, tmp_path / "a", timeout_s=0.4)
    assert isinstance(raised, FetchTimeout)
    assert "not done within 0.4 s" in str(raised)
    assert time.monotonic() - begun < 5


def test_one_that_falls_silent_by_the_limit_on_silence(spy: Spy, tmp_path: Path) -> None:
    raised = fails(raw(OK + b"\r\nabc", b"", every_s=30), spy, tmp_path / "a", stall_s=0.2)
    assert isinstance(raised, FetchTimeout)
    assert "no answer for 0.2 s" in str(raised)


def test_nobody_there_is_worth_another_try(spy: Spy, tmp_path: Path) -> None:
    with serve(reply()) as server:
        pass
    spy.allow(server.at)
    with pytest.raises(FetchTimeout, match="no connection"):
        HttpSource(guard=AddressGuard(allow_private_hosts=[server.at]), max_bytes=1, retries=0).fetch(
            server.url(), tmp_path / "a"
        )


def test_a_body_without_an_end_is_cut_at_the_limit(spy: Spy, tmp_path: Path) -> None:
    assert isinstance(fails(raw(OK + b"\r\n", b"a" * 65536, forever=True), spy, tmp_path / "a"), MediaTooLarge)


def test_what_says_that_it_is_too_large_is_not_read(spy: Spy, tmp_path: Path) -> None:
    raised = fails(raw(OK + f"Content-Length: {LIMIT + 1}\r\n\r\n".encode(), b"", every_s=30), spy, tmp_path / "a")
    assert isinstance(raised, MediaTooLarge)
    assert str(LIMIT + 1) in str(raised)


def test_what_says_that_it_is_more_than_the_disk_could_ever_hold_is_not_read(spy: Spy, tmp_path: Path) -> None:
    raised = fails(raw(OK + f"Content-Length: {10**18}\r\n\r\n".encode(), b"", every_s=30), spy, tmp_path / "a", max_bytes=10**18)
    assert isinstance(raised, MediaTooLarge)
    assert "the disk could hold" in str(raised)


def test_the_limit_itself_passes(spy: Spy, tmp_path: Path) -> None:
    with source(reply(b"a" * LIMIT), spy) as (server, http):
        assert http.fetch(server.url(), tmp_path / "a").size_bytes == LIMIT


def test_less_than_was_said_is_broken_off(spy: Spy, tmp_path: Path) -> None:
    raised = fails(raw(OK + b"Content-Length: 100\r\n\r\nabc"), spy, tmp_path / "a")
    assert isinstance(raised, FetchTimeout)
    assert "broke off" in str(raised)


def test_more_than_was_said_is_not_read(spy: Spy, tmp_path: Path) -> None:
    with source(raw(OK + b"Content-Length: 3\r\n\r\nabcdef"), spy) as (server, http):
        http.fetch(server.url(), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"abc"


def part(told: str, body: bytes, more: str = "") -> Answer:
    """An answer that calls itself a part."""
    head = f"HTTP/1.1 206 P\r\nContent-Range: bytes {told}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return raw(head.encode() + body)


def test_a_part_is_the_bytes_that_were_asked_for(spy: Spy) -> None:
    with source(ranged(b"0123456789"), spy) as (server, http), http.session() as session:
        assert session.read(server.url(), max_bytes=9, part=ByteRange(first=5, length=4)).data == b"5678"
        assert session.read(server.url(), max_bytes=10).data == b"0123456789"


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (reply(b"0123456789"), FetchRefused, "no parts"),
        (part("4-7/10", b"4567"), FetchRefused, "another part"),
        (part("5-9/10", b"56789"), FetchRefused, "another part"),
        (part("5-8/10", b"5678", "Content-Encoding: gzip\r\n"), FetchRefused, "another part"),
        (part("5-8/10", b"567"), FetchTimeout, "less than it said"),
        (part("5-8/10", b"56789abcdef"), MediaTooLarge, "in one part"),
    ],
)
def test_another_part_than_was_asked_for_is_none(answer: Answer, error: type[Exception], said: str, spy: Spy) -> None:
    with source(answer, spy) as (server, http), http.session() as session, pytest.raises(error, match=said):
        session.read(server.url(), max_bytes=9, part=ByteRange(first=5, length=4))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"nonsense\r\n\r\n", FetchTimeout),
        (b"", FetchTimeout),
        (b"HTTP/1.1 200 OK\r\nA: " + b"a" * 1_000_000, FetchTimeout),
        (OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", FetchTimeout),
        (OK + b"Content-Length: -1\r\n\r\nabcd", FetchTimeout),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", FetchTimeout),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", FetchTimeout),
        (OK + b"Content-Length: 0\r\n\r\n", EmptyMedia),
        (OK + b"\r\n", EmptyMedia),
        (b"HTTP/1.1 101 Switching\r\n\r\n", FetchTimeout),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else value.__name__,
)
def test_answers_that_are_none(answer: bytes, error: type[Exception], spy: Spy, tmp_path: Path) -> None:
    assert type(fails(raw(answer), spy, tmp_path / "a")) is error


@pytest.mark.parametrize("squeeze", [gzip.compress, zlib.compress])
def test_what_a_store_compressed_unasked_is_the_file(squeeze: Any, spy: Spy, tmp_path: Path) -> None:
    body = hashlib.shake_256(b"").digest(100_000) + b"\0" * 700_000
    coding = "gzip" if squeeze is gzip.compress else "deflate"
    with source(reply(squeeze(body), Content_Encoding=coding), spy) as (server, http):
        fetched = http.fetch(server.url(), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == body
    assert fetched.sha256 == hashlib.sha256(body).hexdigest()


def test_a_bomb_does_not_go_off(spy: Spy, tmp_path: Path) -> None:
    bomb = gzip.compress(b"\0" * (64 << 20), compresslevel=1)
    assert len(bomb) < LIMIT
    tracemalloc.start()
    try:
        raised = fails(reply(bomb, Content_Encoding="gzip"), spy, tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert isinstance(raised, MediaTooLarge)


def test_what_lies_behind_the_end_of_compressed_bytes_is_not_read() -> None:
    pieces = iter([gzip.compress(b"a"), b"more", b"and more"])
    told = decoded(httpx.Response(200, headers={"content-encoding": "gzip"}), pieces)
    with pytest.raises(FetchRefused, match="behind its end"):
        list(told)
    assert list(pieces) == [b"and more"]


@pytest.mark.parametrize(
    ("coding", "body", "error"),
    [
        ("gzip", gzip.compress(b"a" * 1000)[:-9], FetchTimeout),
        ("gzip", gzip.compress(b"a" * 1000) + b"more", FetchRefused),
        ("gzip", b"not gzip", FetchRefused),
        ("gzip", gzip.compress(b""), EmptyMedia),
        ("br", b"abc", FetchRefused),
        ("gzip, gzip", gzip.compress(gzip.compress(b"a")), FetchRefused),
    ],
    ids=["cut", "with more behind it", "none", "of nothing", "brotli", "twice"],  # gzip has the time in it
)
def test_other_codings_are_refused(coding: str, body: bytes, error: type[Exception], spy: Spy, tmp_path: Path) -> None:
    assert type(fails(reply(body, Content_Encoding=coding), spy, tmp_path / "a")) is error


def test_a_full_disk_is_told_and_worth_another_try(spy: Spy, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with source(reply(b"a" * 300_000), spy) as (server, http):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(StorageFull) as caught:
                http.fetch(server.url(), tmp_path / "a")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.retryable
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"", 404),
        reply(b"", 302, Location="http://127.0.0.1:1/?token=SECRET#SECRET"),
        reply(b"", 302, Location="http://media.example:x/?token=SECRET"),
        reply(b"", 302, Location="gopher://media.example/?token=SECRET"),
        raw(b"nonsense"),
        raw(OK + b"Content-Length: 9\r\n\r\n"),
        reply(),
    ],
)
def test_no_secret_is_in_an_error_or_a_log(answer: Answer, spy: Spy, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told, path = "", "/clip?token={0}#{0}".format("SECRET")  # not as it is in the line that a traceback shows
    with source(answer, spy) as (server, http):
        url = server.url(path)
        try:
            told = repr(http.fetch(url, tmp_path / "a"))
        except VeriframeError as exc:
            told = "".join(traceback.format_exception(exc))  # with all its causes, as a log would hold it
    assert told
    assert "SECRET" not in told + caplog.text

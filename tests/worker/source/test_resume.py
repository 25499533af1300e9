"""Broken connections: what is kept, what begins anew, and when it is given up."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.worker.source.loopback import Answer, Loopback, by_path, in_turn, ranged, raw, reply, serve
from tests.worker.spy import Spy
from worker.errors import FetchError, FetchGone, FetchRateLimited, FetchTimeout, MediaTooLarge
from worker.source.guard import AddressGuard
from worker.source.http import HttpSource
from worker.source.resume import Mark, Tries, continues, mark_of

BODY = hashlib.shake_256(b"a video").digest(300_000)
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@contextlib.contextmanager
def source(answer: Answer, spy: Spy, **changed: Any) -> Iterator[tuple[Loopback, HttpSource]]:
    with serve(answer) as server:
        spy.allow(server.at)
        limits: dict[str, Any] = {"max_bytes": 1 << 20, "timeout_s": 60, "retries": 1, "patience_s": 60, **changed}
        yield server, HttpSource(guard=AddressGuard(allow_private_hosts=[server.at]), ssl_context=NO_TLS, **limits)


def asked(server: Loopback) -> list[str | None]:
    return [headers.get("range") for _, headers in server.requests]


def test_a_broken_download_goes_on_where_it_broke(spy: Spy, tmp_path: Path) -> None:
    told: list[int] = []
    with source(ranged(BODY, breaks=[100_000, 50_000]), spy, retries=0) as (server, http):
        fetched = http.fetch(server.url(), tmp_path / "a", lambda done, total: told.append(done))
    assert asked(server) == [None, "bytes=100000-", "bytes=150000-"]
    assert [headers.get("if-range") for _, headers in server.requests] == [None, '"one"', '"one"']
    assert (tmp_path / "a").read_bytes() == BODY
    assert fetched.sha256 == hashlib.sha256(BODY).hexdigest()
    assert fetched.size_bytes == told[-1] == len(BODY)
    assert told == sorted(told)


def test_a_server_that_is_gone_for_a_while_is_waited_for(spy: Spy, tmp_path: Path) -> None:
    """Without a byte of an answer, as where the network is away."""
    answer = in_turn(ranged(BODY, breaks=[1000]), raw(b""), reply(b"", 502), raw(b""), ranged(BODY))
    with source(answer, spy, retries=0) as (server, http):
        assert http.fetch(server.url(), tmp_path / "a").sha256 == hashlib.sha256(BODY).hexdigest()
    assert asked(server) == [None, *["bytes=1000-"] * 4]


def test_a_server_that_dies_in_mid_file_and_comes_back(spy: Spy, tmp_path: Path) -> None:
    """Nobody listens for a while, then another server gives the rest."""
    with ThreadPoolExecutor(1) as pool:
        with source(ranged(BODY, breaks=[100_000, *[0] * 50]), spy, retries=0) as (server, http):
            fetching = pool.submit(http.fetch, server.url(), tmp_path / "a")
            soon(lambda: len(server.requests) > 0)
        before = len(spy.connections)
        soon(lambda: len(spy.connections) > before)  # in vain
        with serve(ranged(BODY), port=server.port) as other:
            fetched = fetching.result(timeout=60)
    assert fetched.sha256 == hashlib.sha256(BODY).hexdigest()
    assert asked(other) == ["bytes=100000-"]


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_goes_on_by_way_of_the_redirect(spy: Spy, tmp_path: Path) -> None:
    """Not at the address where that led to: signed addresses end."""
    hops = {"one": reply(b"", 302, Location="/two"), "two": ranged(BODY, breaks=[100_000])}
    with source(by_path(**hops), spy, retries=0) as (server, http):
        assert http.fetch(server.url("/one"), tmp_path / "a").sha256 == hashlib.sha256(BODY).hexdigest()
    assert [path for path, _ in server.requests] == ["/one", "/two"] * 2
    assert server.requests[3][1]["range"] == "bytes=100000-"


@pytest.mark.parametrize("etag", [None, 'W/"one"', "one"])
def test_without_a_strong_validator_it_begins_anew(etag: str | None, spy: Spy, tmp_path: Path) -> None:
    with source(ranged(BODY, breaks=[100_000], etag=etag), spy) as (server, http):
        assert http.fetch(server.url(), tmp_path / "a").sha256 == hashlib.sha256(BODY).hexdigest()
    assert asked(server) == [None, None]


def test_a_date_is_strong_long_after_it(spy: Spy, tmp_path: Path) -> None:
    changed = formatdate(time.time() - 3600, usegmt=True)
    with source(ranged(BODY, breaks=[100_000], etag=None, Last_Modified=changed), spy, retries=0) as (server, http):
        assert http.fetch(server.url(), tmp_path / "a").sha256 == hashlib.sha256(BODY).hexdigest()
    assert server.requests[1][1]["if-range"] == changed


def test_a_file_that_changed_meanwhile_is_fetched_whole(spy: Spy, tmp_path: Path) -> None:
    other = BODY[::-1]
    answer = in_turn(ranged(BODY, breaks=[100_000]), ranged(other, etag='"two"'))
    with source(answer, spy, retries=0) as (server, http):
        assert http.fetch(server.url(), tmp_path / "a").sha256 == hashlib.sha256(other).hexdigest()
    assert asked(server) == [None, "bytes=100000-"]


@pytest.mark.parametrize(
    "part",
    [
        "HTTP/1.1 206 P\r\nContent-Range: bytes 99999-299999/300000\r\nContent-Length: 200001\r\n\r\n",
        "HTTP/1.1 206 P\r\nContent-Range: bytes 100000-199999/200000\r\nContent-Length: 100000\r\n\r\n",
        'HTTP/1.1 206 P\r\nContent-Range: bytes 100000-299999/300000\r\nETag: "two"\r\nContent-Length: 200000\r\n\r\n',
        "HTTP/1.1 206 P\r\nContent-Range: bytes 100000-\r\nContent-Length: 200000\r\n\r\n",
        "HTTP/1.1 206 P\r\nContent-Length: 200000\r\n\r\n",
        "HTTP/1.1 416 No\r\nContent-Range: bytes */7\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_part_that_does_not_fit_is_not_taken(part: str, spy: Spy, tmp_path: Path) -> None:
    answer = in_turn(ranged(BODY, breaks=[100_000]), raw(part.encode(), b"x" * 200_001), ranged(BODY))
    with source(answer, spy) as (server, http):
        assert http.fetch(server.url(), tmp_path / "a").sha256 == hashlib.sha256(BODY).hexdigest()
    assert asked(server) == [None, "bytes=100000-", None]


def test_what_begins_anew_is_tried_so_often(spy: Spy, tmp_path: Path) -> None:
    with source(raw(b""), spy, retries=2) as (server, http), pytest.raises(FetchTimeout):
        http.fetch(server.url(), tmp_path / "a")
    assert len(server.requests) == 3
    assert not (tmp_path / "a").exists()


def test_what_is_not_worth_it_is_not_tried_again(spy: Spy, tmp_path: Path) -> None:
    answer = in_turn(ranged(BODY, breaks=[1000]), reply(b"", 410))
    with source(answer, spy, retries=5) as (server, http), pytest.raises(FetchGone):
        http.fetch(server.url(), tmp_path / "a")
    assert len(server.requests) == 2


def test_the_limit_of_bytes_holds_over_all_parts(spy: Spy, tmp_path: Path) -> None:
    head = b'HTTP/1.1 200 OK\r\nETag: "one"\r\nTransfer-Encoding: chunked\r\n\r\n'
    more = b'HTTP/1.1 206 P\r\nETag: "one"\r\nContent-Range: bytes 1000-9999/*\r\nContent-Length: 9000\r\n\r\n'
    answer = in_turn(raw(head, b"3e8\r\n" + b"a" * 1000), raw(more, b"a" * 9000))
    with source(answer, spy, max_bytes=5000) as (server, http), pytest.raises(MediaTooLarge):
        http.fetch(server.url(), tmp_path / "a")
    assert len(server.requests) == 2


def test_no_faster_than_the_rate(spy: Spy, tmp_path: Path) -> None:
    begun = time.monotonic()
    with source(reply(BODY), spy, rate_bytes_s=1_000_000) as (server, http):
        http.fetch(server.url(), tmp_path / "a")
    assert time.monotonic() - begun >= 0.29


def answer_with(status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_marks() -> None:
    date = formatdate(1e9, usegmt=True)
    assert mark_of(answer_with(etag='"a"', content_length="9")) == Mark(validator='"a"', total=9)
    assert mark_of(answer_with(last_modified=date, date=formatdate(1e9 + 60, usegmt=True))) == Mark(validator=date, total=None)
    for weak in (
        {"etag": 'W/"a"'},
        {"etag": '"a"', "content_encoding": "gzip"},
        {"last_modified": date, "date": formatdate(1e9 + 59, usegmt=True)},
        {"last_modified": date},
        {"last_modified": "soon", "date": date},
        {},
    ):
        assert mark_of(answer_with(**weak)) is None


@pytest.mark.parametrize(
    ("content_range", "fits"),
    [("bytes 5-9/10", True), ("bytes 5-9/*", True), ("bytes 4-9/10", False), ("bytes 5-8/10", False), ("bytes 5-9/11", False)],
)
def test_parts_that_continue(content_range: str, fits: bool) -> None:
    mark = Mark(validator='"a"', total=10)
    assert continues(answer_with(206, etag='"a"', content_range=content_range), mark, 5) is fits
    assert not continues(answer_with(200, etag='"a"', content_range=content_range), mark, 5)
    assert not continues(answer_with(206, etag='"a"', content_range=content_range, content_encoding="gzip"), mark, 5)


@pytest.mark.parametrize(
    ("validator", "told", "fits"),
    [
        ('"a"', {"etag": '"a"', "last_modified": "another"}, True),
        ('"a"', {"etag": '"b"'}, False),
        ('"a"', {"etag": 'W/"a"'}, False),
        ('"a"', {}, False),
        ("Tue, 01 Sep 2026 08:00:00 GMT", {}, True),
        ("Tue, 01 Sep 2026 08:00:00 GMT", {"last_modified": "Tue, 01 Sep 2026 08:00:00 GMT"}, True),
        ("Tue, 01 Sep 2026 08:00:00 GMT", {"last_modified": "Tue, 01 Sep 2026 09:00:00 GMT"}, False),
    ],
)
def test_a_part_of_another_version_does_not_continue(validator: str, told: dict[str, str], fits: bool) -> None:
    """From a server that does not look at If-Range."""
    answer = answer_with(206, content_range="bytes 5-9/10", **told)
    assert continues(answer, Mark(validator=validator, total=10), 5) is fits


def test_tries_end() -> None:
    def tries(**changed: float) -> Tries:
        limits: dict[str, Any] = {"retries": 1, "patience_s": 100, "ends_at": time.monotonic() + 100, **changed}
        return Tries(**limits)

    def is_over(tries: Tries, error: FetchError, *, goes_on: bool) -> bool:
        try:
            return not 0 < tries.wait_s(error, goes_on=goes_on) <= 30
        except type(error):
            return True

    late = FetchTimeout("late")
    one = tries()
    assert [is_over(one, late, goes_on=False) for _ in range(2)] == [False, True]
    assert not any(is_over(one, late, goes_on=True) for _ in range(20))
    assert is_over(tries(patience_s=0), late, goes_on=True)
    assert is_over(tries(ends_at=time.monotonic()), late, goes_on=True)
    assert is_over(tries(), FetchGone("gone"), goes_on=True)
    assert not is_over(tries(), FetchRateLimited("later", retry_after_s=20), goes_on=False)
    assert is_over(tries(), FetchRateLimited("much later", retry_after_s=31), goes_on=False)

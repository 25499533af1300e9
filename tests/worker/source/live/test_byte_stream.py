"""MPEG-TS and FLV over one long answer: broken off, gone on, left out where nobody takes it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.worker.source.live.streams import Clock, made
from tests.worker.source.loopback import Answer, Loopback, in_turn, raw, reply, serve
from tests.worker.spy import Spy
from worker.errors import FetchError, FetchGone, FetchTimeout
from worker.source.client import never
from worker.source.guard import AddressGuard
from worker.source.http import HttpSource
from worker.source.live.byte_stream import _MOST_HELD, ByteStreamReader, _Held
from worker.source.live.flv import FlvCutter
from worker.source.live.mpegts import TsCutter
from worker.source.live.patience import Patience
from worker.source.live.pieces import Gap, Piece
from worker.types import Json

GREYS = [100, 150] * 5
CUTTERS = {"mpegts": TsCutter, "flv": FlvCutter}


def chunked(data: bytes, *, breaks_off: bool = False, waits: threading.Event | None = None) -> Answer:
    """``breaks_off``: without the last chunk. ``waits``: after the first half."""

    def answer(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        half = len(data) // 2
        for part in (data[:half], data[half:]):
            request.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            if waits is not None:
                waits.wait(20)
        if not breaks_off:
            request.wfile.write(b"0\r\n\r\n")

    return answer


def until_closed(data: bytes) -> Answer:
    def answer(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        request.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + data)

    return answer


def reader(
    server: Loopback,
    muxer: str,
    position: Json | None = None,
    *,
    behind_s: float = 100,
    wall: Callable[[], float] = lambda: 0.0,
    clock: Clock | None = None,
) -> ByteStreamReader:
    clock = clock or Clock()
    guard = AddressGuard(allow_private_hosts=[server.at])
    http = HttpSource(guard=guard, max_bytes=1 << 20, retries=0, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    return ByteStreamReader(
        http,
        server.url("/live"),
        kind=muxer,
        new_cutter=lambda: CUTTERS[muxer](2),
        patience=Patience(30, now=clock.now, sleep=clock.sleep),
        max_behind_s=behind_s,
        position=position,
        wall=wall,
    )


def read(one: ByteStreamReader) -> list[Piece | Gap]:
    return [item for item in one.items(never) if item is not None]


@pytest.fixture(scope="module", params=["mpegts", "flv"])
def muxer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def stream(muxer: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made(tmp_path_factory.mktemp("stream"), muxer, GREYS)["made"]


@pytest.fixture
def serving(spy: Spy) -> Iterator[Callable[[Answer], Loopback]]:
    with ExitStack() as stack:

        def start(answer: Answer) -> Loopback:
            server = stack.enter_context(serve(answer))
            spy.allow(server.at)
            return server

        yield start


def spans(items: list[Piece | Gap]) -> list[tuple[str, float, float]]:
    return [(item.cause if isinstance(item, Gap) else "piece", round(item.start_s, 1), round(item.end_s, 1)) for item in items]


WHOLE = [("piece", at, at + 2) for at in (0, 2, 4, 6, 8)]


def test_a_stream_is_read_to_its_end(serving: Callable[[Answer], Loopback], stream: bytes, muxer: str) -> None:
    assert spans(read(reader(serving(chunked(stream)), muxer))) == WHOLE
    assert spans(read(reader(serving(reply(stream)), muxer))) == WHOLE


def test_a_connection_that_breaks_is_made_anew(
    serving: Callable[[Answer], Loopback], stream: bytes, muxer: str, tmp_path: Path
) -> None:
    later = made(tmp_path, muxer, GREYS[:4], start_s=14)["made"]
    nothing = (reply(b"", 503), reply(b"", 204), reply(b""), chunked(b""))
    answers = in_turn(chunked(stream, breaks_off=True), *nothing, chunked(later))
    items = read(reader(serving(answers), muxer))
    assert spans(items) == [*WHOLE, ("outage", 10, 14), ("piece", 14, 16), ("piece", 16, 18)]


def test_one_that_only_closes_is_asked_again_but_a_replay_is_its_end(
    serving: Callable[[Answer], Loopback], stream: bytes, muxer: str, tmp_path: Path
) -> None:
    assert spans(read(reader(serving(until_closed(stream)), muxer))) == WHOLE
    later = made(tmp_path, muxer, GREYS[:2], start_s=10)["made"]
    answers = in_turn(until_closed(stream), until_closed(later), until_closed(stream))
    assert spans(read(reader(serving(answers), muxer))) == [*WHOLE, ("piece", 10, 12)]


def test_a_later_reader_goes_on_with_a_gap_of_the_time_between(
    serving: Callable[[Answer], Loopback], stream: bytes, muxer: str, tmp_path: Path
) -> None:
    first = read(reader(serving(chunked(stream)), muxer))
    anew = made(tmp_path, muxer, GREYS[:2], start_s=5000)["made"]
    items = read(reader(serving(chunked(anew)), muxer, first[-1].position, wall=lambda: 25.0))
    assert spans(items) == [("outage", 10, 33), ("piece", 33, 35)]


def test_what_nobody_takes_is_left_out_from_its_oldest(serving: Callable[[Answer], Loopback], stream: bytes, muxer: str) -> None:
    sent = threading.Event()
    one = reader(serving(chunked(stream, waits=sent)), muxer, behind_s=4)
    items = one.items(never)
    found = [next(item for item in items if item is not None)]
    sent.set()
    while one._held._has_ended is False:  # all of it has come, and only the first piece was taken
        threading.Event().wait(0.01)
    found += [item for item in items if item is not None]
    assert {kind for kind, _, _ in spans(found)} == {"piece", "behind"}
    assert spans(found)[-2:] == WHOLE[-2:]
    assert [kind for kind, _, _ in spans(found)].count("behind") == 1, "what is left out together is one gap"
    assert [end for _, _, end in spans(found)][:-1] == [start for _, start, _ in spans(found)][1:]


def test_one_that_is_not_there_fails_at_once(serving: Callable[[Answer], Loopback], muxer: str) -> None:
    with pytest.raises(FetchGone):
        read(reader(serving(reply(b"", 404)), muxer))
    with pytest.raises(FetchError):
        read(reader(serving(reply(b"", 403)), muxer))


def test_whoever_stops_ends_the_thread(serving: Callable[[Answer], Loopback], stream: bytes, muxer: str) -> None:
    before = {thread.name for thread in threading.enumerate()}
    items = reader(serving(chunked(stream)), muxer).items(never)
    next(items)
    items.close()
    assert "live stream" not in {thread.name for thread in threading.enumerate()} - before


@pytest.mark.parametrize("first", [b"HTTP/1.1 200 OK\r\nX-A", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["headers", "body"])
def test_a_trickle_keeps_nobody_who_stops_and_is_lost_when_nothing_comes_of_it(
    first: bytes, serving: Callable[[Answer], Loopback], muxer: str
) -> None:
    server = serving(raw(first, b"a", every_s=0.02, forever=True))
    items = reader(server, muxer).items(never)
    assert next(items) is None
    items.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "live stream"]
    clock = Clock()
    lost = reader(server, muxer, clock=clock)
    with pytest.raises(FetchTimeout, match="nothing new"):  # noqa: PT012 (the clock moves while nothing comes)
        for _ in lost.items(never):
            clock.sleep(10)


def test_what_is_held_is_bounded_and_gaps_are_one() -> None:
    """Of a stream whose pieces have no length, and one that has an outage before each."""
    held = _Held(30)
    for number in range(10_000):
        held.put(Piece(data=b"x", start_s=0.0, duration_s=0.0, position={"at": number}))
    assert len(held._items) <= _MOST_HELD + 1
    held = _Held(30)
    for number in range(2_000):
        held.put(Gap(start_s=10.0 * number, duration_s=8, cause="outage", position={"at": number}))
        held.put(Piece(data=b"x", start_s=10.0 * number + 8, duration_s=2, position={"at": number}))
    gap, *rest = iter(lambda: held.take(0), None)
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.start_s, gap.end_s) == ("behind", 0, 19_850)
    assert [type(item) for item in rest] == [Gap, Piece] * 15
    assert [item.behind_s for item in rest if isinstance(item, Piece)] == [28.0 - 2 * i for i in range(15)]

"""HLS that runs on, from a server that publishes on the test's clock."""

from __future__ import annotations

import contextlib
import itertools
import ssl
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.worker.source.live.streams import Clock, LiveHls, segments
from tests.worker.source.loopback import Answer, Loopback, in_turn, raw, reply, serve
from tests.worker.spy import Spy
from worker.errors import FetchError, FetchGone, FetchTimeout, UnsupportedMedia
from worker.source.client import never
from worker.source.fragments import rebased
from worker.source.guard import AddressGuard
from worker.source.http import HttpSource
from worker.source.live.connection import Connection
from worker.source.live.hls import HlsReader
from worker.source.live.patience import Patience
from worker.source.live.pieces import Gap, Piece
from worker.types import Json

Read = Callable[..., list[Piece | Gap]]


@pytest.fixture(scope="module")
def held() -> dict[str, bytes]:
    """Fifty short files that are no media: what is in a segment is not looked at here."""
    return {f"seg{number}.ts": b"segment %d" % number for number in range(50)}


def reader(
    server: Loopback, clock: Clock, position: Json | None = None, *, give_up_s: float = 60, behind_s: float = 100
) -> HlsReader:
    guard = AddressGuard(allow_private_hosts=[server.at])
    http = HttpSource(guard=guard, max_bytes=1 << 20, retries=0, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    return HlsReader(
        Connection(http),
        server.url("/live.m3u8"),
        patience=Patience(give_up_s, now=clock.now, sleep=clock.sleep),
        max_behind_s=behind_s,
        max_side_px=720,
        max_segments=1000,
        wall=clock.now,
        position=position,
    )


@contextlib.contextmanager
def serving(answer: Answer, spy: Spy) -> Iterator[Loopback]:
    with serve(answer) as server:
        spy.allow(server.at)
        yield server


def read(one: HlsReader) -> list[Piece | Gap]:
    return [item for item in one.items(never) if item is not None]


def numbers(items: list[Piece | Gap]) -> list[int]:
    return [int(item.data.split()[-1]) for item in items if isinstance(item, Piece)]


def test_a_stream_is_joined_near_its_end_and_followed_to_the_last_segment(held: dict[str, bytes], spy: Spy) -> None:
    clock = Clock()
    with serving(LiveHls(held, clock, ready=10), spy) as server:
        items = read(reader(server, clock))
    assert numbers(items) == list(range(7, 50))
    assert [item.start_s for item in items] == [float(i) for i in range(43)]
    assert clock.now_s >= 39
    asked = [path for path, _ in server.requests].count("/live.m3u8")
    assert asked <= 2 * 40 + 1, "every half of a target duration"


def test_from_every_position_on_the_rest_is_the_same(held: dict[str, bytes], spy: Spy) -> None:
    clock = Clock()
    with serving(LiveHls(held, clock, ready=50, listed=50, missing=frozenset({3, 8})), spy) as server:
        whole = read(reader(server, clock))
        assert numbers(whole) == [number for number in range(50) if number not in (3, 8)]
        for place in range(0, 50, 7):
            assert read(reader(server, clock, whole[place].position)) == whole[place + 1 :]


def test_whoever_comes_back_late_has_a_gap_of_what_is_gone(held: dict[str, bytes], spy: Spy) -> None:
    clock = Clock()
    with serving(LiveHls(held, clock, listed=5), spy) as server:
        position = next(item for item in reader(server, clock).items(never) if item is not None).position
        clock.sleep(20)
        gap, *items = read(reader(server, clock, position))
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.start_s, gap.duration_s) == ("not_served", 1, 15)
    assert numbers(items) == list(range(16, 50))


def test_an_outage_of_20_seconds_is_outlived_and_what_is_no_longer_served_is_a_gap(held: dict[str, bytes], spy: Spy) -> None:
    clock = Clock()
    with serving(LiveHls(held, clock, listed=5, away_s=(10, 30)), spy) as server:
        items = read(reader(server, clock))
    (gap,) = [item for item in items if isinstance(item, Gap)]
    missed = [number for number in range(50) if number not in numbers(items)]
    assert missed == list(range(missed[0], missed[-1] + 1))
    assert 15 <= len(missed) <= 20
    assert (gap.cause, gap.duration_s, gap.start_s) == ("not_served", float(len(missed)), float(missed[0]))
    assert items[-1].end_s == 50


def test_an_outage_that_the_playlist_outlasts_costs_nothing(held: dict[str, bytes], spy: Spy) -> None:
    clock = Clock()
    with serving(LiveHls(held, clock, listed=40, away_s=(10, 30)), spy) as server:
        assert numbers(read(reader(server, clock))) == list(range(50))


def test_too_far_behind_the_oldest_is_left_out(held: dict[str, bytes], spy: Spy) -> None:
    clock = Clock()
    with serving(LiveHls(held, clock, listed=40, away_s=(10, 30)), spy) as server:
        items = read(reader(server, clock, behind_s=10))
    (gap,) = [item for item in items if isinstance(item, Gap)]
    assert gap.cause == "behind"
    assert len(numbers(items)) + gap.duration_s == 50
    assert max(item.behind_s for item in items if isinstance(item, Piece)) < 3


def test_segments_that_are_not_there_or_no_media_are_gaps(held: dict[str, bytes], spy: Spy) -> None:
    clock = Clock()
    changed = {**held, "seg12.ts": b"<html>", "seg13.ts": b""}
    with serving(LiveHls(changed, clock, listed=9, missing=frozenset({5, 6})), spy) as server:
        items = read(reader(server, clock))
    assert [(item.start_s, item.cause) for item in items if isinstance(item, Gap)] == [
        (5, "not_served"),
        (6, "not_served"),
        (12, "unreadable"),
        (13, "unreadable"),
    ]


@pytest.mark.parametrize("reloads", [0, 9])
def test_segments_listed_as_missing_are_gaps_as_long_as_they_say(held: dict[str, bytes], spy: Spy, reloads: int) -> None:
    """Of a stream that was joined as it ran, those before are none. A playlist that stands still is not taken for old."""
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:0"]
    for number, seconds in enumerate((3, 4, 4, 10, 10, 4, 10)):
        lines += ["#EXT-X-GAP"] * (number in (0, 3, 4, 6)) + [f"#EXTINF:{seconds},", f"seg{number}.ts"]
    running, ended = ("\n".join([*lines, *end, ""]).encode() for end in ([], ["#EXT-X-ENDLIST"]))
    playlists = in_turn(*[reply(running)] * reloads, reply(ended))

    def answer(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        name = request.path.strip("/")
        (reply(held[name]) if name in held else playlists)(request, served)

    with serving(answer, spy) as server:
        items = read(reader(server, Clock()))
    told = [(getattr(item, "cause", "seen"), item.duration_s) for item in items]
    before = [] if reloads else [("not_served", 3)]
    assert told == [*before, ("seen", 4), ("seen", 4), ("not_served", 20), ("seen", 4), ("not_served", 10)]


def test_an_initialisation_goes_before_every_segment(spy: Spy, tmp_path: Path) -> None:
    clock = Clock()
    fmp4 = segments(tmp_path / "fmp4", [100, 150, 200], kind="fmp4")
    with serving(LiveHls(fmp4, clock), spy) as server:
        items = read(reader(server, clock))
        assert [path for path, _ in server.requests].count("/init.mp4") == 1
    assert [item.data for item in items if isinstance(item, Piece)] == [
        rebased(fmp4["init.mp4"], fmp4[f"seg{number}.m4s"]) for number in range(3)
    ]


def test_a_stream_that_is_not_there_fails_at_once_and_one_that_goes_away_is_lost(held: dict[str, bytes], spy: Spy) -> None:
    clock = Clock()
    with serving(reply(b"", 404), spy) as server, pytest.raises(FetchGone):
        read(reader(server, clock))
    assert clock.now_s == 0
    found: list[Piece | Gap | None] = []
    with serving(LiveHls(held, clock, away_s=(10, 1e9)), spy) as server, pytest.raises(FetchError):
        found.extend(reader(server, clock, give_up_s=30).items(never))
    assert 40 <= clock.now_s <= 50


def test_a_rendition_whose_address_has_ended_is_looked_up_anew(held: dict[str, bytes], spy: Spy) -> None:
    clock = Clock()
    live = LiveHls(held, clock, listed=9)

    def answer(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        signed = f"?until={clock.now_s // 10}"
        name, _, query = request.path.partition("?")
        if name == "/live.m3u8" and not query:
            reply(f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlive.m3u8{signed}\n".encode())(request, served)
        elif query and f"?{query}" != signed:
            reply(b"", 403)(request, served)
        else:
            live(request, served)

    with serving(answer, spy) as server:
        assert numbers(read(reader(server, clock))) == list(range(50))


def test_a_playlist_that_names_playlists_without_end_is_none(spy: Spy) -> None:
    with (
        serving(reply(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlive.m3u8\n"), spy) as server,
        pytest.raises(UnsupportedMedia, match="playlists of playlists"),
    ):
        read(reader(server, Clock()))
    assert len(server.requests) == 2


def test_a_stream_without_anything_new_is_lost(held: dict[str, bytes], spy: Spy) -> None:
    clock = Clock()
    few = {name: data for name, data in held.items() if len(name) == 7}
    with serving(LiveHls(few, clock, is_open=True), spy) as server, pytest.raises(FetchTimeout):
        read(reader(server, clock, give_up_s=30))


def playlist(first: int, *names: str, end: str = "") -> Answer:
    lines = [f"#EXTINF:1,\n{name}" for name in names]
    return reply("\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}", *lines, end]).encode())


def of_letters(*playlists: Answer) -> Answer:
    listing = in_turn(*playlists)

    def answer(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        name = request.path.strip("/")
        (listing if name == "live.m3u8" else reply(f"segment {ord(name)}".encode()))(request, served)

    return answer


BEFORE = playlist(100, "a", "b")
ANEW = (*[playlist(0, "c")] * 6, playlist(0, "c", "d", end="#EXT-X-ENDLIST"))


@pytest.mark.parametrize(("last", "letters", "gaps"), [("b", "abcd", []), ("#EXT-X-GAP\nb", "acd", ["not_served"])])
def test_a_stream_that_begins_anew_is_joined_again_after_as_long_as_nothing_came(
    last: str, letters: str, gaps: list[str], spy: Spy
) -> None:
    """That is 2.5 s, until it is believed; the first segment there lasts one of them. Before, it was followed for a while."""
    with serving(of_letters(*[playlist(100, "a")] * 10, playlist(100, "a", last), *ANEW), spy) as server:
        items = read(reader(server, Clock()))
    assert numbers(items) == [ord(letter) for letter in letters]
    assert [(item.start_s, item.duration_s) for item in items] == [(0, 1), (1, 1), (2, 1.5), (3.5, 1), (4.5, 1)]
    assert [item.cause for item in items if isinstance(item, Gap)] == [*gaps, "outage"]


@pytest.mark.parametrize(("left_out", "gap_s"), [((), 301), (("at",), 1)])
def test_whoever_watches_on_knows_when_the_last_piece_came(left_out: tuple[str, ...], gap_s: float, spy: Spy) -> None:
    """A version before did not say: then the gap is as long as nothing came since."""
    clock = Clock()
    clock.sleep(1e9)
    with serving(of_letters(BEFORE, *ANEW), spy) as server:
        *_, before = itertools.islice(reader(server, clock).items(never), 2)
        assert before is not None
        clock.sleep(300)
        position = {name: value for name, value in before.position.items() if name not in left_out}
        gap, *items = read(reader(server, clock, position))
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.start_s, gap.duration_s) == ("outage", 2, gap_s)
    assert numbers(items) == [ord(letter) for letter in "cd"]


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
TRICKLES = raw(HEAD, b"#", every_s=0.1, forever=True)
STALLS = raw(HEAD, b"#", every_s=600)


def slow_at(name: str, slow: Answer, rest: Answer) -> Answer:
    def answer(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        (slow if request.path == f"/{name}" else rest)(request, served)

    return answer


@pytest.mark.parametrize("slow", [TRICKLES, STALLS], ids=["trickles", "stalls"])
@pytest.mark.parametrize("name", ["live.m3u8", "init.mp4", "seg1.ts"])
def test_whoever_stops_need_not_wait_for_a_slow_server(name: str, slow: Answer, held: dict[str, bytes], spy: Spy) -> None:
    """Otherwise it would be as long as a whole download may take."""
    with serving(slow_at(name, slow, LiveHls({**held, "init.mp4": b"init"}, Clock(), ready=4)), spy) as server:

        def stop() -> bool:
            return f"/{name}" in [path for path, _ in server.requests]

        items = [item for item in reader(server, Clock()).items(stop) if item is not None]
        assert stop()
    assert numbers(items) == []


def test_a_segment_that_trickles_for_longer_than_anybody_waits_is_lost(held: dict[str, bytes], spy: Spy) -> None:
    clock = Clock()

    def trickle(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        request.wfile.write(HEAD)
        while not served.stopping.wait(0.01):
            request.wfile.write(b"#")
            clock.sleep(1)

    with serving(slow_at("seg3.ts", trickle, LiveHls(held, clock, ready=4)), spy) as server:
        found: list[Piece | Gap | None] = []
        with pytest.raises(FetchTimeout, match="nothing new"):
            found.extend(reader(server, clock, give_up_s=30).items(never))


def test_segments_at_refused_addresses_are_never_asked_for(spy: Spy) -> None:
    clock = Clock()
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://169.254.169.254/a.ts\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    with serving(reply(playlist.encode()), spy) as server:
        items = read(reader(server, clock))
        assert set(spy.connections) == {server.at}
    assert [item.cause for item in items if isinstance(item, Gap)] == ["not_served", "not_served"]
    assert len(items) == 2

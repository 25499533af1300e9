"""Real streams from loopback servers, decoded in the sandbox, with a stand-in detector and classifier: from bytes to events."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.worker.source.live.streams import Clock, LiveHls, made, segments
from tests.worker.source.live.test_byte_stream import chunked
from tests.worker.source.loopback import Answer, serve
from tests.worker.spy import Spy
from tests.worker.watch.stream import FAKE, REAL, OneFace, scanner
from tests.worker.watch.test_session import Heard, go_on
from worker.frames.limits import Limits
from worker.frames.sandbox import SandboxedFrames
from worker.pipeline import Scanner
from worker.report import Source
from worker.source.guard import AddressGuard
from worker.source.http import HttpSource
from worker.source.live.open import LiveOptions, LiveSource
from worker.types import Json, Label
from worker.watch.recent import Rhythm
from worker.watch.session import OpenReader, Watcher

GREYS = [REAL] * 8 + [FAKE] * 8
SPLICE_S = 8
RHYTHM = Rhythm(window_s=4, hop_s=2, fps=2)
OPTIONS = LiveOptions(max_behind_s=100, give_up_s=60, file_ends_s=5, cut_s=1, max_side_px=720, max_segments=100)


@pytest.fixture(scope="module")
def looking() -> Iterator[Scanner]:
    with SandboxedFrames(Limits()) as frames, scanner(frames, OneFace) as made:
        yield made


def live(at: str, clock: Clock) -> LiveSource:
    guard = AddressGuard(allow_private_hosts=[at])
    http = HttpSource(guard=guard, max_bytes=1 << 20, retries=0, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    return LiveSource(http, OPTIONS, now=clock.now, sleep=clock.sleep, wall=clock.now)


def watcher(open_reader: OpenReader, looking: Scanner, folder: Path, cursor: Json | None = None) -> Watcher:
    return Watcher(
        open_reader=open_reader,
        scanner=looking,
        folder=folder,
        source=Source(kind="url", url="http://stream.test/"),
        rhythm=RHYTHM,
        max_duration_s=1000,
        max_behind_s=100,
        cursor=cursor,
    )


@contextmanager
def from_server(answer: Answer, clock: Clock, spy: Spy) -> Iterator[OpenReader]:
    with serve(answer) as server:
        spy.allow(server.at)
        yield live(server.at, clock).address(server.url("/live.m3u8"))


@pytest.fixture(params=["hls", "hls-fmp4", "mpegts", "flv", "growing"])
def stream(request: pytest.FixtureRequest, tmp_path: Path, spy: Spy) -> Iterator[OpenReader]:
    clock = Clock()
    if request.param.startswith("hls"):
        kind = "fmp4" if request.param == "hls-fmp4" else "mpegts"
        held = segments(tmp_path / "made", GREYS, kind=kind)
        with from_server(LiveHls(held, clock, listed=100), clock, spy) as opened:
            yield opened
    elif request.param == "growing":
        made(tmp_path / "made", "mpegts", GREYS)
        yield live("127.0.0.1:1", clock).file(tmp_path / "made" / "made")
    else:
        data = made(tmp_path / "made", request.param, GREYS)["made"]
        with from_server(chunked(data), clock, spy) as opened:
            yield opened


def test_a_splice_is_told_within_one_window_and_the_report_says_where(
    stream: OpenReader, looking: Scanner, tmp_path: Path
) -> None:
    heard = Heard()
    one = watcher(stream, looking, tmp_path)
    assert one.run(go_on, heard) == "ended"
    told = [event for event in heard.events if event.kind == "verdict_changed" and event.verdict is Label.FAKE]
    assert {event.track for event in told} == {0, None}
    assert {SPLICE_S < event.t_ms / 1000 <= SPLICE_S + RHYTHM.window_s for event in told} == {True}
    assert heard.kinds()[-1] == "stream_ended"
    assert [window.number for window in heard.windows] == list(range(len(heard.windows)))
    assert len({window.end_ms for window in heard.windows}) == len(heard.windows), "each is told once, the last one, too"
    assert heard.windows[-1].end_ms == pytest.approx(1000 * len(GREYS), abs=20)
    assert {window.frames for window in heard.windows[:-1]} == {8}
    report = one.report()
    assert report.media is not None
    assert report.media.codec == "h264"
    (segment,) = report.segments
    assert abs(segment.start_ms / 1000 - SPLICE_S) <= RHYTHM.window_s
    assert list(tmp_path.glob("piece*")) == []


def test_an_outage_of_20_seconds_in_mid_stream_costs_what_is_no_longer_served_and_no_more(
    looking: Scanner, tmp_path: Path, spy: Spy
) -> None:
    clock = Clock()
    held = segments(tmp_path / "made", [REAL] * 40)
    with from_server(LiveHls(held, clock, listed=8, away_s=(6, 26)), clock, spy) as opened:
        heard = Heard()
        one = watcher(opened, looking, tmp_path)
        assert one.run(go_on, heard) == "ended"
        report = one.report()
        assert report.watch is not None
        (gap,) = report.watch.gaps
        assert gap.cause == "not_served"
        assert 8_000 <= gap.end_ms - gap.start_ms <= 20_000
        assert heard.windows[-1].end_ms == 40_000
        assert sum(window.frames for window in heard.windows[::2]) > 0
        assert report.sampling is not None
        assert report.sampling.decoded == 2 * (40 - (gap.end_ms - gap.start_ms) // 1000)


def test_a_playlist_that_says_too_little_of_its_segments_hides_nothing(looking: Scanner, tmp_path: Path, spy: Spy) -> None:
    clock = Clock()
    held = segments(tmp_path / "made", [REAL, FAKE] * 4, seconds=1)
    hls = LiveHls(held, clock, listed=8, ready=8, unsaid=frozenset({1, 3, 5, 7}))
    with from_server(hls, clock, spy) as opened:
        heard = Heard()
        one = watcher(opened, looking, tmp_path)
        assert one.run(go_on, heard) == "ended"
        report = one.report()
        assert report.sampling is not None
        assert report.sampling.decoded == 2 * 8
        assert heard.windows[-1].end_ms == pytest.approx(8_000, abs=20)
        assert report.verdict is not Label.REAL


def has_more_than(heard: Heard, windows: int) -> bool:
    return len(heard.windows) > windows


def test_another_worker_goes_on_where_one_was_stopped(looking: Scanner, tmp_path: Path, spy: Spy) -> None:
    clock = Clock()
    held = segments(tmp_path / "made", GREYS)
    with from_server(LiveHls(held, clock, listed=100, ready=16), clock, spy) as opened:
        whole = Heard()
        watcher(opened, looking, tmp_path).run(go_on, whole)
        parts, runs = Heard(), 0
        while not parts.windows or not parts.windows[-1].is_last:
            cursor = parts.cursors[-1] if parts.cursors else None
            watcher(opened, looking, tmp_path, cursor).run(partial(has_more_than, parts, runs), parts)
            runs += 1
        assert runs > 5
        assert parts.windows == whole.windows
        assert parts.events == whole.events

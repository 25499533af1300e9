"""Real workers, the real reader and the real watch over real connections: streams that stall, lines that are cut."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.worker.queue import told_streams
from tests.worker.queue.harness import Service, service, until
from tests.worker.source.line import Line, line_to
from tests.worker.source.live.streams import Clock, LiveHls
from tests.worker.source.loopback import Answer, Loopback, raw, serve
from tests.worker.watch.stream import REAL
from worker.queue.embedded import EmbeddedRedis
from worker.queue.watch_log import WatchLog
from worker.report import Report
from worker.watch.build import open_watcher

STREAMS = f"{open_watcher.__module__}:{open_watcher.__name__}"
WINDOW_S, HOP_S, FPS = 4, 2, 2
Start = Callable[..., Service]


@pytest.fixture
def start(redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path) -> Iterator[Start]:
    """A queue with one worker for watches."""
    with ExitStack() as stack:

        def begin(watch: dict[str, Any], **queue: Any) -> Service:
            watching = {"window_s": WINDOW_S, "hop_s": HOP_S, "fps": FPS, **watch}
            made = stack.enter_context(service(redis_server.url, redis, tmp_path, others={"watch": watching}, **queue))
            made.start(told_streams.BUILD, ("watch",), streams=STREAMS)
            return made

        yield begin


@pytest.fixture
def serving() -> Iterator[Callable[[Answer], Loopback]]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(serve(answer))


def ended(workers: Service, scan_id: str) -> tuple[Report, list[dict[str, Any]]]:
    """The report, and the events in order."""
    assert workers.ended(scan_id).state == "completed", workers.record(scan_id)
    page = WatchLog(workers.redis, workers.settings.redis.namespace).page(scan_id, limit=10_000)
    assert [event.number for event in page.events] == list(range(page.count))
    return workers.desk.report(scan_id, "acme"), [event.model_dump() for event in page.events]


def windows_told(workers: Service, scan_id: str) -> int:
    return int(workers.redis.hget(f"vf:scan:{scan_id}", "windows") or 0)  # type: ignore[arg-type]


STALLED = LiveHls(told_streams.told(*[REAL] * 9), Clock(), ready=8, listed=100, is_open=True)
"""Eight seconds, of which the last three are read, and then nothing new for ever."""


def test_a_stream_that_stalls_is_lost_when_patience_ends_and_has_its_report(
    start: Start, serving: Callable[[Answer], Loopback]
) -> None:
    workers = start({"give_up_s": 1.0, "window_s": 2, "hop_s": 1})
    report, events = ended(workers, workers.watch(serving(STALLED).url("/live.m3u8")))
    assert events[-1]["detail"] == {"ending": "lost", "code": "fetch_timeout", "missed_ms": {}}
    assert report.watch is not None
    assert (report.watch.ending, report.watch.windows, report.verdict) == ("lost", 3, "real")


def test_a_slice_ends_before_it_would_be_killed(start: Start, serving: Callable[[Answer], Loopback]) -> None:
    """With more patience than a slice may take: with something seen there is a report, without there is a code."""
    workers = start({"give_up_s": 600, "window_s": 2, "hop_s": 1}, timeout_s=8.0, max_attempts=1)
    nothing = raw(b"HTTP/1.1 200 OK\r\n\r\n", b"", every_s=600)
    seen, unseen = (workers.watch(serving(answer).url("/live.m3u8")) for answer in (STALLED, nothing))
    report, events = ended(workers, seen)
    assert events[-1]["detail"]["ending"] == "lost"
    assert events[-1]["detail"]["code"] == "fetch_timeout"
    assert report.watch is not None
    assert report.watch.windows == 3
    record = workers.ended(unseen)
    assert record.error is not None
    assert (record.state, record.error["code"], record.error["message"]) == (
        "failed",
        "fetch_timeout",
        "nothing of the stream came within 6.4 s",
    )


def watched_through(
    server: Loopback, clock: Clock, workers: Service, seconds: int, outage_s: float
) -> tuple[Report, list[dict[str, Any]]]:
    """A stream of so many seconds, its line cut in the middle of it while it runs on."""
    with line_to(server.port) as line:
        scan_id = workers.watch(line.url("/live.m3u8"))
        until(lambda: "/seg0.ts" in [path for path, _ in server.requests], what="the stream is joined")
        clock.sleep(seconds // 3)
        until(lambda: windows_told(workers, scan_id) >= 3, what="some windows")
        through_an_outage(line, clock, workers, scan_id, seconds, outage_s)
        return ended(workers, scan_id)


def through_an_outage(line: Line, clock: Clock, workers: Service, scan_id: str, seconds: int, outage_s: float) -> None:
    line.cut()
    before = line.refused
    clock.sleep(seconds)
    time.sleep(outage_s)
    until(lambda: line.refused > before, what="somebody who tries")
    assert not workers.record(scan_id).is_final
    line.mend()


def check_that_nothing_was_missed(report: Report, events: list[dict[str, Any]], seconds: int) -> None:
    assert report.watch is not None
    assert report.sampling is not None
    assert (report.watch.gaps, report.watch.ending) == ((), "ended")
    assert report.watch.windows == (seconds - WINDOW_S) // HOP_S + 2, "all of them, and the last one"
    assert report.sampling.decoded == seconds * FPS, "no moment twice, and none missed"
    assert [event["kind"] for event in events].count("stream_ended") == 1
    assert len({json.dumps(event["detail"]) + event["kind"] + str(event["track"]) for event in events}) == len(events)


def test_a_line_cut_in_mid_stream_costs_no_window_and_gives_one_report(
    start: Start, serving: Callable[[Answer], Loopback]
) -> None:
    seconds, clock = 24, Clock()
    server = serving(LiveHls(told_streams.told(*[REAL] * seconds), clock, ready=3, listed=100))
    workers = start({"give_up_s": 60})
    report, events = watched_through(server, clock, workers, seconds, outage_s=0.5)
    check_that_nothing_was_missed(report, events, seconds)


@pytest.mark.soak
def test_a_line_cut_for_20_seconds_in_mid_stream(start: Start, serving: Callable[[Answer], Loopback]) -> None:
    seconds, clock = 60, Clock()
    server = serving(LiveHls(told_streams.told(*[REAL] * seconds), clock, ready=3, listed=100))
    workers = start({"max_behind_s": 200})
    report, events = watched_through(server, clock, workers, seconds, outage_s=20)
    check_that_nothing_was_missed(report, events, seconds)

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
from tests.worker.queue.fake_streams import KeepsNothing, slices
from tests.worker.queue.harness import Service, service, until
from tests.worker.source.line import Line, line_to
from tests.worker.source.live.streams import Clock, LiveHls
from tests.worker.source.loopback import Answer, Loopback, raw, serve
from tests.worker.watch.stream import REAL, scanner
from worker.queue.assemble import STREAMS
from worker.queue.connection import connect
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.embedded import EmbeddedRedis
from worker.queue.record import Claim
from worker.queue.records import Records
from worker.queue.requests import RequestOptions, RequestSource, ScanRequest
from worker.queue.watch_log import WatchLog
from worker.report import Report
from worker.settings import Settings

WINDOW_S, HOP_S, FPS = 4, 2, 2
WATCH = {"window_s": WINDOW_S, "hop_s": HOP_S, "fps": FPS, "give_up_s": 60.0}
SHORT = RequestOptions(window_s=2, hop_s=1)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A queue with one worker for watches, whose slices are short."""
    folder = tmp_path_factory.mktemp("watching")
    with (
        EmbeddedRedis(folder / "redis") as server,
        connect(url=server.url, timeout_s=10, patience_s=30) as redis,
        service(server.url, redis, folder, others={"watch": WATCH}, timeout_s=10.0, max_attempts=1) as made,
    ):
        made.start(told_streams.BUILD, ("watch",), streams=STREAMS)
        yield made


@pytest.fixture
def patient_workers(redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path) -> Iterator[Service]:
    """With time limits as they come."""
    with service(redis_server.url, redis, tmp_path, others={"watch": {**WATCH, "max_behind_s": 200.0}}) as made:
        made.start(told_streams.BUILD, ("watch",), streams=STREAMS)
        yield made


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
    redis: Redis, serving: Callable[[Answer], Loopback]
) -> None:
    server = serving(STALLED)
    settings = Settings.model_validate({"watch": {**WATCH, "give_up_s": 5.0}, "source": {"allow_private_hosts": ["127.0.0.1"]}})
    desk, records = Desk(Records(redis, "vf"), Doorbells(redis)), Records(redis, "vf")
    request = ScanRequest(kind="watch", source=RequestSource(url=server.url("/live.m3u8")), options=SHORT)
    scan_id = desk.submit_one(request, "acme").id
    claim = records.claim(scan_id, "w")
    assert isinstance(claim, Claim)
    with scanner() as looking:
        made = slices(records, KeepsNothing(), settings=settings, scanner=looking, name=STREAMS)
        assert made.watch(claim, records.get(scan_id)).how == "finished"
    (*_, last) = made.log.page(scan_id).events
    assert last.detail == {"ending": "lost", "code": "fetch_timeout", "missed_ms": {}}
    report = desk.report(scan_id, "acme")
    assert report.watch is not None
    assert (report.watch.ending, report.watch.windows, report.verdict) == ("lost", 3, "real")


def test_a_slice_ends_before_it_would_be_killed(workers: Service, serving: Callable[[Answer], Loopback]) -> None:
    """With more patience than a slice may take: with something seen there is a report, without there is a code."""
    nothing = raw(b"HTTP/1.1 200 OK\r\n\r\n", b"", every_s=600)
    seen, unseen = (workers.watch(serving(answer).url("/live.m3u8"), options=SHORT) for answer in (STALLED, nothing))
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
        "nothing of the stream came within 8 s",
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
    assert report.watch.windows == (seconds - WINDOW_S) // HOP_S + 1, "all of them, each once"
    assert report.sampling.decoded == seconds * FPS, "no moment twice, and none missed"
    assert [event["kind"] for event in events].count("stream_ended") == 1
    assert len({json.dumps(event["detail"]) + event["kind"] + str(event["track"]) for event in events}) == len(events)


@pytest.mark.parametrize(("seconds", "outage_s"), [(24, 0.2), pytest.param(60, 20, marks=pytest.mark.soak, id="for 20 seconds")])
def test_a_line_cut_in_mid_stream_costs_no_window_and_gives_one_report(
    seconds: int, outage_s: float, serving: Callable[[Answer], Loopback], request: pytest.FixtureRequest
) -> None:
    clock = Clock()
    server = serving(LiveHls(told_streams.told(*[REAL] * seconds), clock, ready=3, listed=100))
    workers = request.getfixturevalue("patient_workers" if outage_s > 8 else "workers")
    report, events = watched_through(server, clock, workers, seconds, outage_s)
    check_that_nothing_was_missed(report, events, seconds)

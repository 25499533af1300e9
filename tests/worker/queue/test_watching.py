"""Watches in slices: one slice in this process, then real workers that are killed and told to go in mid-stream."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from redis import Redis

from tests.worker.queue.fake_scanner import FakeScanner
from tests.worker.queue.fake_streams import FakeWatcher, KeepsNothing, OnWindow, address, slices
from tests.worker.queue.harness import Service, is_running, service, until
from tests.worker.queue.test_perform import Here
from worker.errors import DamagedRecord, FetchTimeout, LeaseLost, UnreadableRecord
from worker.queue.assemble import STREAMS
from worker.queue.backlog import read_backlog
from worker.queue.child import is_poisoned
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.embedded import EmbeddedRedis
from worker.queue.perform import Performer
from worker.queue.record import Claim, Ended
from worker.queue.records import LONGEST_UNREAD_S, LONGEST_UNWANTED_S, PASSED_ON_S, Records
from worker.queue.requests import RequestOptions, RequestSource, ScanRequest
from worker.queue.watch_log import WatchLog
from worker.queue.watching import Slices
from worker.settings import Settings
from worker.watch.recent import Rhythm
from worker.watch.state import WatchState


class Queue:
    """Watches, done slice by slice in this process."""

    def __init__(self, redis: Redis, **options: float) -> None:
        self.records = Records(redis, "vf")
        self.desk, self.bells = Desk(self.records, Doorbells(redis)), Doorbells(redis)
        self.slices: Slices = slices(self.records, KeepsNothing(), **options)  # type: ignore[arg-type]

    def submit(self, url: str, **options: float) -> str:
        request = ScanRequest(kind="watch", source=RequestSource(url=url), options=RequestOptions(**options))  # type: ignore[arg-type]
        return self.desk.submit_one(request, "acme").id

    def claim(self, scan_id: str) -> Claim:
        claim = self.records.claim(scan_id, "w")
        assert isinstance(claim, Claim), claim
        return claim

    def slice(self, scan_id: str) -> str:
        return self.slices.watch(self.claim(scan_id), self.records.get(scan_id)).how

    def perform(self, scan_id: str, folder: Path) -> Ended:
        """An attempt as a worker makes it, without the wait before it."""
        self.records.redis.hset(f"vf:scan:{scan_id}", "not_before_ms", 0)
        performer = Performer(
            records=self.records,
            brisk=self.records,
            scanner=FakeScanner(),
            sources=Here(folder),
            keeper=KeepsNothing(),
            watches=self.slices,
            folder=folder,
        )
        return performer.perform(self.claim(scan_id))

    def windows(self, scan_id: str) -> list[int]:
        return [event.window for event in self.slices.log.page(scan_id).events]


@pytest.fixture
def queue(redis: Redis) -> Queue:
    return Queue(redis)


def test_a_stream_is_watched_to_its_end(queue: Queue) -> None:
    scan_id = queue.submit(address(4), window_s=4, hop_s=2)
    assert queue.bells.hear(("live", "batch", "low"), 1) is None, "not for those who scan"
    assert queue.bells.hear(("watch",), 1) == scan_id
    assert queue.slice(scan_id) == "finished"
    report = queue.desk.report(scan_id, "acme")
    assert (report.id, report.kind, report.owner, report.status, report.verdict) == (
        scan_id,
        "watch",
        "acme",
        "completed",
        "fake",
    )
    assert report.watch is not None
    assert (report.watch.windows, report.watch.hop_s, report.watch.ending) == (5, 2, "ended")
    assert queue.windows(scan_id) == [0, 1, 2, 3, 4]
    assert queue.records.get(scan_id).cache_key is None


def test_slices_take_turns_and_lose_no_window(redis: Redis) -> None:
    queue = Queue(redis, slice_s=0.0)
    first, second = queue.submit(address(3)), queue.submit(address(3))
    turns = []
    while (scan_id := queue.bells.hear(("watch",), 1)) is not None:
        ended = queue.slices.watch(queue.claim(scan_id), queue.records.get(scan_id))
        queue.bells.ring(queue.records.priorities(ended.ring))
        turns.append(scan_id)
    assert turns == [first, second] * 4
    for scan_id in (first, second):
        record = queue.records.get(scan_id)
        assert (record.state, record.attempt, record.tries) == ("completed", 4, 1)
        assert queue.windows(scan_id) == [0, 1, 2, 3]


def test_time_alone_ends_a_slice_only_at_a_window(redis: Redis) -> None:
    """A stream that stands still is not handed round for ever: its reader's patience decides."""
    queue = Queue(redis, slice_s=0.0)
    scan_id = queue.submit(address(1, 0.1))
    assert queue.slice(scan_id) == "queued"
    assert queue.windows(scan_id) == [0]


def test_cancelled_in_mid_stream_it_ends_with_a_normal_report(redis: Redis) -> None:
    queue = Queue(redis, slice_s=0.0)
    scan_id = queue.submit(address(1000))
    assert queue.slice(scan_id) == "queued"
    queue.desk.cancel(scan_id, "acme")
    assert queue.slice(scan_id) == "finished"
    report = queue.desk.report(scan_id, "acme")
    assert report.watch is not None
    assert (report.status, report.watch.ending, report.watch.windows) == ("completed", "stopped", 2)
    assert queue.slices.log.page(scan_id).events[-1].kind == "stream_ended"


def test_watches_of_one_address_have_nothing_to_do_with_each_other(queue: Queue) -> None:
    first, second = queue.submit(address(2)), queue.submit(address(2))
    assert [queue.slice(first), queue.slice(second)] == ["finished", "finished"]
    assert queue.windows(first) == queue.windows(second) == [0, 1, 2]
    assert queue.records.redis.keys("vf:lead:*") == queue.records.redis.keys("vf:result:*") == []


def test_what_cannot_be_watched_at_all_is_the_callers_to_translate(queue: Queue) -> None:
    with pytest.raises(FetchTimeout):
        queue.slice(queue.submit(address(1, down=1)))


def test_one_that_was_overtaken_stops(queue: Queue) -> None:
    scan_id = queue.submit(address(1000, 0.01))
    claim, record = queue.claim(scan_id), queue.records.get(scan_id)
    queue.records.hand_back(claim)
    queue.claim(scan_id)
    with pytest.raises(LeaseLost):
        queue.slices.watch(claim, record)
    assert queue.windows(scan_id) == []


@pytest.fixture
def workers(redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path) -> Iterator[Service]:
    with service(redis_server.url, redis, tmp_path, watch_slice_s=1.0) as made:
        yield made


def test_workers_killed_stopped_and_told_to_go_cost_no_window(workers: Service) -> None:
    """A child killed, a worker frozen that wakes up when another has gone on, a parent killed with its child, SIGTERM."""
    scan_id = workers.watch(address(10_000, 0.02))
    log = WatchLog(workers.redis, "vf")

    def goes_on() -> int:
        count = log.page(scan_id, limit=1).count
        until(lambda: log.page(scan_id, limit=1).count > count + 2, 120, "further windows")
        return count

    first = workers.start(queues=("watch",))
    goes_on()
    os.kill(workers.child_of(first), signal.SIGKILL)
    goes_on()
    child = workers.child_of(first)
    os.kill(first.pid, signal.SIGSTOP)
    os.kill(child, signal.SIGSTOP)
    second = workers.start(queues=("watch",))
    goes_on()
    os.kill(child, signal.SIGCONT)
    os.kill(first.pid, signal.SIGCONT)
    goes_on()
    first.kill()
    first.wait()
    until(lambda: not is_running(child), 60, "its child ends with it")
    goes_on()
    second.terminate()
    assert second.wait(60) == 0
    record = workers.record(scan_id)
    assert (record.state, record.tries) == ("queued", 0), "handed back, and no attempt lost"
    workers.start(queues=("watch",))
    goes_on()
    workers.desk.cancel(scan_id, "acme")
    record = workers.ended(scan_id)
    events = []
    while page := log.page(scan_id, after=len(events) - 1).events:
        events += page
    assert [event.number for event in events] == list(range(len(events)))
    assert [event.window for event in events] == list(range(len(events))), "the stand-in has one event in each window"
    assert [event.kind for event in events].count("stream_ended") == 1
    report = workers.desk.report(scan_id, "acme")
    assert report.watch is not None
    assert (report.status, report.watch.ending, report.watch.windows) == ("completed", "stopped", len(events))


def test_cancelled_by_force_it_has_its_report_too(redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path) -> None:
    with service(redis_server.url, redis, tmp_path, grace_s=0.1) as workers:
        workers.start(queues=("watch",))
        scan_id = workers.watch(address(3, hangs=1))
        log = WatchLog(redis, "vf")
        until(lambda: log.page(scan_id).count == 3, 60, "its windows")
        assert workers.desk.cancel(scan_id, "acme") == "running"
        assert workers.ended(scan_id).state == "completed"
        report = workers.desk.report(scan_id, "acme")
        assert report.watch is not None
        assert (report.watch.ending, report.watch.windows) == ("stopped", 4)


@pytest.mark.parametrize("stored", [b"", b"[]", b"{}", b'{"version": 1}', b"\xff", b"[" * 100_000, b'{"version": 1e400}'])
def test_a_cursor_that_is_none_ends_the_attempt_with_a_code(stored: bytes, redis: Redis) -> None:
    queue = Queue(redis, name=STREAMS)  # type: ignore[arg-type]
    scan_id = queue.submit("http://stream.example/live.m3u8")
    redis.set(f"vf:cursor:{scan_id}", stored)
    with pytest.raises((UnreadableRecord, DamagedRecord)):
        queue.slice(scan_id)


def test_a_watch_with_a_cursor_of_a_later_version_waits_for_another_worker(redis: Redis, tmp_path: Path) -> None:
    queue = Queue(redis, name=STREAMS)  # type: ignore[arg-type]
    scan_id = queue.submit("http://stream.example/live.m3u8")
    redis.set(f"vf:cursor:{scan_id}", b'{"version": 99}')
    assert queue.perform(scan_id, tmp_path).how == "queued"
    assert (queue.records.get(scan_id).state, redis.get(f"vf:cursor:{scan_id}")) == ("queued", b'{"version": 99}')


def test_one_whose_reader_only_a_later_version_has_waits_for_that_too(redis: Redis, tmp_path: Path) -> None:
    queue, settings = Queue(redis, name=STREAMS), Settings().watch  # type: ignore[arg-type]
    scan_id = queue.submit("http://stream.example/live.m3u8")
    rhythm = Rhythm(window_s=settings.window_s, hop_s=settings.hop_s, fps=settings.fps)
    cursor = WatchState.new(rhythm, evidence_per_track=1).cursor() | {"position": {"kind": "dash", "clock_s": 0.0}}
    redis.set(f"vf:cursor:{scan_id}", json.dumps(cursor))
    assert queue.perform(scan_id, tmp_path).how == "queued"


def test_a_cancelled_one_that_no_worker_can_read_is_not_open_for_long(redis: Redis, tmp_path: Path) -> None:
    queue = Queue(redis, name=STREAMS)  # type: ignore[arg-type]
    scan_id = queue.submit("http://stream.example/live.m3u8")
    redis.set(f"vf:cursor:{scan_id}", b'{"version": 99}')
    assert queue.perform(scan_id, tmp_path).how == "queued"
    assert queue.desk.cancel(scan_id, "acme") == "queued"
    assert queue.perform(scan_id, tmp_path).how == "queued", "somebody may be able to write its report"
    redis.hset(f"vf:scan:{scan_id}", "passed_on", f"{queue.records.now_ms() - 1000 * LONGEST_UNWANTED_S} 2")
    assert queue.perform(scan_id, tmp_path).how == "cancelled"
    assert (queue.records.get(scan_id).state, redis.hget("vf:open", "acme")) == ("cancelled", b"0")


def test_what_nobody_could_read_for_long_is_looked_at_rarely(redis: Redis, tmp_path: Path) -> None:
    queue = Queue(redis, name=STREAMS)  # type: ignore[arg-type]
    scan_id = queue.submit("http://stream.example/live.m3u8")
    redis.set(f"vf:cursor:{scan_id}", b'{"version": 99}')
    for attempt, (since_s, least_s) in enumerate([(0, PASSED_ON_S), (400, 100), (7200, LONGEST_UNREAD_S)]):
        now_ms = queue.records.now_ms()
        redis.hset(f"vf:scan:{scan_id}", "passed_on", f"{now_ms - 1000 * since_s} {attempt}")
        assert queue.perform(scan_id, tmp_path).how == "queued"
        waits_ms = int(redis.hget(f"vf:scan:{scan_id}", "not_before_ms")) - now_ms  # type: ignore[arg-type]
        assert 1000 * least_s <= waits_ms < 1000 * (least_s + 60)


def test_what_nobody_can_read_counts_as_waiting_all_the_while(redis: Redis, tmp_path: Path) -> None:
    queue = Queue(redis, name=STREAMS)  # type: ignore[arg-type]
    scan_id = queue.submit("http://stream.example/live.m3u8")
    redis.set(f"vf:cursor:{scan_id}", b'{"version": 99}')
    redis.hset(f"vf:scan:{scan_id}", "passed_on", f"{queue.records.now_ms() - 400_000} 0")
    assert queue.perform(scan_id, tmp_path).how == "queued"
    queue.records.tidy([scan_id])
    assert read_backlog(queue.records).oldest_s["watch"] >= 400


def test_one_whose_state_no_version_can_read_is_given_up_after_three_attempts(redis: Redis, tmp_path: Path) -> None:
    damaged = Queue(redis, name=STREAMS)  # type: ignore[arg-type]
    scan_id = damaged.submit("http://stream.example/live.m3u8")
    redis.set(f"vf:cursor:{scan_id}", b'{"version": 1}')
    assert [damaged.perform(scan_id, tmp_path).how for _ in range(3)] == ["again", "again", "dead"]
    behind = Queue(redis, slice_s=0.0)
    scan_id = behind.submit(address(1000))
    assert behind.slice(scan_id) == "queued"
    redis.hset(f"vf:scan:{scan_id}", "windows", 0)  # restored from before its cursor
    ended = [behind.perform(scan_id, tmp_path) for _ in range(3)]
    assert [one.how for one in ended] == ["again", "again", "dead"]
    assert not any(is_poisoned(one) for one in ended)


class Waits(FakeWatcher):
    """A stream that gives a window, then nothing while the clock goes on in ``steps_s``, then its end."""

    def __init__(self, *steps_s: float) -> None:
        super().__init__(Settings(), address(1), None)
        self._steps_s, self.now_s = steps_s, 0.0

    def run(self, stop: Callable[[], bool], on_window: OnWindow) -> str:
        self._tell(on_window, "track_seen")
        stop()
        for step_s in self._steps_s:
            self.now_s += step_s
            if stop():
                return "stopped"
        self.finish("ended", on_window)
        return "ended"


@pytest.mark.parametrize(
    ("steps_s", "ending"),
    [([1.0, 850.0, 1.0], "ended"), ([1.0] * 850, "lost"), ([60.0] * 14, "lost"), ([120.0] * 14, "lost")],
    ids=["it stood still itself", "waited for", "waited for while each piece takes long", "each piece hangs the decoder"],
)
def test_a_stream_without_a_window_is_lost_unless_the_watch_stood_still_itself(
    queue: Queue, steps_s: list[float], ending: str
) -> None:
    scan_id, waits = queue.submit(address(1)), Waits(*steps_s)
    queue.slices.open_watcher, queue.slices.clock = lambda url, options, cursor: nullcontext(waits), lambda: waits.now_s
    assert queue.slices.timeout_s == 900
    assert queue.slice(scan_id) == "finished"
    watch = queue.desk.report(scan_id, "acme").watch
    assert watch is not None
    assert watch.ending == ending
    assert waits.now_s < queue.slices.timeout_s, "then the parent kills it"

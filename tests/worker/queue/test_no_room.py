"""A worker without room on its disk, or without the store, beside others: what it cannot do is theirs, and costs no attempt."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.worker.queue.fake_streams import address
from tests.worker.queue.harness import service, until
from tests.worker.queue.test_perform import Attempt, Here
from tests.worker.queue.test_watching import Queue
from worker.artifacts import open_store
from worker.errors import FetchRateLimited, StorageDown, StorageError, StorageFull
from worker.queue.child import is_short_of_room
from worker.queue.embedded import EmbeddedRedis
from worker.queue.fetching import upload_key
from worker.queue.perform import LONGEST_WITHOUT_ROOM_S, OFTEN
from worker.queue.records import LONGEST_PASSED_ON_S
from worker.queue.requests import RequestSource, ScanRequest
from worker.queue.watch_log import WatchLog
from worker.report import new_id


@pytest.mark.parametrize("error", [StorageFull("no room for the bytes"), StorageDown("no answer")])
def test_what_one_worker_has_no_room_for_costs_no_attempt(redis: Redis, tmp_path: Path, error: StorageError) -> None:
    attempt = Attempt(redis, tmp_path)
    scan_id = attempt.submit()
    for _ in range(4):
        assert attempt.perform(scan_id, error=error) == "queued"
        waits_ms = attempt.records.get(scan_id).not_before_ms - attempt.records.now_ms()
        assert waits_ms <= 1000 * attempt.records.terms.backoff_s, "no longer than after a failed attempt"
        redis.hset(f"vf:scan:{scan_id}", "not_before_ms", 0)
    assert attempt.perform(scan_id) == "finished"
    assert attempt.records.get(scan_id).tries == 1
    assert attempt.told.counts["scans_left_total", error.code] == 4


def test_nor_does_a_disk_that_takes_no_folder(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    attempt = Attempt(redis, tmp_path)
    scan_id = attempt.submit()
    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", full)
        assert attempt.perform(scan_id) == "queued"
    assert attempt.records.get(scan_id).tries == 0
    redis.hset(f"vf:scan:{scan_id}", "not_before_ms", 0)
    assert attempt.perform(scan_id) == "finished"


@pytest.mark.parametrize(
    ("error", "attempts", "since_s", "how"),
    [
        (StorageFull("no room"), OFTEN, LONGEST_WITHOUT_ROOM_S - 60, "queued"),
        (StorageFull("no room"), OFTEN, LONGEST_WITHOUT_ROOM_S, "dead"),
        (StorageFull("no room"), 2, LONGEST_WITHOUT_ROOM_S, "queued"),
        (StorageFull("no room"), 2, LONGEST_PASSED_ON_S, "dead"),
        (StorageDown("no room"), OFTEN, LONGEST_WITHOUT_ROOM_S, "queued"),
        (StorageDown("no room"), OFTEN, LONGEST_PASSED_ON_S, "dead"),
    ],
)
def test_what_no_worker_has_room_for_ends_some_time(
    redis: Redis, tmp_path: Path, error: StorageError, attempts: int, since_s: int, how: str
) -> None:
    attempt = Attempt(redis, tmp_path)
    scan_id = attempt.submit()
    since_ms = attempt.records.now_ms() - 1000 * since_s
    passed_on = {"attempt": attempts - 1, "passed_on": f"{since_ms} {attempts - 1}"}
    redis.hset(f"vf:scan:{scan_id}", mapping=passed_on | {"no_room": f"{since_ms} {attempts - 1} {attempts - 1}"})
    assert attempt.perform(scan_id, error=error) == how
    if how == "dead":
        assert attempt.records.get(scan_id).error == {"code": "internal", "message": "no room", "retryable": True}


def test_what_other_reasons_took_is_no_want_of_room(redis: Redis, tmp_path: Path) -> None:
    """As where a store was away for half an hour, or a watch has had many slices; and it counts by itself, without a gap."""

    def passed_on(error: StorageError) -> str:
        redis.hset(f"vf:scan:{scan_id}", "not_before_ms", 0)
        how = attempt.perform(scan_id, error=error)
        for name in ("passed_on", "no_room"):  # 200 s ago
            since, *others = (redis.hget(f"vf:scan:{scan_id}", name) or b"0").decode().split()
            redis.hset(f"vf:scan:{scan_id}", name, " ".join([str(int(since) - 200_000), *others]))
        return how

    attempt = Attempt(redis, tmp_path)
    scan_id = attempt.submit()
    errors = [StorageDown("no answer")] * OFTEN + [StorageFull("no room")] * (OFTEN - 1) + [StorageDown("no answer")]
    assert {passed_on(error) for error in errors} == {"queued"}
    assert [passed_on(StorageFull("no room")) for _ in range(OFTEN)] == ["queued"] * (OFTEN - 1) + ["dead"]


@pytest.mark.parametrize(
    ("error", "since_s"), [(StorageFull("no room"), LONGEST_WITHOUT_ROOM_S), (StorageDown("no answer"), LONGEST_PASSED_ON_S)]
)
def test_a_turn_at_a_site_that_is_waited_for_in_between_puts_no_end_off(
    redis: Redis, tmp_path: Path, error: StorageError, since_s: int
) -> None:
    """A busy site's post takes a turn for each download, and waits for it in an attempt of its own."""
    attempt = Attempt(redis, tmp_path)
    scan_id = attempt.submit()

    def performed(error: Exception, ago_s: float = 0) -> str:
        for name in ("passed_on", "no_room") if ago_s else ():
            since, *others = (redis.hget(f"vf:scan:{scan_id}", name) or b"0").decode().split()
            redis.hset(f"vf:scan:{scan_id}", name, " ".join([str(int(since) - round(1000 * ago_s)), *others]))
        redis.hset(f"vf:scan:{scan_id}", "not_before_ms", 0)
        return attempt.perform(scan_id, error=error)

    turn = FetchRateLimited("asked often enough", retry_after_s=60.0, is_turn=True)
    for _ in range(OFTEN - 1):
        assert [performed(error), performed(turn)] == ["queued", "queued"]
    assert performed(error, ago_s=since_s) == "dead"


@pytest.mark.parametrize(
    ("error", "is_cancelled", "rests"),
    [(StorageFull("no room"), False, True), (StorageFull("no room"), True, False), (StorageDown("no answer"), False, False)],
    ids=["full disk", "not wanted any more", "no store"],
)
def test_only_who_leaves_a_scan_for_want_of_room_rests(
    redis: Redis, tmp_path: Path, error: StorageError, is_cancelled: bool, rests: bool
) -> None:
    attempt = Attempt(redis, tmp_path)
    scan_id = attempt.submit()

    def told() -> Iterator[int]:
        if is_cancelled:
            attempt.desk.cancel(scan_id, "acme")
        yield from ()

    ended = attempt.perform_with(Here(tmp_path, error, pieces=told()), scan_id)
    assert ended.how == ("cancelled" if is_cancelled else "queued")
    assert is_short_of_room(ended) is rests


def test_a_watch_that_had_a_window_meanwhile_waits_anew(redis: Redis) -> None:
    queue = Queue(redis, slice_s=0.0)
    scan_id = queue.submit(address(2))
    queue.records.pass_on(queue.claim(scan_id), "no room for a piece", wait_s=0)
    assert redis.hexists(f"vf:scan:{scan_id}", "passed_on")
    assert queue.slice(scan_id) == "queued"
    assert not redis.hexists(f"vf:scan:{scan_id}", "passed_on")
    assert queue.records.get(scan_id).tries == 0
    assert WatchLog(redis, "vf").page(scan_id).count == 1


def test_a_worker_whose_disk_is_full_leaves_scans_to_one_that_has_room(
    redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path
) -> None:
    store, upload, log = open_store(str(tmp_path / "store")), new_id(), tmp_path / "log"
    store.put(upload_key(upload), b"ok " * 1000, expires_at=time.time() + 600)
    others = {"artifacts": {"url": str(tmp_path / "store")}}
    with service(redis_server.url, redis, tmp_path, others=others) as queue, log.open("wb") as queue.log:
        resource.prlimit(queue.child_of(queue.start()), resource.RLIMIT_FSIZE, (100, 100))
        scan_id = queue.desk.submit_one(ScanRequest(source=RequestSource(upload=upload)), "acme").id
        until(lambda: b"there was no room for this one" in log.read_bytes() or queue.record(scan_id).is_final, 60, "it is met")
        queue.start()
        record = queue.ended(scan_id)
        assert (record.state, record.tries) == ("completed", 1)

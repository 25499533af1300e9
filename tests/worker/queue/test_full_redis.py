"""A Redis that is full for a while: it answers, and refuses what is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redis import Redis

from tests.worker.queue.harness import Service, service, until
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis

FULL, ROOMY = 1, 0
TIMES = {"lease_s": 0.6, "reconcile_s": 3.0, "hold_s": 0.3}
"""A scan that is lost counts as such only after its worker had time; it stays in each stage so long that it can be met there."""


@contextlib.contextmanager
def serving(server: EmbeddedRedis, folder: Path, **more: Any) -> Iterator[tuple[Service, Redis]]:
    with (
        connect(url=server.url, timeout_s=5, patience_s=30) as redis,
        service(server.url, redis, folder, **TIMES, **more) as queue,
        (folder / "log").open("wb") as queue.log,
    ):
        yield queue, redis


def test_a_result_waits_until_redis_has_room_for_it(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    with serving(own_redis, tmp_path) as (queue, redis):
        worker = queue.start()
        scan_id = queue.submit()
        queue.staged(scan_id, "store")
        redis.config_set("maxmemory", FULL)
        until(lambda: scan_id in queue.desk.records.expired(), 60, "its lease runs out, which nobody can renew")
        redis.config_set("maxmemory", ROOMY)
        record = queue.ended(scan_id)
        assert (record.state, record.tries, record.attempt) == ("completed", 1, 1)
        assert worker.poll() is None


def test_a_scan_that_could_not_be_handed_back_is_so_when_redis_has_room(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    with serving(own_redis, tmp_path, patience_s=0.1) as (queue, redis):
        worker = queue.start()
        scan_id = queue.submit()
        queue.staged(scan_id, "store")
        redis.config_set("maxmemory", FULL)
        until(lambda: b"waiting for Redis: Redis is full" in (tmp_path / "log").read_bytes(), 60, "it is refused")
        redis.config_set("maxmemory", ROOMY)
        record = queue.ended(scan_id)
        assert (record.state, record.tries, record.attempt) == ("completed", 1, 2)
        assert worker.poll() is None


def test_a_running_scan_goes_on_and_its_process_stays(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    with serving(own_redis, tmp_path) as (queue, redis):
        worker = queue.start()
        scan_id = queue.submit("tell:1.1 tell:1.1")
        queue.staged(scan_id, "infer")
        redis.config_set("maxmemory", FULL)
        until(
            lambda: b": store" in (tmp_path / "log").read_bytes(), 20, "no word of progress waits for room: only the result does"
        )
        redis.config_set("maxmemory", ROOMY)
        record = queue.ended(scan_id)
        assert (record.state, record.tries, record.attempt) == ("completed", 1, 1)
        assert worker.poll() is None

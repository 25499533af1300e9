"""The queue's own speed on an embedded Redis: enqueueing through the client, and scans that do nothing by one real worker.

Records, leases, fencing and the result cache are on, callbacks off; every file is other bytes. The worker is timed on Redis's
clock, from the first scan's start to the last one's end. Bare RQ works off as many jobs that do nothing, on the same server.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from rq import Queue

from optimize.bench.bare_rq import nothing
from worker.errors import RedisDown
from worker.queue import ScanClient
from worker.queue.assemble import told_settings
from worker.queue.embedded import EmbeddedRedis
from worker.queue.front import build_records
from worker.queue.records import Records
from worker.queue.supervisor import Program, Supervisor
from worker.settings import Settings

ROUNDS = 3
END_S = 600.0
OnRate = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSpeed:
    """All by the second. ``enqueued`` is the median of some rounds; None: not measured."""

    enqueued: float
    scanned: float | None = None
    forking_rq: float | None = None
    simple_rq: float | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(*, enqueue: int, scans: int, on_rate: OnRate = lambda name, rate: None) -> QueueSpeed:
    """``enqueue``: scans of each round; ``scans``: by the worker, and jobs by bare RQ; 0: not measured. Raises RedisDown."""
    with tempfile.TemporaryDirectory(prefix="veriframe-bench-") as name, EmbeddedRedis(Path(name, "redis")) as server:
        media = Path(name, "media")
        media.mkdir()
        settings = _settings(server.url, media)
        rates: dict[str, float] = {}

        def told(key: str, rate: float) -> None:
            rates[key] = rate
            on_rate(key, rate)

        with Redis.from_url(server.url) as redis:
            told("enqueued", statistics.median(_enqueue_rate(settings, redis, enqueue) for _ in range(ROUNDS)))
            if scans:
                told("scanned", _scan_rate(settings, redis, media, scans))
                told("forking_rq", _bare_rate(redis, server.url, "forking", scans))
                told("simple_rq", _bare_rate(redis, server.url, "simple", scans))
    return QueueSpeed(**rates)


def _settings(url: str, media: Path) -> Settings:
    return Settings.model_validate(
        {
            "redis": {"url": url},
            "queue": {"media_roots": [str(media)], "max_backlog": 10_000_000, "scans_per_child": 0, "child_growth_mib": 0},
            "api": {"open_scans": 10_000_000},
            "telemetry": {"log_level": "warning"},
        }
    )


def _enqueue_rate(settings: Settings, redis: Redis, count: int) -> float:
    redis.flushall()
    with ScanClient.from_settings(settings) as client:
        client.enqueue("https://example.org/first.mp4")
        urls = (f"https://example.org/posts/{number}/clip.mp4" for number in range(count))
        started = time.perf_counter()
        made = sum(answer.created for answer in client.enqueue_many(urls))
        rate = count / (time.perf_counter() - started)
    records = build_records(settings, redis)
    if not made == redis.zcard(records.key("index")) - 1 == count:
        raise RuntimeError(f"of {count} scans {made} were enqueued")
    redis.flushall()
    return rate


def _scan_rate(settings: Settings, redis: Redis, media: Path, count: int) -> float:
    paths = [media / f"{number}.bin" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_text(str(number))
    records = build_records(settings, redis)
    with ScanClient.from_settings(settings) as client:
        ids = [answer.id for answer in client.enqueue_many(paths)]
        with _worker(settings):
            states = client.wait(ids, END_S)
    if set(states.values()) != {"completed"}:
        raise RuntimeError(f"not all scans were completed: {sorted({str(state) for state in states.values()})}")
    rate = count / _seconds_taken(records, ids)
    redis.flushall()
    return rate


def _seconds_taken(records: Records, ids: list[str]) -> float:
    found = records.get_many(ids)
    return (max(one.finished_ms or 0 for one in found) - min(one.started_ms or 0 for one in found)) / 1000


@contextmanager
def _worker(settings: Settings) -> Iterator[None]:
    """One worker as ``veriframe worker`` runs it, with a scanner that does nothing."""
    order = {"settings": told_settings(settings), "queues": ["live", "batch", "low"], "build": "optimize.bench.no_op:build"}
    supervisor = Supervisor(
        programs=[Program(name="worker", module="worker.queue.parent", order=order)], grace_s=10.0, silent_s=180.0
    )
    with ThreadPoolExecutor(1, thread_name_prefix="supervisor") as pool:
        running = [pool.submit(supervisor.run)]
        try:
            yield
        finally:
            stop([supervisor], running)


def stop(supervisors: Sequence[Supervisor], running: Sequence[Future[Any]]) -> None:
    """Stop them and wait until they have ended, also where a signal ends the bench meanwhile: workers would outlive it, and wait
    for its Redis. (A thread whose ``join`` was interrupted counts as ended, before Python 3.13.)"""
    for supervisor in supervisors:
        supervisor.stop()
    try:
        wait(running)
    except BaseException:
        wait(running)
        raise


def _bare_rate(redis: Redis, url: str, kind: str, count: int) -> float:
    queue = Queue(f"bare-{kind}", connection=redis)
    queue.enqueue_many([Queue.prepare_data(nothing, result_ttl=0) for _ in range(count)])
    command = [sys.executable, "-m", "optimize.bench.bare_rq", url, queue.name, kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=END_S, check=False)
    if done.returncode != 0 or queue.count:
        raise RedisDown(f"bare RQ did not get through: {done.stderr[-500:]}")
    return count / float(done.stdout.split()[-1])

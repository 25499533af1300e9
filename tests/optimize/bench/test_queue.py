"""The queue's bench, small: a real server, a real worker, bare RQ."""

from __future__ import annotations

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue, SimpleWorker
from typer.testing import CliRunner

from optimize.bench.bare_rq import nothing, work_off
from optimize.bench.queue import measure, stop
from optimize.cli import app
from worker.queue.embedded import EmbeddedRedis
from worker.queue.supervisor import Supervisor


def test_all_four_rates_are_measured() -> None:
    told: list[tuple[str, float]] = []
    speed = measure(enqueue=600, scans=4, on_rate=lambda name, rate: told.append((name, rate)))
    assert dict(told) == speed.as_json()
    assert all(rate > 0 for _, rate in told)
    assert [name for name, _ in told] == ["enqueued", "scanned", "forking_rq", "simple_rq"]


def test_what_rq_takes_to_stop_is_no_jobs_time(tmp_path: Path) -> None:
    class Slow(SimpleWorker):
        def teardown(self) -> None:
            time.sleep(0.5)
            super().teardown()

    with EmbeddedRedis(tmp_path / "redis") as server, Redis.from_url(server.url) as redis:
        queue = Queue("slow", connection=redis)
        queue.enqueue_many([Queue.prepare_data(nothing, result_ttl=0) for _ in range(2)])
        assert 0 < work_off(Slow, queue, redis) < 0.5


def test_enqueueing_alone(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["queue", "--enqueue", "50", "--scans", "0", "--json", str(tmp_path / "queue.json")])
    assert result.exit_code == 0, result.output
    figures = {one["name"]: one["value"] for one in json.loads((tmp_path / "queue.json").read_text())["figures"]}
    assert figures["enqueued by enqueue_many"] > 0
    assert figures["no-op scans by one worker, with records and leases"] is None
    assert "enqueued by enqueue_many" in result.output


def test_workers_are_waited_for_although_the_bench_is_stopped_meanwhile() -> None:
    supervisor = Supervisor(programs=[], grace_s=1.0, silent_s=10.0)
    ended = threading.Event()

    def run() -> None:
        supervisor.run()
        time.sleep(0.3)
        ended.set()

    with ThreadPoolExecutor(1) as pool:
        running = [pool.submit(run)]
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            with pytest.raises(KeyboardInterrupt):
                stop([supervisor], running)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert ended.is_set()

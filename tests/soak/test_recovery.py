"""How long a scan waits after its worker was killed, with the default settings."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.worker.queue.harness import service, until
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis
from worker.service_settings import QueueSettings

KILLS = 8


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_killed_workers_scan_runs_again_within_15_s(tmp_path: Path) -> None:
    default = QueueSettings()
    given = {name: getattr(default, name) for name in ("lease_s", "reconcile_s", "ring_again_s", "backoff_s", "grace_s")}
    waited: list[float] = []
    rng = random.Random(5)
    with (
        EmbeddedRedis(tmp_path / "redis") as server,
        connect(url=server.url, timeout_s=10, patience_s=60) as redis,
        service(server.url, redis, tmp_path, **given) as queue,
    ):
        standby = queue.start()
        for number in range(KILLS):
            os.kill(standby.pid, signal.SIGSTOP)  # so that the other one gets the scan
            victim = queue.start()
            scan_id = queue.submit(f"sleep:4 {number}")
            queue.staged(scan_id, "infer")
            os.kill(standby.pid, signal.SIGCONT)
            time.sleep(rng.uniform(0, 2))
            victim.kill()
            killed = time.monotonic()
            victim.wait()
            until(lambda: queue.record(scan_id).attempt == 2, 60, "the second attempt")  # noqa: B023 (called at once)
            waited.append(time.monotonic() - killed)
            assert queue.ended(scan_id).state == "completed"
    ordered = sorted(waited)
    print(f"\n{KILLS} kills: min {ordered[0]:.1f} s, median {ordered[KILLS // 2]:.1f} s, max {ordered[-1]:.1f} s")
    assert ordered[-1] < 15


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_redis_paused_for_20_s_costs_no_attempt(tmp_path: Path) -> None:
    default = QueueSettings()
    given = {name: getattr(default, name) for name in ("lease_s", "reconcile_s", "ring_again_s", "backoff_s", "grace_s")}
    with (
        EmbeddedRedis(tmp_path / "redis", appendonly=True) as server,
        connect(url=server.url, timeout_s=5, patience_s=60) as redis,
        service(server.url, redis, tmp_path, **given) as queue,
    ):
        queue.start()
        queue.start()
        running, waiting = queue.submit("sleep:30"), queue.submit("ok")
        queue.staged(running, "infer")
        queue.ended(waiting)
        server.pause()
        time.sleep(20)
        server.resume()
        record = queue.ended(running, 60)
        print(f"\n{record.state} in attempt {record.attempt}")
        assert (record.state, record.attempt) == ("completed", 1)

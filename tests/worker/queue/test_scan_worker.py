"""Real worker processes, killed, stopped and hung in mid-scan: every scan ends in one final record."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from tests.worker.queue.harness import BUILD, Service, is_running, service, until
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis
from worker.queue.requests import RequestSource, ScanRequest
from worker.queue.site_limits import RedisSiteLimiter


@pytest.fixture
def queue(redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path) -> Iterator[Service]:
    """For tests that end their workers."""
    with service(redis_server.url, redis, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With one worker that outlives what the tests do to its scans; each of these is tried twice."""
    folder = tmp_path_factory.mktemp("standing")
    with (
        EmbeddedRedis(folder / "redis") as server,
        connect(url=server.url, timeout_s=5, patience_s=30) as redis,
        service(server.url, redis, folder, max_attempts=2) as made,
    ):
        made.metrics = folder / "metrics"
        made.metrics.mkdir()
        made.start()
        yield made


@contextmanager
def restarted(queue: Service, why: str, times: int = 1) -> Iterator[None]:
    """Inside, scanning processes are started again so often for this reason, and for no other."""

    def restarts() -> dict[str, float]:
        found = {name: value for name, value in queue.told().items() if name.startswith("child_restarts_total ")}
        return {name.split()[1]: value for name, value in found.items()}

    before = restarts()
    yield
    expected = before | {why: before.get(why, 0) + times}
    until(lambda: restarts() == expected, 60, f"{expected}, not {restarts()}")


def test_scans_are_done_on_one_warm_model(standing: Service) -> None:
    standing.ended(standing.submit("before"))  # by then the worker has told of the process that does it
    (before,) = standing.live().values()
    ids = [standing.submit(f"ok {n}") for n in range(12)]
    for scan_id in ids:
        record = standing.ended(scan_id)
        assert (record.state, record.attempt, record.sha256 is not None) == ("completed", 1, True)
        report = standing.desk.report(scan_id, "acme")
        assert (report.id, report.verdict, report.source.kind) == (scan_id, "real", "path")
    (after,) = standing.live().values()
    assert (after["starts"], after["child"]) == (before["starts"], before["child"])
    assert standing.redis.keys("rq:job:*") == []


def test_live_scans_go_first(standing: Service) -> None:
    busy = standing.submit("tell:0.2 " * 300)
    standing.staged(busy, "infer")
    low, live = standing.submit("a", priority="low"), standing.submit("b", priority="live")
    standing.desk.cancel(busy, "acme")
    assert (standing.ended(live).finished_ms or 0) < (standing.ended(low).finished_ms or 0)


def test_a_killed_child_costs_one_attempt(standing: Service) -> None:
    (worker,) = standing.workers
    scan_id = standing.submit("sleep:1.5")
    standing.staged(scan_id, "infer")
    with restarted(standing, "died"):
        os.kill(standing.child_of(worker), signal.SIGKILL)
        record = standing.ended(scan_id)
    assert (record.state, record.attempt) == ("completed", 2)
    assert worker.poll() is None


@pytest.mark.parametrize("both", [False, True], ids=["parent", "parent and child"])
def test_a_killed_parent_takes_its_child_along_and_another_worker_takes_over(queue: Service, both: bool) -> None:
    first = queue.start()
    scan_id = queue.submit("sleep:1.5")
    queue.staged(scan_id, "infer")
    child = queue.child_of(first)
    os.kill(first.pid, signal.SIGKILL)
    if both:
        os.kill(child, signal.SIGKILL)
    first.wait()
    until(lambda: not is_running(child), 60, "the child ends with its parent")
    queue.start()
    record = queue.ended(scan_id)
    assert (record.state, record.attempt) == ("completed", 2)


def test_a_stopped_worker_that_wakes_up_cannot_overwrite(queue: Service) -> None:
    first = queue.start()
    scan_id = queue.submit("sleep:1")
    queue.staged(scan_id, "infer")
    child = queue.child_of(first)
    os.kill(first.pid, signal.SIGSTOP)
    os.kill(child, signal.SIGSTOP)
    queue.start()
    record = queue.ended(scan_id)
    assert (record.state, record.attempt) == ("completed", 2)
    before = queue.redis.hgetall(f"vf:scan:{scan_id}")
    os.kill(child, signal.SIGCONT)
    os.kill(first.pid, signal.SIGCONT)
    other = queue.submit("after")
    queue.ended(other)
    assert queue.redis.hgetall(f"vf:scan:{scan_id}") == before


def test_media_that_kill_every_time_end_in_the_dead_letter(standing: Service) -> None:
    scan_id, good = standing.submit("kill"), standing.submit("fine")
    record = standing.ended(scan_id)
    assert (record.state, record.dead, record.tries) == ("failed", True, 2)
    assert record.error is not None
    assert record.error["code"] == "internal"
    assert "SIGKILL" in record.error["message"]
    assert standing.ended(good).state == "completed"


def test_a_coded_error_is_the_records_and_retried_if_it_may_help(standing: Service) -> None:
    record = standing.ended(standing.submit("crash"))
    assert (record.state, record.dead, record.tries) == ("failed", True, 2)
    assert record.error is not None
    assert record.error["code"] == "decode_crash"


def test_a_bug_costs_the_scan_and_the_process_not_the_worker(standing: Service) -> None:
    with restarted(standing, "poisoned", times=2):
        record = standing.ended(standing.submit("bug"))
    assert record.error == {"code": "internal", "message": "RuntimeError", "retryable": True}
    assert standing.ended(standing.submit("fine")).state == "completed"


def test_a_hang_in_c_is_ended_at_the_limit(redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path) -> None:
    with service(redis_server.url, redis, tmp_path, timeout_s=1.0) as queue:
        queue.metrics = tmp_path
        worker = queue.start()
        with restarted(queue, "timeout"):
            record = queue.ended(queue.submit("hang"))
        assert record.state == "failed"
        assert record.error is not None
        assert record.error["code"] == "decode_timeout"
        assert queue.ended(queue.submit("fine")).state == "completed"
        assert worker.poll() is None


def test_a_redis_that_takes_no_writes_for_a_while_costs_no_worker(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    with connect(url=own_redis.url, timeout_s=5, patience_s=30) as redis, service(own_redis.url, redis, tmp_path) as queue:
        worker = queue.start()
        scan_id = queue.submit("sleep:1")
        queue.staged(scan_id, "infer")
        redis.config_set("min-replicas-to-write", 1)
        time.sleep(1.5)
        redis.config_set("min-replicas-to-write", 0)
        assert queue.ended(scan_id).state == "completed"
        assert worker.poll() is None


def test_sigterm_is_heard_while_the_model_is_loaded(queue: Service) -> None:
    worker = queue.start(build="tests.worker.queue.fake_scanner:build_slowly", wait=False)
    until(lambda: queue.live() != {}, 60, "it says that it is there")
    (facts,) = queue.live().values()
    assert (facts["ready"], facts["state"]) == (False, "started")
    worker.terminate()
    assert worker.wait(60) == 0


def test_a_cancelled_scan_leaves_the_model_warm(standing: Service) -> None:
    (worker,) = standing.workers
    standing.ended(standing.submit("before"))
    child = standing.child_of(worker)
    scan_id = standing.submit("tell:0.2 " * 200)
    standing.staged(scan_id, "infer")
    standing.desk.cancel(scan_id, "acme")
    assert standing.ended(scan_id).state == "cancelled"
    standing.ended(standing.submit("after"))
    assert is_running(child)


def test_cancelling_ends_a_running_scan(standing: Service) -> None:
    scan_id = standing.submit("sleep:600")
    standing.staged(scan_id, "infer")
    with restarted(standing, "cancelled"):
        assert standing.desk.cancel(scan_id, "acme") == "running"
        assert standing.ended(scan_id).state == "cancelled"


def test_sigterm_lets_a_short_scan_end(queue: Service) -> None:
    worker = queue.start()
    scan_id = queue.submit("sleep:0.8")
    queue.staged(scan_id, "infer")
    worker.terminate()
    assert worker.wait(60) == 0
    assert queue.record(scan_id).state == "completed"
    assert queue.live() == {}


def test_sigterm_hands_a_long_scan_back(redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path) -> None:
    with service(redis_server.url, redis, tmp_path, grace_s=0.3) as queue:
        worker = queue.start()
        scan_id = queue.submit("sleep:600")
        queue.staged(scan_id, "infer")
        worker.terminate()
        assert worker.wait(60) == 0
        record = queue.record(scan_id)
        assert (record.state, record.tries) == ("queued", 0)


def test_a_lost_doorbell_is_rung_again(standing: Service) -> None:
    busy = standing.submit("sleep:0.5")
    standing.staged(busy, "infer")
    scan_id = standing.submit("ok")
    assert standing.redis.delete("rq:queue:vf-batch") == 1
    assert standing.ended(scan_id).state == "completed"


def test_a_worker_killed_between_redis_answer_and_its_own_next_line_loses_no_scan(queue: Service) -> None:
    """BLPOP of several queues has no copy elsewhere: a stopped worker's doorbell is popped for it, and then it is killed."""
    worker = queue.start()
    until(lambda: any(b"blpop" in str(client["cmd"]).encode() for client in queue.redis.client_list()), 60, "it listens")
    os.kill(worker.pid, signal.SIGSTOP)
    scan_id = queue.submit("ok")
    until(lambda: queue.redis.llen("rq:queue:vf-batch") == 0, 60, "Redis has given the doorbell away")
    assert queue.record(scan_id).state == "queued"
    worker.kill()
    worker.wait()
    queue.start()
    record = queue.ended(scan_id)
    assert (record.state, record.attempt) == ("completed", 1)


def test_all_of_rqs_keys_may_go(standing: Service) -> None:
    ids = [standing.submit(f"sleep:0.1 {n}") for n in range(5)]
    standing.redis.delete(*standing.redis.keys("rq:*"))
    assert {standing.ended(scan_id).state for scan_id in ids} == {"completed"}


def test_a_child_is_recycled_when_it_grew_and_after_so_many_scans(
    redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path
) -> None:
    with service(redis_server.url, redis, tmp_path, scans_per_child=2, child_growth_mib=50) as queue:
        queue.metrics = tmp_path
        worker = queue.start()
        for why, last in (("grown", "leak:80"), ("served", "its second")):
            child = queue.child_of(worker)
            with restarted(queue, why):
                assert queue.ended(queue.submit(last)).state == "completed"
                until(lambda child=child: queue.child_of(worker) not in (0, child), 60, "another child")  # type: ignore[misc]
                assert queue.ended(queue.submit("the first of the next")).state == "completed"
            assert not is_running(child)


def test_posts_that_wait_for_their_turn_cost_no_warm_model(redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path) -> None:
    with service(redis_server.url, redis, tmp_path, scans_per_child=2) as queue:
        queue.metrics = tmp_path
        RedisSiteLimiter(redis, per_minute=6).hold("vimeo", 600)
        worker = queue.start()
        child = queue.child_of(worker)
        for number in range(3):
            post = RequestSource(url=f"https://vimeo.com/{number + 100}")
            scan_id = queue.desk.submit_one(ScanRequest(source=post), "acme").id
            until(lambda scan_id=scan_id: queue.record(scan_id).not_before_ms, 60, "its turn is far away")  # type: ignore[misc]
        assert queue.ended(queue.submit("the first scan")).state == "completed"
        assert queue.child_of(worker) == child
        with restarted(queue, "served"):
            assert queue.ended(queue.submit("its second")).state == "completed"


def test_duplicates_cost_one_scan(queue: Service) -> None:
    queue.start()
    queue.start()
    ids = [queue.submit("sleep:0.7 same bytes") for _ in range(6)]
    records = [queue.ended(scan_id) for scan_id in ids]
    assert {record.state for record in records} == {"completed"}
    assert len({record.cache_key for record in records}) == 1
    reports = [queue.desk.report(scan_id, "acme") for scan_id in ids]
    assert len({(report.id, report.source.path) for report in reports}) == 6
    assert sum(record.attempt - record.tries for record in records) >= 1, "none followed another"


def test_a_download_of_a_killed_worker_is_swept_by_the_next(queue: Service) -> None:
    worker = queue.start()
    scan_id = queue.submit("sleep:600")
    queue.staged(scan_id, "infer")
    scratch = queue.settings.source.temp_dir
    assert scratch is not None
    assert len(list(scratch.iterdir())) == 1
    worker.kill()
    worker.wait()
    queue.desk.cancel(scan_id, "acme")
    queue.start()
    until(lambda: len(list(scratch.iterdir())) == 1, 60, "one folder, the new worker's")


def test_nothing_is_left_of_a_killed_child_nor_of_a_worker_that_was_told_to_end(queue: Service) -> None:
    worker = queue.start()
    scratch = queue.settings.source.temp_dir
    assert scratch is not None
    (first,) = scratch.iterdir()
    child = queue.child_of(worker)
    os.kill(child, signal.SIGKILL)
    until(lambda: [facts for facts in queue.live().values() if facts["ready"] and facts["child"] != child], 60, "another child")
    assert first not in list(scratch.iterdir())
    worker.terminate()
    assert worker.wait(60) == 0
    assert list(scratch.iterdir()) == []


def test_a_server_that_does_not_answer_costs_no_scanning_process(standing: Service) -> None:
    (worker,) = standing.workers
    child = standing.child_of(worker)
    source = RequestSource(url="http://127.0.0.1:9/nobody-listens")
    scan_id = standing.desk.submit_one(ScanRequest(source=source), "acme").id
    record = standing.ended(scan_id)
    assert (record.error or {})["code"] == "fetch_timeout"
    assert (record.tries, standing.child_of(worker)) == (2, child)


def test_a_scanner_that_cannot_be_built_is_refused(queue: Service) -> None:
    worker = queue.start(build=f"{BUILD}_nothing", wait=False)
    assert worker.wait(60) == 4


def test_redis_killed_and_started_again_in_mid_scan(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    with connect(url=own_redis.url, timeout_s=5, patience_s=30) as redis, service(own_redis.url, redis, tmp_path) as queue:
        queue.start()
        ids = [queue.submit(f"sleep:0.5 {n}") for n in range(4)]
        queue.staged(ids[0], "infer")
        own_redis.kill()
        time.sleep(0.5)
        own_redis.start()
        assert {queue.ended(scan_id).state for scan_id in ids} == {"completed"}


def test_redis_paused_for_longer_than_a_lease(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    with connect(url=own_redis.url, timeout_s=2, patience_s=30) as redis, service(own_redis.url, redis, tmp_path) as queue:
        queue.start()
        scan_id = queue.submit("sleep:6")
        queue.staged(scan_id, "infer")
        own_redis.pause()
        time.sleep(4)
        own_redis.resume()
        record = queue.ended(scan_id)
        assert (record.state, record.attempt) == ("completed", 1)


def test_a_limit_that_is_reached_while_redis_is_away_harms_no_later_scan(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    with (
        connect(url=own_redis.url, timeout_s=5, patience_s=30) as redis,
        service(own_redis.url, redis, tmp_path, silence_s=0.5, patience_s=0.5, timeout_s=2.0) as queue,
    ):
        worker = queue.start()
        child = queue.child_of(worker)
        scan_id = queue.submit("hang")
        queue.staged(scan_id, "infer")
        own_redis.pause()
        until(lambda: not is_running(child), 60, "the hung process is ended")
        own_redis.resume()
        record = queue.ended(queue.submit("fine"))
        assert (record.state, record.attempt) == ("completed", 1)
        assert (queue.ended(scan_id).error or {})["code"] == "decode_timeout"
        assert worker.poll() is None

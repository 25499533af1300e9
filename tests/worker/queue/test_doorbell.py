"""Doorbells on a real Redis: RQ's own tools read them, and nothing that stands in one is ever run."""

from __future__ import annotations

import contextlib
import json
import uuid

import pytest
from redis import Redis
from rq import Queue, SimpleWorker, Worker
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from worker.queue.assemble import hearing_redis
from worker.queue.doorbell import AT_ONCE, ENTRY, HEAR_S, TTL_S, Doorbells
from worker.queue.embedded import EmbeddedRedis
from worker.settings import load_settings

ORDER = ("live", "batch", "low")


def new_id() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def bells(redis: Redis) -> Doorbells:
    return Doorbells(redis, "vf")


def test_they_are_heard_by_priority_and_then_in_order(bells: Doorbells, redis: Redis) -> None:
    low, live, batch, later = (new_id() for _ in range(4))
    bells.ring({low: "low", live: "live"})
    bells.ring({batch: "batch", later: "live"})
    assert bells.waiting() == {low, live, batch, later}
    assert [bells.hear(ORDER, 1) for _ in range(4)] == [live, later, batch, low]
    assert bells.hear(ORDER, 1) is None
    assert redis.keys("rq:job:*") == []


def test_a_wait_longer_than_one_answer_may_take_is_no_silent_redis(redis_server: EmbeddedRedis) -> None:
    settings = load_settings(flags={"redis": {"url": redis_server.url, "timeout_s": 0.3, "patience_s": 0}})
    with contextlib.closing(hearing_redis(settings)) as redis:
        assert Doorbells(redis).hear(ORDER, HEAR_S) is None


def test_what_is_rung_first_is_heard_before_what_waits(bells: Doorbells) -> None:
    waits, lost, live = (new_id() for _ in range(3))
    bells.ring({waits: "batch"})
    bells.ring({lost: "batch"}, first=True)
    bells.ring({live: "live"})
    assert [bells.hear(ORDER, 1) for _ in range(3)] == [live, lost, waits]


def test_only_the_queues_asked_for_are_heard(bells: Doorbells) -> None:
    bells.ring({new_id(): "batch"})
    assert bells.hear(("live",), 1) is None
    assert bells.hear(("live", "batch"), 1) is not None


def test_many_at_once(bells: Doorbells, redis: Redis) -> None:
    ids = [new_id() for _ in range(2 * AT_ONCE + 1)]
    bells.ring(dict.fromkeys(ids, "batch"))
    assert [job.decode() for job in redis.lrange("rq:queue:vf-batch", 0, -1)] == ids
    assert redis.exists(*(f"rq:job:{scan_id}" for scan_id in ids)) == len(ids)


def test_no_doorbells_are_no_command(bells: Doorbells, redis: Redis) -> None:
    bells.ring({})
    assert redis.keys("*") == []


def test_rq_reads_them_as_its_own(bells: Doorbells, redis: Redis) -> None:
    """Field for field what RQ's ``enqueue`` writes, but for the times."""
    ours, its = new_id(), new_id()
    bells.ring({ours: "live"})
    queue = Queue("vf-live", connection=redis, serializer=JSONSerializer)
    options = {"ttl": TTL_S, "result_ttl": 0, "failure_ttl": 60, "job_timeout": 3600, "description": "scan"}
    queue.enqueue(ENTRY, args=(its,), job_id=its, **options)
    told, expected = (redis.hgetall(f"rq:job:{scan_id}") for scan_id in (ours, its))
    assert told.keys() == expected.keys()
    assert {name for name in told if told[name] != expected[name]} == {b"created_at", b"enqueued_at", b"data"}
    job, other = (Job.fetch(scan_id, connection=redis, serializer=JSONSerializer) for scan_id in (ours, its))
    assert (job.func_name, job.args, job.kwargs) == (ENTRY, [ours], {})
    assert (job.get_status(), job.origin, job.timeout, job.description) == (JobStatus.QUEUED, "vf-live", 3600, "scan")
    assert abs((job.enqueued_at - other.enqueued_at).total_seconds()) < 60
    assert 0 < redis.ttl(f"rq:job:{ours}") <= TTL_S
    assert [queue.name for queue in Queue.all(connection=redis)] == ["vf-live"]
    assert queue.get_job_ids() == [ours, its]
    assert Worker.count(connection=redis) == 0


def test_a_foreign_job_is_dropped_and_never_run(bells: Doorbells, redis: Redis, tmp_path: object) -> None:
    queue = bells.queues["live"]
    made = f"{tmp_path}/made"
    queue.enqueue("os.mkdir", made)
    redis.rpush(queue.key, b"\xff\x00", "../../etc", "0" * 31, "A" * 32)
    ours = new_id()
    bells.ring({ours: "live"})
    assert [bells.hear(ORDER, 1) for _ in range(6)] == [None] * 5 + [ours]
    assert redis.keys("rq:job:*") == []


def test_a_plain_rq_worker_can_do_nothing_with_one(bells: Doorbells, redis: Redis) -> None:
    scan_id = new_id()
    bells.ring({scan_id: "live"})
    queue = Queue("vf-live", connection=redis, serializer=JSONSerializer)
    SimpleWorker([queue], connection=redis, serializer=JSONSerializer).work(burst=True, logging_level="CRITICAL")
    job = Job.fetch(scan_id, connection=redis, serializer=JSONSerializer)
    assert job.get_status() == JobStatus.FAILED
    assert "veriframe worker" in (job.latest_result().exc_string or "")


def test_a_job_carries_its_scans_id_and_nothing_else(bells: Doorbells, redis: Redis) -> None:
    scan_id = new_id()
    bells.ring({scan_id: "low"})
    assert json.loads(redis.hget(f"rq:job:{scan_id}", "data")) == [ENTRY, None, [scan_id], {}]

"""RQ jobs as doorbells: a job's id is a scan's, and it carries nothing else. Losing or doubling one is harmless."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, cast

from redis import Redis
from rq import Queue
from rq.exceptions import DequeueTimeout
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker_registration import clean_worker_registry

from worker.queue.requests import QUEUES

ENTRY = "worker.queue.doorbell.answer"
NO_ID = "0" * 32
TTL_S = 7 * 86400
AT_ONCE = 500
HEAR_S = 1
"""So long a worker waits in Redis for a doorbell; the limit of its connection is as much longer than that of one answer."""


def answer(scan_id: str) -> None:
    """What a job names. It is never called by our workers, which read a job's id and no more."""
    raise RuntimeError(f"scan {scan_id}: this queue is served by `veriframe worker`, not by another RQ worker")


class Doorbells:
    """Rings, and hears. Nothing that a job says is ever read, let alone called: a foreign one is dropped."""

    def __init__(self, redis: Redis, namespace: str = "vf") -> None:
        self._redis = redis
        self._script = files("worker.queue").joinpath("scripts", "ring.lua").read_text("utf-8")
        self.queues = {name: Queue(f"{namespace}-{name}", connection=redis, serializer=JSONSerializer) for name in QUEUES}

    def ring(self, priorities: Mapping[str, str], *, first: bool = False) -> None:
        """One doorbell for each scan id, in the queue named for it; ``first``: before all that wait there."""
        push = "LPUSH" if first else "RPUSH"
        by_queue: dict[str, list[str]] = defaultdict(list)
        for scan_id, priority in priorities.items():
            by_queue[priority].append(scan_id)
        for priority, ids in by_queue.items():
            told = _as_rq(self.queues[priority])
            for start in range(0, len(ids), AT_ONCE):
                # Not EVALSHA: a server that is restarted under it has forgotten its scripts.
                self._redis.eval(self._script, 0, push, *told, *ids[start : start + AT_ONCE])

    def hear(self, priorities: Sequence[str], timeout_s: int) -> str | None:
        """The next scan id, of the first of these queues that has one; None after ``timeout_s``, or for a job that is not ours.

        A worker killed between Redis's answer and its own next line loses the doorbell; the reconciler rings again.
        """
        try:
            found = Queue.lpop([self.queues[name].key for name in priorities], timeout_s, connection=self._redis)
        except DequeueTimeout:
            return None
        if found is None:
            return None
        job_id = bytes(found[1]).decode("utf-8", "replace")
        self._redis.delete(Job.key_for(job_id))
        return job_id if is_id(job_id) else None

    def waiting(self) -> set[str]:
        """Scan ids whose doorbells are in a queue now."""
        found: set[str] = set()
        for queue in self.queues.values():
            job_ids = cast(list[bytes], self._redis.lrange(queue.key, 0, -1))
            found.update(job_id.decode("utf-8", "replace") for job_id in job_ids)
        return found

    def forget_lost_workers(self) -> None:
        """Take workers that did not sign off out of RQ's sets of them: RQ's own workers would do that, and here is none. One that
        had only stood still enrols again."""
        for queue in self.queues.values():
            clean_worker_registry(queue)


def _as_rq(queue: Queue) -> list[Any]:
    """What RQ would write for a job of ours, made by RQ itself, once for many: with its own ``enqueue_many``, this took two
    thirds of the time of a submission."""
    job = queue.create_job(
        ENTRY, args=(NO_ID,), job_id=NO_ID, ttl=TTL_S, result_ttl=0, failure_ttl=60, timeout=3600, description="scan"
    )
    job.origin, job.enqueued_at = queue.name, job.created_at
    fields = job.to_dict()
    del fields["data"]
    before, after = job.data.decode().split(NO_ID)
    pairs = [part for name, value in fields.items() for part in (name, value)]
    return [Queue.redis_queues_keys, queue.key, Job.redis_job_namespace_prefix, TTL_S, before, after, len(pairs), *pairs]


def is_id(text: str) -> bool:
    return len(text) == 32 and all(letter in "0123456789abcdef" for letter in text)

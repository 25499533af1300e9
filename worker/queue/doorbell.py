"""RQ jobs as doorbells: a job's id is a scan's, and it carries nothing else. Losing or doubling one is harmless."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, cast

from redis import Redis
from rq import Queue
from rq.exceptions import DequeueTimeout
from rq.job import Job
from rq.serializers import JSONSerializer

from worker.queue.requests import PRIORITIES

ENTRY = "worker.queue.doorbell.answer"
TTL_S = 7 * 86400
AT_ONCE = 500


def answer(scan_id: str) -> None:
    """What a job names. It is never called by our workers, which read a job's id and no more."""
    raise RuntimeError(f"scan {scan_id}: this queue is served by `veriframe worker`, not by another RQ worker")


class Doorbells:
    """Rings, and hears. Nothing that a job says is ever read, let alone called: a foreign one is dropped."""

    def __init__(self, redis: Redis, namespace: str = "vf") -> None:
        self._redis = redis
        self.queues = {name: Queue(f"{namespace}-{name}", connection=redis, serializer=JSONSerializer) for name in PRIORITIES}

    def ring(self, priorities: Mapping[str, str]) -> None:
        """One doorbell for each scan id, in the queue of its priority."""
        by_queue: dict[str, list[str]] = defaultdict(list)
        for scan_id, priority in priorities.items():
            by_queue[priority].append(scan_id)
        for priority, ids in by_queue.items():
            for start in range(0, len(ids), AT_ONCE):
                with self._redis.pipeline(transaction=False) as pipe:
                    self.queues[priority].enqueue_many([_data(i) for i in ids[start : start + AT_ONCE]], pipeline=pipe)
                    pipe.execute()

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


def _data(scan_id: str) -> Any:
    return Queue.prepare_data(
        func=ENTRY, args=(scan_id,), job_id=scan_id, ttl=TTL_S, result_ttl=0, failure_ttl=60, timeout=3600, description="scan"
    )


def is_id(text: str) -> bool:
    return len(text) == 32 and all(letter in "0123456789abcdef" for letter in text)

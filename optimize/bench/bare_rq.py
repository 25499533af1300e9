"""Bare RQ's speed over jobs that do nothing, for comparison.

    python -m optimize.bench.bare_rq URL QUEUE forking|simple

Works off the queue and prints the seconds that it took. URL carries no password.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from redis import Redis
from rq import Queue, SimpleWorker, Worker
from rq.job import Job
from rq.worker.base import BaseWorker

KINDS = {"forking": Worker, "simple": SimpleWorker}


def nothing() -> None:
    """The job."""


def work_off(kind: type[BaseWorker], queue: Queue, redis: Redis) -> float:
    """Seconds from the first job's start to the last one's end. What RQ takes to stop, a second on one core, is no job's."""

    class Timed(kind):  # type: ignore[misc, valid-type]  # a class by value
        first_s = last_s = 0.0

        def execute_job(self, job: Job, queue: Queue) -> None:
            self.first_s = self.first_s or time.perf_counter()
            super().execute_job(job, queue)
            self.last_s = time.perf_counter()

    worker: Any = Timed([queue], connection=redis)
    worker.work(burst=True, logging_level="ERROR")
    return float(worker.last_s - worker.first_s)


def main(arguments: list[str]) -> None:
    url, queue, kind = arguments
    with Redis.from_url(url) as redis:
        print(work_off(KINDS[kind], Queue(queue, connection=redis), redis))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Bare RQ's speed over jobs that do nothing, for comparison.

    python -m optimize.bench.bare_rq URL QUEUE forking|simple

Works off the queue and prints the seconds that it took. URL carries no password.
"""

from __future__ import annotations

import sys
import time

from redis import Redis
from rq import Queue, SimpleWorker, Worker

KINDS = {"forking": Worker, "simple": SimpleWorker}


def nothing() -> None:
    """The job."""


def main(arguments: list[str]) -> None:
    url, queue, kind = arguments
    with Redis.from_url(url) as redis:
        worker = KINDS[kind]([Queue(queue, connection=redis)], connection=redis)
        started = time.perf_counter()
        worker.work(burst=True, logging_level="ERROR")
        print(time.perf_counter() - started)


if __name__ == "__main__":
    main(sys.argv[1:])

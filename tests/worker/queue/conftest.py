"""Records and a desk on an empty Redis; a receiver of callbacks, and a courier to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from tests.worker.queue.couriers import open_client
from tests.worker.queue.receivers import Receiver, receiving
from tests.worker.queue.record_steps import TERMS
from worker.queue.courier import Courier
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.record import Terms
from worker.queue.records import Records


@pytest.fixture
def records(redis: Redis) -> Records:
    return Records(redis, "vf", TERMS)


@pytest.fixture
def desk(redis: Redis) -> Desk:
    return Desk(Records(redis, "vf", Terms(max_attempts=1)), Doorbells(redis, "vf"))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def courier(redis: Redis) -> Callable[..., Courier]:
    def make(**options: Any) -> Courier:
        return Courier(redis, open_client=open_client, **{"backoff_s": 0.001, "timeout_s": 30, "lease_s": 60} | options)

    return make

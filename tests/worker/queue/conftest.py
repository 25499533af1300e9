"""A receiver of callbacks, and a courier to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from tests.worker.queue.couriers import open_client
from tests.worker.queue.receivers import Receiver, receiving
from worker.queue.courier import Courier


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def courier(redis: Redis) -> Callable[..., Courier]:
    def make(**options: Any) -> Courier:
        return Courier(redis, open_client=open_client, **{"backoff_s": 0.001, "timeout_s": 30, "lease_s": 60} | options)

    return make

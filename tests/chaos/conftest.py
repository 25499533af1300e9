"""A real Redis server for the auditor's tests, emptied for each; the drill itself starts one of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(redis_server: EmbeddedRedis) -> Iterator[Redis]:
    with connect(url=redis_server.url, timeout_s=10, patience_s=10) as client:
        client.flushall()
        yield client

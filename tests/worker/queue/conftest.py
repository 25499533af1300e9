"""Real Redis servers: one for each test process, emptied for every test, and one of its own for a test that stops it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """Leave it running and as it is; ``redis`` empties it. Its ``url`` is for processes that a test starts."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(redis_server: EmbeddedRedis) -> Iterator[Redis]:
    """A client of an empty server; answers are bytes."""
    with connect(url=redis_server.url, timeout_s=10, patience_s=10) as client:
        client.flushall()
        yield client


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server with AOF that the test may kill, pause and restart."""
    with EmbeddedRedis(tmp_path / "own-redis", appendonly=True, appendfsync="always") as server:
        yield server

"""A real, empty Redis for the commands of the queue, and the commands themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from tests.worker.queue.conftest import redis as redis
from tests.worker.queue.conftest import redis_server as redis_server
from worker.cli import app
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.embedded import EmbeddedRedis
from worker.queue.records import Records, Terms

Veriframe = Callable[..., Result]


@pytest.fixture
def desk(redis: Redis) -> Desk:
    return Desk(Records(redis, "vf", Terms(max_attempts=1)), Doorbells(redis, "vf"))


@pytest.fixture
def veriframe(redis_server: EmbeddedRedis, redis: Redis) -> Veriframe:
    """Runs ``veriframe ARGUMENTS``; ``input`` is its standard input."""

    def run(*arguments: str, input: str | bytes | None = None, url: str = redis_server.url) -> Result:
        return CliRunner().invoke(app, list(arguments), input=input, env={"VERIFRAME_REDIS__URL": url})

    return run

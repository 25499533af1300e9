"""The commands of the queue, on a real and empty Redis."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from worker.cli import app
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.embedded import EmbeddedRedis
from worker.queue.record import Terms
from worker.queue.records import Records

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

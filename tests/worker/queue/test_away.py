"""What the log says of a Redis that is away or refuses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis, exceptions

from worker.errors import RedisDown
from worker.queue.away import AWAY, reason

SECRET = "hunter2-Zx9"


@pytest.fixture
def short_of_replicas(redis: Redis) -> Iterator[Redis]:
    redis.config_set("min-replicas-to-write", 1)
    yield redis
    redis.config_set("min-replicas-to-write", 0)


def test_the_reason_is_redis_own_without_what_was_sent(short_of_replicas: Redis) -> None:
    with pytest.raises(AWAY) as refusal, short_of_replicas.pipeline() as pipe:
        pipe.set("a", SECRET).execute()
    assert SECRET in str(refusal.value)
    assert reason(refusal.value).startswith("Redis takes no writes: NOREPLICAS")


def test_of_a_fault_of_ours_the_type_alone_is_told(redis: Redis) -> None:
    with pytest.raises(exceptions.ResponseError) as refusal:
        redis.execute_command("NOSUCH", SECRET)
    assert SECRET in str(refusal.value)
    assert reason(refusal.value) == "ResponseError"


def test_ours_say_it_themselves() -> None:
    assert reason(RedisDown("Redis is away: closed")) == "Redis is away: closed"

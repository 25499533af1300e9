"""What a Redis that is not there, or takes no writes, looks like to those who go on without it for a while."""

from __future__ import annotations

from redis.exceptions import RedisError

from worker.errors import RedisDown
from worker.queue.connection import translation

AWAY = (RedisError, RedisDown)
"""Not ConnectionError and TimeoutError alone: a Redis that is full, a replica, or short of replicas answers with errors of its
own, and none of them may end a worker."""


def reason(error: RedisError | RedisDown) -> str:
    """What is the matter with Redis, for a log: what ``translated`` says; of other errors only the type, for Redis may have put
    arguments of the command into their words."""
    meant = error if isinstance(error, RedisDown) else translation(error)
    return type(error).__name__ if meant is None else str(meant)

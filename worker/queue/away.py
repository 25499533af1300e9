"""What a Redis that is not there, or takes no writes, looks like to those who go on without it for a while."""

from __future__ import annotations

from redis.exceptions import RedisError

from worker.errors import RedisDown

AWAY = (RedisError, RedisDown)
"""Not ConnectionError and TimeoutError alone: a Redis that is full, a replica, or short of replicas answers with errors of its
own, and none of them may end a worker."""

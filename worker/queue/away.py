"""What a Redis that is not there looks like, to those who go on without it for a while."""

from __future__ import annotations

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.errors import RedisDown

AWAY = (RedisConnectionError, RedisTimeoutError, RedisDown)

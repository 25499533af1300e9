"""Whether the queue may stand on a Redis server, by what the server says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from redis import Redis
from redis import exceptions as refused

from worker.queue.connection import DOWN, translated

OLDEST = (6, 2)
"""The first version with LMOVE, which moves a doorbell without a moment in which it is nowhere."""


def server_problems(redis: Redis) -> tuple[str, ...]:
    """Why the queue must not run on the server behind ``redis``; empty if it may. What the server does not tell (managed services
    and ACLs hide some) stops nothing. Raises what ``translated`` raises.
    """
    with translated():
        try:
            info = redis.info()
        except DOWN:  # some are also ResponseErrors
            raise
        except refused.ResponseError:
            return ()
    found = []
    version = info.get("redis_version")
    if version is not None and tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < OLDEST:
        found.append(f"Redis is {version}: 6.2 or newer is needed")
    policy = info.get("maxmemory_policy")
    if policy not in (None, "noeviction"):
        found.append(f"maxmemory-policy is {policy}: set it to noeviction, or Redis may throw scans away")
    role = info.get("role")
    if role not in (None, "master"):
        found.append(f"this Redis is a {role}: give redis.url the master's address, or the sentinels'")
    if _is_full(info):
        found.append("Redis is full: raise its maxmemory")
    return tuple(found)


def _is_full(info: Mapping[str, Any]) -> bool:
    """Whether it refuses writes, as it tells: buffers of replicas and of the AOF do not count, a maxmemory of 0 is none."""
    most_bytes = int(info.get("maxmemory", 0))
    used_bytes = int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))
    return info.get("maxmemory_policy") == "noeviction" and 0 < most_bytes < used_bytes

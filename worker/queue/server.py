"""Whether the queue may stand on a Redis server: by what the server says of itself, and by a write."""

from __future__ import annotations

import re

from redis import Redis
from redis import exceptions as refused

from worker.errors import RedisDown
from worker.queue.connection import DOWN, translated

OLDEST = (6, 2)
"""The first version with LMOVE, which moves a doorbell without a moment in which it is nowhere."""


def check_writable(redis: Redis, namespace: str) -> None:
    """Write ``NS:probe``, which goes by itself: a server that is full, cannot save or lacks replicas answers all the same, and
    refuses writes alone. Raises what ``translated`` raises."""
    with translated():
        redis.set(f"{namespace}:probe", 1, px=1000)


def server_problems(redis: Redis, namespace: str) -> tuple[str, ...]:
    """Why the queue must not run on the server behind ``redis``; empty if it may. What the server does not tell (managed services
    and ACLs hide some) stops nothing. Raises what ``translated`` raises, but for the refusal of a write.
    """
    info = {}
    with translated():
        try:
            info = redis.info()
        except DOWN:  # some are also ResponseErrors
            raise
        except refused.ResponseError:
            pass
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
        return tuple(found)  # it would be asked to write again and again until patience is out
    try:
        check_writable(redis, namespace)
    except RedisDown as exc:
        if isinstance(exc.__cause__, DOWN):
            raise
        found.append(str(exc))
    return tuple(found)

"""Which workers are alive: each tells Redis every few seconds, and is forgotten when it stops."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from redis import Redis

from worker.queue.requests import PRIORITIES


def queues_served(facts: Mapping[str, Any]) -> frozenset[str]:
    """By a worker that said this. Who names none does scans of every priority."""
    return frozenset(facts.get("queues", PRIORITIES))


def serves_scans(facts: Mapping[str, Any]) -> bool:
    """Whether a worker that said this does scans; one for streams alone does none."""
    return not queues_served(facts).isdisjoint(PRIORITIES)


class Roster:
    """``NS:workers`` holds names by the time of their last word, ``NS:worker:NAME`` what they said (JSON)."""

    def __init__(self, redis: Redis, namespace: str = "vf", *, ttl_s: float = 30) -> None:
        self._redis, self._namespace, self._ttl_s = redis, namespace, ttl_s

    def tell(self, name: str, facts: Mapping[str, Any]) -> None:
        """``facts``: plain values; ``ready`` says whether its model has run."""
        now_s = self._now_s()
        with self._redis.pipeline() as pipe:
            pipe.set(self._key(name), json.dumps(dict(facts)), px=round(self._ttl_s * 1000))
            pipe.zadd(f"{self._namespace}:workers", {name: now_s})
            pipe.zremrangebyscore(f"{self._namespace}:workers", "-inf", now_s - self._ttl_s)
            pipe.execute()

    def leave(self, name: str) -> None:
        with self._redis.pipeline() as pipe:
            pipe.delete(self._key(name))
            pipe.zrem(f"{self._namespace}:workers", name)
            pipe.execute()

    def live(self) -> dict[str, dict[str, Any]]:
        """What each worker last said."""
        found = cast(list[bytes], self._redis.zrange(f"{self._namespace}:workers", 0, -1))
        names = [name.decode() for name in found]
        if not names:
            return {}
        said = self._redis.mget([self._key(name) for name in names])
        return {name: json.loads(facts) for name, facts in zip(names, said, strict=True) if facts}

    def _key(self, name: str) -> str:
        return f"{self._namespace}:worker:{name}"

    def _now_s(self) -> float:
        seconds, micros = self._redis.time()
        return float(seconds) + micros / 1e6

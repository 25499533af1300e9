"""What the Redis server says of itself, and whether the queue may stand on it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis import exceptions as refused

from worker.errors import ConfigError
from worker.queue.connection import AWAY, translated

OLDEST = (6, 2)
"""The first version with LMOVE, which moves a doorbell without a moment in which it is nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What a server says of itself; None where it does not tell (managed services and ACLs hide some).

    ``version`` is that of Redis it is compatible with. ``appendfsync``: always, everysec or no. ``rdb``: snapshots are scheduled.
    """

    version: str | None
    role: str | None
    maxmemory_policy: str | None
    aof: bool | None
    appendfsync: str | None
    rdb: bool | None

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the queue must not run on this server; empty if it may."""
        found = []
        if self.version is not None and _numbers(self.version) < OLDEST:
            found.append(f"Redis is {self.version}: 6.2 or newer is needed")
        if self.maxmemory_policy not in (None, "noeviction"):
            found.append(f"maxmemory-policy is {self.maxmemory_policy}: set it to noeviction, or Redis may throw scans away")
        if self.role not in (None, "master"):
            found.append(f"this Redis is a {self.role}: give redis.url the master's address, or the sentinels'")
        return tuple(found)

    @property
    def durability(self) -> str:
        """What outlives Redis's own death, in words; docs/redis.md says more."""
        if self.aof and self.appendfsync == "always":
            return "AOF, appendfsync always: whatever was answered survives"
        if self.aof:
            sync = {"everysec": "everysec: about the last second may be lost", "no": "no: the last half minute may be lost"}
            return "AOF, appendfsync " + sync.get(self.appendfsync or "", "unknown")
        if self.aof is None:
            return "unknown"
        return {True: "snapshots only: minutes may be lost", False: "none: everything is lost", None: "no AOF"}[self.rdb]

    def require(self) -> None:
        """Raises ConfigError with all problems."""
        if self.problems:
            raise ConfigError("; ".join(self.problems))


def check_server(redis: Redis) -> ServerFacts:
    """Ask the server behind ``redis``. Raises what ``translated`` raises."""
    with translated():
        info = _told(redis.info) or {}
        config: dict[str, str] = _told(lambda: redis.config_get("appendfsync", "save")) or {}
    aof = info.get("aof_enabled")
    return ServerFacts(
        version=info.get("redis_version"),
        role=info.get("role"),
        maxmemory_policy=info.get("maxmemory_policy"),
        aof=None if aof is None else bool(aof),
        appendfsync=config.get("appendfsync"),
        rdb=bool(config["save"]) if "save" in config else None,
    )


def _told(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except (refused.NoPermissionError, refused.ResponseError) as exc:
        if isinstance(exc, AWAY):
            raise
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])

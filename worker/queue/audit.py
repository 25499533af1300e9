"""What people decided: laid over results, and in a log that only grows.

Keys below the namespace: ``override:OWNER:SHA256`` (the word that holds; of a part of a video alone:
``override:OWNER:SHA256:START-END``), ``audit`` (stream: all of them),
``decisions:OWNER:SHA256`` (stream: the latest on one content), ``decided:OWNER`` (list: where in ``audit`` an owner's are, oldest
first), ``decided`` (up to where in ``audit`` all are in those lists) and ``said:NAME`` (for ten minutes: a write that was made).
A decision is put into its owner's list as it is written where all before it are; what an earlier version wrote is put there once,
by whoever reads such a list next.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast
from uuid import uuid4

from redis import Redis

from worker.queue.connection import scripts_of

DECISIONS = 50
"""On one content of one owner, the latest so many are kept beside the log, which has all."""
AT_ONCE = 1000
SCRIPTS = ("decide", "decided", "decisions")


def part_of(told: Mapping[str, Any]) -> tuple[str, ...]:
    """The part of a video that alone was scanned, by ``start_s`` and ``end_s``, as the end of a key; empty for the whole."""
    bounds = told.get("start_s"), told.get("end_s")
    return ("-".join(f"{at_s:.3f}" for at_s in bounds),) if all(isinstance(at_s, (int, float)) for at_s in bounds) else ()


class AuditLog:
    """Entries have at least ``owner``, ``scan``, ``sha256`` and ``verdict``."""

    def __init__(self, redis: Redis, namespace: str) -> None:
        self._redis, self._namespace = redis, namespace
        self._decide, self._decided, self._decisions = scripts_of(redis, SCRIPTS).values()

    def write(self, entry: dict[str, Any], laid_over: dict[str, Any]) -> None:
        """Into the log, and ``laid_over`` over every result of its owner's for the same bytes, or the same part of them;
        nothing where that lies there, said of the same scan."""
        holds = _coded(laid_over | {"scan": entry["scan"]})
        told = (entry["owner"], entry["sha256"], holds, _coded(entry), DECISIONS, uuid4().hex)
        self._decide(args=[self._namespace, *told, *part_of(entry)])

    def page(self, after: str, count: int) -> list[tuple[str, dict[str, Any]]]:
        """Everybody's, oldest first, with the ids that continue the list; ``after`` ``-``: from the first on."""
        found = self._redis.xrange(self._key("audit"), after if after == "-" else f"({after}", "+", count)
        return [(number.decode(), json.loads(fields[b"decision"])) for number, fields in cast(Any, found)]

    def each_of(self, owner: str) -> Iterator[dict[str, Any]]:
        """One owner's, oldest first. The price is that owner's, however many decisions others made."""
        self._put_into_lists()
        at = 0
        while numbers := cast(list[bytes], self._redis.lrange(self._key("decided", owner), at, at + AT_ONCE - 1)):
            at += len(numbers)
            yield from map(json.loads, self._decisions(args=[self._namespace, *numbers]))

    def about(self, owner: str, sha256: str, count: int) -> list[tuple[int, dict[str, Any]]]:
        """An owner's latest on one content, newest first, each with its time (ms)."""
        found = self._redis.xrevrange(self._key("decisions", owner, sha256), "+", "-", count)
        return [(int(number.partition(b"-")[0]), json.loads(fields[b"decision"])) for number, fields in cast(Any, found)]

    def _put_into_lists(self) -> None:
        """Those of the log that are not yet. Where others do it at the same time, what one of them did is left as it is."""
        while True:
            before = cast(bytes, self._redis.get(self._key("decided")) or b"").decode()
            found = self.page(before or "-", AT_ONCE)
            if not found:
                return
            whose = [value for number, entry in found for value in (entry["owner"], number)]
            self._decided(args=[self._namespace, before, *whose])

    def _key(self, *parts: str) -> str:
        return ":".join((self._namespace, *parts))


def _coded(value: dict[str, Any]) -> bytes:
    """JSON as short as it may be: what UTF-8 does not have (bytes of a file's name that are none) is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()

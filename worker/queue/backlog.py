"""What waits, runs and is owed, by queue: asked by metrics, at the same price however many scans there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from worker.queue.records import Records
from worker.queue.requests import QUEUES


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Scans by queue; ``oldest_s``: how long the one that has been due longest has waited, 0 where none is due."""

    waiting: Mapping[str, int]
    due: Mapping[str, int]
    """Those of ``waiting`` that a worker may begin now."""
    oldest_s: Mapping[str, float]
    running: Mapping[str, int]
    dead: int
    callbacks_owed: int
    callbacks_oldest_s: float
    """How long the one that has been due longest has waited for a courier, 0 where none is due."""
    callbacks_dead: int
    ended: Mapping[str, int]
    """Ever, by final state."""
    open_scans: Mapping[str, int]
    """Waiting and running, by owner."""


def read_backlog(records: Records) -> Backlog:
    """As it is at one moment, so that the figures agree with each other.

    Three round trips, a fourth where a record names no queue: the first asks for the time by which a scan is due, the third for
    the queues of what runs, which do not change, and of which there is one for each worker at most.
    """
    key = records.key
    now_ms = records.now_ms()
    with records.redis.pipeline(transaction=True) as pipe:
        for queue in QUEUES:
            pipe.zcard(key("queued", queue))
            pipe.zcount(key("queued", queue), "-inf", now_ms)
            pipe.zrange(key("queued", queue), 0, 0, withscores=True)
        for name in (("dead",), ("callbacks",), ("callbacks", "dead")):
            pipe.zcard(key(*name))
        pipe.zrange(key("callbacks"), 0, 0, withscores=True)
        pipe.zrange(key("leases"), 0, -1)
        pipe.hgetall(key("ended"))
        pipe.hgetall(key("open"))
        *queued, dead, owed, given_up, first_owed, leases, ended, open_scans = pipe.execute()
    running = Counter(records.priorities([scan_id.decode() for scan_id in cast(list[bytes], leases)]).values())
    return Backlog(
        waiting=dict(zip(QUEUES, queued[::3], strict=True)),
        due=dict(zip(QUEUES, queued[1::3], strict=True)),
        oldest_s={queue: _since_s(first, now_ms) for queue, first in zip(QUEUES, queued[2::3], strict=True)},
        running={queue: running[queue] for queue in QUEUES},
        dead=dead,
        callbacks_owed=owed,
        callbacks_oldest_s=_since_s(first_owed, now_ms),
        callbacks_dead=given_up,
        ended=_counts(ended),
        open_scans={owner: count for owner, count in _counts(open_scans).items() if count},
    )


def _since_s(first: Sequence[tuple[bytes, float]], now_ms: float) -> float:
    """``first``: a set's first member with the time at which it is due, if there is one."""
    return max(0.0, now_ms - first[0][1]) / 1000 if first else 0.0


def _counts(found: Mapping[bytes, bytes]) -> dict[str, int]:
    return {name.decode(): int(count) for name, count in found.items()}

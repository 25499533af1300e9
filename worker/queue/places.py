"""Walking through a list in Redis (a sorted set of ids by time), newest first, whatever changes meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

from redis import Redis

STEP = 1000
"""Entries of a list that are compared with another list's one by one."""


class Place(NamedTuple):
    """Where an entry stands: the list's own time of it, and its id among those of the same millisecond."""

    ms: int
    id: str

    def __str__(self) -> str:
        return f"{self.ms}-{self.id}"


def places(redis: Redis, index: str, after: Place | None, count: int) -> list[Place]:
    """Up to ``count`` behind a place that need not be there any more; fewer: the list ends there."""
    found: list[Place] = []
    upper: str | int = "+inf" if after is None else after.ms
    most = count
    while len(found) < count:
        some = cast(
            list[tuple[bytes, float]],
            redis.zrevrangebyscore(index, upper, "-inf", start=0, num=most, withscores=True),
        )
        for entry, score in some:
            place = Place(int(score), entry.decode())
            if after is None or place < after:
                found.append(place)
                after = place
        if len(some) < most:
            break
        # On from a time, never from a number of entries: others may have been taken out of those that were counted.
        last_ms = int(some[-1][1])
        upper, most = last_ms, count if last_ms != upper else 2 * most
    return found[:count]


def places_within(redis: Redis, index: str, other: str, after: Place | None, count: int) -> list[Place]:
    """As ``places``, of what is in another list too. Where little of the next ``STEP`` is, Redis compares the whole lists."""
    here = places(redis, index, after, STEP)
    known = set(those_within(redis, other, [place.id for place in here]))
    found = [place for place in here if place.id in known]
    if len(found) < count and len(here) == STEP:
        in_both = cast(list[tuple[bytes, float]], redis.zinter({index: 1, other: 0}, withscores=True))
        rest = [Place(int(score), entry.decode()) for entry, score in reversed(in_both)]
        found += [place for place in rest if place < here[-1]]
    return found[:count]


def those_within(redis: Redis, other: str, ids: Sequence[str]) -> list[str]:
    """Those of these that are in another list."""
    scores = redis.zmscore(other, list(ids)) if ids else []
    return [one for one, score in zip(ids, scores, strict=True) if score is not None]


def batches(redis: Redis, index: str, count: int) -> Iterator[list[str]]:
    """The ids of a whole list; whatever is added or taken out in between, each comes once."""
    at: Place | None = None
    while found := places(redis, index, at, count):
        yield [place.id for place in found]
        at = found[-1]

"""A list is walked through whole, whatever is taken out of it meanwhile."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis import Redis

from worker.queue.places import Place, batches, places


class Busy:
    """A client of Redis behind each of whose looks at a list somebody takes out the newest three of what it saw."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def zrevrangebyscore(self, name: str, *args: Any, **named: Any) -> Any:
        found = cast(list[tuple[bytes, float]], self._redis.zrevrangebyscore(name, *args, **named))
        if found:
            self._redis.zrem(name, *(entry for entry, _ in found[:3]))
        return found


@pytest.mark.parametrize("of_one_ms", [1, 3])
def test_what_others_take_out_hides_nothing_behind_it(redis: Redis, of_one_ms: int) -> None:
    ids = [f"{number:032x}" for number in range(40)]
    redis.zadd("list", {one: 1000 + number // of_one_ms for number, one in enumerate(ids)})
    found = [one for some in batches(cast(Redis, Busy(redis)), "list", 5) for one in some]
    assert found == sorted(set(found), reverse=True)
    left = cast(list[bytes], redis.zrange("list", 0, -1))
    assert 0 < len(left) < len(ids)
    assert {one.decode() for one in left} <= set(found)


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_those_of_one_millisecond_come_once_each(redis: Redis, count: int) -> None:
    ids = [f"{number:032x}" for number in range(40)]
    redis.zadd("list", {one: 1000 + (number > 10) + (number > 30) for number, one in enumerate(ids)})
    assert [one for some in batches(redis, "list", count) for one in some] == ids[::-1]
    assert places(redis, "list", Place(1001, ids[12]), 2) == [Place(1001, ids[11]), Place(1000, ids[10])]

"""What one owner may ask for: requests a minute, scans and decisions a day. Counted in Redis, on its clock, a script a question.

How many scans an owner may have open at once is kept by the records themselves (``submit.lua``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from redis import Redis

from worker.errors import QueueFull
from worker.queue.connection import translated

# The generic cell rate algorithm (ITU-T I.371): one number a bucket, the time at which it will be full again. That is a minute
# ahead at most: one beyond it was stored by a clock that has been put back since.
_REQUEST = """
local t = redis.call('TIME')
local now, minute = t[1] * 1000000 + t[2], 60000000
local stored = tonumber(redis.call('GET', KEYS[1]) or 0)
local full_at = math.min(math.max(stored, now), now + minute)
local next_full_at = full_at + minute / tonumber(ARGV[1])
local early = next_full_at - now - minute
if early <= 0.5 then full_at = next_full_at end
if full_at ~= stored then redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', 61000) end
return early > 0.5 and math.ceil(early / 1000000) or 0
"""
# KEYS[2] is of one asking: the day it was counted on, kept well beyond the patience with which an API sends it again. ARGV[4]:
# the only day that it may be counted on, if any. Returns the seconds left of a day that is full, else 0, and the day.
_OF_A_DAY = """
local counted_on = redis.call('GET', KEYS[2])
if counted_on then return {0, tonumber(counted_on)} end
local now = tonumber(redis.call('TIME')[1])
local day, left = math.floor(now / 86400), 86400 - now % 86400
if ARGV[4] ~= '' and tonumber(ARGV[4]) ~= day then return {0, day} end
local r = redis.call('HMGET', KEYS[1], 'day', ARGV[3])
local count = tonumber(r[1] or -1) == day and tonumber(r[2]) or 0
count = math.max(count + tonumber(ARGV[1]), 0)
if tonumber(ARGV[1]) > 0 and count > tonumber(ARGV[2]) then return {left, day} end
redis.call('HSET', KEYS[1], 'day', day, ARGV[3], count)
redis.call('EXPIRE', KEYS[1], left)
redis.call('SET', KEYS[2], day, 'EX', 120)
return {0, day}
"""


class Quotas:
    """Limits for each owner; all of them raise QueueFull, which says when to come again."""

    def __init__(
        self,
        redis: Redis,
        namespace: str = "vf",
        *,
        requests_per_minute: int = 600,
        scans_per_day: int = 1_000_000,
        decisions_per_day: int = 10_000,
    ) -> None:
        self._namespace = namespace
        self._requests_per_minute, self._scans_per_day = requests_per_minute, scans_per_day
        self._decisions_per_day = decisions_per_day
        self._request, self._of_a_day = redis.register_script(_REQUEST), redis.register_script(_OF_A_DAY)

    def request(self, owner: str) -> None:
        """Count one request: a token bucket that holds a minute's worth and fills evenly. A refused one is not counted."""
        with translated():
            wait_s = int(self._request(keys=[f"{self._namespace}:rate:{owner}"], args=[self._requests_per_minute]))
        if wait_s:
            raise QueueFull(f"more than {self._requests_per_minute} requests a minute", retry_after_s=wait_s)

    def scans(self, owner: str, count: int = 1) -> int:
        """Count scans of this day (UTC), all of them or none: the day, for ``give_back``."""
        wait_s, day = self._count_scans(owner, count)
        if wait_s:
            raise QueueFull(f"more than {self._scans_per_day} scans a day", retry_after_s=wait_s)
        return day

    @contextmanager
    def decision(self, owner: str) -> Iterator[None]:
        """Count a decision of this day (UTC) that is made within, also one that changes nothing, unless it fails."""
        wait_s, day = self._count_decisions(owner, 1)
        if wait_s:
            raise QueueFull(f"more than {self._decisions_per_day} decisions a day", retry_after_s=wait_s)
        is_made = False
        try:
            yield
            is_made = True
        finally:
            if not is_made:
                self._count_decisions(owner, -1, day)

    def give_back(self, owner: str, day: int, count: int = 1) -> None:
        """Scans that were counted on that day and then not taken into the queue after all. Nothing once the day is over."""
        self._count_scans(owner, -count, day)

    def _count_scans(self, owner: str, by: int, only_on: int | None = None) -> tuple[int, int]:
        return self._count(f"day:{owner}", "scans", by, self._scans_per_day, only_on)

    def _count_decisions(self, owner: str, by: int, only_on: int | None = None) -> tuple[int, int]:
        return self._count(f"decisions_day:{owner}", "decisions", by, self._decisions_per_day, only_on)

    def _count(self, key: str, what: str, by: int, most: int, only_on: int | None) -> tuple[int, int]:
        """0, or the seconds left of a day that is full; and the day."""
        with translated():
            keys = [f"{self._namespace}:{key}", f"{self._namespace}:counted:{uuid4().hex}"]
            wait_s, day = self._of_a_day(keys=keys, args=[by, most, what, "" if only_on is None else only_on])
            return int(wait_s), int(day)

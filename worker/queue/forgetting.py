"""Drops from the lists of scans what Redis has forgotten by itself: some of them at a time, list after list."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import cast

from worker.queue.records import Records

LOOKED_AT = 1000
"""So many ids in one step, at most; a script may name some thousands in one command."""
LISTS = 100
"""So many lists in one step, at most: each is a call."""
REST_S = 60.0


@dataclass(slots=True, kw_only=True)
class Forgetting:
    """A walk through ``dead``, ``index`` and each owner's, from the oldest scan to those that are too young to be gone; ``step``
    is a part of it. The lists are by the time of the end or of the submission, and an old scan may be open still: only what has
    no record any more is dropped.

    What stays is stepped over: the next step goes on behind it, so that old open scans never stop the walk. When all lists are
    done it rests before it begins anew, so that they are not looked at all the time. Where others drop ids meanwhile, the places
    of those behind move up, and some are passed by: until the next walk.
    """

    records: Records
    looked_at: int = LOOKED_AT
    rest_s: float = REST_S
    _lists: deque[str] = field(default_factory=deque)
    _place: int = 0
    _begins_s: float = float("-inf")

    def step(self) -> int:
        """How many were dropped."""
        if not self._lists:
            if time.monotonic() < self._begins_s:
                return 0
            owners = cast(list[bytes], self.records.redis.hkeys(self.records.key("open")))
            self._lists.extend(("dead", "index", *(f"index:{owner.decode()}" for owner in owners)))
        left, dropped = self.looked_at, 0
        for _ in range(LISTS):
            looked_at, gone = self.records.forget(self._lists[0], self._place, left)
            dropped += gone
            left -= looked_at
            self._place += looked_at - gone
            if not left:
                break
            self._lists.popleft()
            self._place = 0
            if not self._lists:
                self._begins_s = time.monotonic() + self.rest_s
                break
        return dropped

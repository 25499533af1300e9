"""How often one site is asked: a port, and the implementation for one process. Workers that share Redis use that one's
(``worker.queue.site_limits``)."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

KEPT_S: Final = 900.0
"""A turn that nobody comes for is forgotten after so long."""


class SiteLimiter(Protocol):
    """Turns at a site, one for each post that is looked at. Whoever must wait has a turn set aside, by its ``ticket``."""

    @property
    def longest_wait_s(self) -> float:
        """A turn that is further away is left to a later attempt."""
        ...

    def take(self, site: str, ticket: str) -> float:
        """0: the turn is taken. Otherwise it comes in so many seconds; then ask again with the same ticket."""
        ...

    def hold(self, site: str, wait_s: float) -> None:
        """Nobody's turn comes for so long: the site said so."""
        ...


class LocalSiteLimiter:
    """The generic cell rate algorithm in this process: a minute's worth of turns at once, then evenly. Thread-safe.

    Without a queue there is no later attempt: a turn is waited for as long as a download may take.
    """

    def __init__(self, *, per_minute: int, longest_wait_s: float = math.inf, now: Callable[[], float] = time.monotonic) -> None:
        self.longest_wait_s = longest_wait_s
        self._step_s = 60 / per_minute
        self._now = now
        self._full_at: dict[str, float] = {}
        self._held_until: dict[str, float] = {}
        self._turns: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def take(self, site: str, ticket: str) -> float:
        with self._lock:
            now = self._now()
            held_s = self._held_until.get(site, now) - now
            if held_s > 1e-6:
                return held_s
            at = self._turns.pop((site, ticket), None)
            if at is None:
                full_at = max(self._full_at.get(site, 0.0), now) + self._step_s
                self._full_at[site] = full_at
                at = full_at - 60
            if at - now <= 1e-6:
                return 0.0
            self._turns = {key: due for key, due in self._turns.items() if due > now - KEPT_S}
            self._turns[site, ticket] = at
            return at - now

    def hold(self, site: str, wait_s: float) -> None:
        with self._lock:
            self._held_until[site] = max(self._held_until.get(site, 0.0), self._now() + wait_s)

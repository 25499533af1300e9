"""How often one site is asked: a port, and the implementation for one process. Workers that share Redis use that one's
(``worker.queue.site_limits``)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol


class SiteLimiter(Protocol):
    """Turns at a site, one for each post that is looked at."""

    def take(self, site: str) -> float:
        """0: the turn is taken. Otherwise it is not, and comes no sooner than in so many seconds."""
        ...

    def hold(self, site: str, wait_s: float) -> None:
        """Nobody's turn comes for so long: the site said so."""
        ...


class LocalSiteLimiter:
    """The generic cell rate algorithm in this process: a minute's worth of turns at once, then evenly. Thread-safe."""

    def __init__(self, *, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self._step_s = 60 / per_minute
        self._now = now
        self._full_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, site: str) -> float:
        with self._lock:
            now = self._now()
            full_at = max(self._full_at.get(site, 0.0), now) + self._step_s
            early_s = full_at - now - 60
            if early_s > 1e-6:
                return early_s
            self._full_at[site] = full_at
            return 0.0

    def hold(self, site: str, wait_s: float) -> None:
        with self._lock:
            held_until = self._now() + 60 - self._step_s + wait_s
            self._full_at[site] = max(self._full_at.get(site, 0.0), held_until)

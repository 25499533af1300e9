"""A Redis that is known to be silent: who comes next is told so at once, instead of holding a thread until patience is out.

All callers share some forty threads. While each waits in its turn, those behind them wait for all who came before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker.errors import RedisDown

REST_S = 2.0
"""So often somebody asks it again; the others are told meanwhile."""
SLOW_S = 1.0
"""A Redis that says sooner what is the matter (it is full, say) keeps nobody waiting."""

_NEVER = float("-inf")


class Silence:
    """Shared by all callers of a process."""

    def __init__(self, *, rest_s: float = REST_S, slow_s: float = SLOW_S, now: Callable[[], float] = time.monotonic) -> None:
        self._rest_s, self._slow_s, self._now = rest_s, slow_s, now
        self._answered_s = _NEVER
        self._again_s: float | None = None
        """Silent, as far as is known: not to be asked before then."""

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Around what a request asks Redis first, and nothing that could be refused without asking it: a refusal is an answer.
        Raises RedisDown where somebody has waited in vain, another did or does so after them, and nobody was answered since they
        began to (a single connection that hangs is no silence)."""
        begun_s = self._now()
        if self._again_s is not None:
            if begun_s < self._again_s:
                raise RedisDown("Redis is away: it was silent a moment ago")
            self._again_s = begun_s + self._rest_s
        is_silent = False
        try:
            yield
        except RedisDown:
            is_silent = self._now() - begun_s >= self._slow_s
            raise
        finally:
            if not is_silent:
                self._answered_s, self._again_s = self._now(), None
            elif self._answered_s < begun_s:
                # Whoever waits in vain first may be alone with a connection that hangs: the next caller finds out at once.
                self._again_s = self._now() + (0 if self._again_s is None else self._rest_s)

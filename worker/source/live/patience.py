"""How long a live source is waited for: growing pauses between tries, and the end of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from worker.errors import FetchError, FetchRateLimited, FetchTimeout

FIRST_WAIT_S: Final = 0.5
MOST_WAIT_S: Final = 5.0
LONGEST_ASKED_S: Final = 30.0
"""A server that wants to be left alone for longer is asked nevertheless."""
TICK_S: Final = 0.2
"""Whoever reads is asked so often whether to stop."""


class Patience:
    """``give_up_s``: without anything new for so long the stream counts as lost. ``now`` and ``sleep`` may be a test's."""

    def __init__(
        self, give_up_s: float, *, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.give_up_s = give_up_s
        self.now = now
        self._sleep = sleep
        self._came_at = now()
        self._has_come = False
        self._failures = 0

    def came(self) -> None:
        """Something new came."""
        self._came_at = self.now()
        self._has_come = True
        self._failures = 0

    def answered(self) -> None:
        """The other end is there, if with nothing new."""
        self._failures = 0

    def failed(self, error: FetchError) -> float:
        """Seconds to wait before the next try. Raises ``error`` where there is none: too late, or nothing came and never will."""
        if not self._has_come and not error.retryable:
            raise error
        if self.is_over():
            raise error
        wait_s: float = min(FIRST_WAIT_S * 2 ** min(self._failures, 10), MOST_WAIT_S)
        self._failures += 1
        asked_s = error.retry_after_s if isinstance(error, FetchRateLimited) else None
        return max(wait_s, min(asked_s or 0.0, LONGEST_ASKED_S))

    def is_over(self) -> bool:
        """Whether nothing new has come for too long."""
        return self.now() - self._came_at >= self.give_up_s

    def check(self) -> None:
        """Raises FetchTimeout where the other end answers, but nothing new has come for too long."""
        if self.is_over():
            raise FetchTimeout(f"nothing new came for {self.give_up_s:g} s")

    def stopping(self, stop: Callable[[], bool]) -> Callable[[], bool]:
        """``stop``, asked while bytes come: too few of them for too long end it, too. The answer raises FetchTimeout then."""

        def asked() -> bool:
            if stop():
                return True
            self.check()
            return False

        return asked

    def wait(self, seconds: float) -> Iterator[None]:
        """Wait so long in small steps."""
        until = self.now() + seconds
        while (left_s := until - self.now()) > 1e-6:
            yield None
            self._sleep(min(left_s, TICK_S))

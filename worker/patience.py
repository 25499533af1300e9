"""How long somebody goes on waiting, whatever time this process was itself stopped for: by Ctrl-Z, or on a frozen machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

LOOK_S: Final = 1.0
"""Who waits looks at the clock so often, or more so."""


class Patience:
    """``left_s`` of waiting time. Each look at the clock costs the time since the one before, but ``most_s`` at most: who looks
    far more often, and finds that more has passed, was stopped and did not see whether the answer came."""

    __slots__ = ("_clock", "_looked_s", "_most_s", "left_s")

    def __init__(self, left_s: float, *, most_s: float = 2 * LOOK_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.left_s, self._most_s, self._clock = left_s, most_s, clock
        self._looked_s = clock()

    def resume(self) -> None:
        """What has passed since the last look costs nothing."""
        self._looked_s = self._clock()

    def spend(self) -> float:
        """What is left now; none or less: it is over."""
        now_s = self._clock()
        self.left_s -= min(now_s - self._looked_s, self._most_s)
        self._looked_s = now_s
        return self.left_s

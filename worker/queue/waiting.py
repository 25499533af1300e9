"""Waiting for scans to end: asks for many at once, ever less often, and rides out a Redis that is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from worker.errors import RedisDown
from worker.queue.connection import translated
from worker.queue.record import FINAL, State
from worker.queue.records import Records

log = logging.getLogger(__name__)

AT_ONCE = 500
PAUSE_S, PAUSE_MAX_S = 0.05, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How far a wait is. ``progress``: the sum over all scans, each from 0 to 1."""

    ended: int
    total: int
    progress: float


def wait_for(
    records: Records,
    scan_ids: Iterable[str],
    owner: str | None,
    timeout_s: float | None = None,
    on_progress: Callable[[Waiting], None] = lambda waiting: None,
) -> dict[str, State | None]:
    """Until all have ended or the time is up: the state of each as last seen; None: no such scan (any more), or another owner's.

    Raises RedisDown: it stayed away for the connection's patience and, where there is a ``timeout_s``, until its end.
    """
    states: dict[str, State | None] = dict.fromkeys(scan_ids, "queued")
    deadline_s = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    still = list(states)
    pause_s = PAUSE_S
    while True:
        asked_s = time.monotonic()
        try:
            still, running = _ask(records, still, owner, states)
        except RedisDown as exc:
            if timeout_s is None or time.monotonic() >= deadline_s:
                raise
            log.warning("waiting for scans: %s", exc)
        else:
            ended = len(states) - len(still)
            on_progress(Waiting(ended=ended, total=len(states), progress=ended + running))
        now_s = time.monotonic()
        if not still or now_s >= deadline_s:
            return states
        # However many there are, asking takes no more than a fifth of the time.
        pause_s = min(PAUSE_MAX_S, 1.3 * pause_s)
        time.sleep(min(max(pause_s, 4 * (now_s - asked_s)), deadline_s - now_s))


def _ask(
    records: Records, scan_ids: Sequence[str], owner: str | None, states: dict[str, State | None]
) -> tuple[list[str], float]:
    """Those that have not ended, and the sum of their progress; ``states`` are brought up to date."""
    still: list[str] = []
    running = 0.0
    for start in range(0, len(scan_ids), AT_ONCE):
        some = scan_ids[start : start + AT_ONCE]
        with translated():
            found = records.states(some, owner)
        for scan_id, one in zip(some, found, strict=True):
            states[scan_id] = cast(State, one[0]) if one else None
            if one is not None and one[0] not in FINAL:
                still.append(scan_id)
                running += one[1]
    return still, running

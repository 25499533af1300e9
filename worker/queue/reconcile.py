"""Finds scans that lost their worker or their doorbell, and rings for them again. One worker at a time does it, by a lock."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.queue.away import AWAY, reason
from worker.queue.doorbell import Doorbells
from worker.queue.forgetting import Forgetting
from worker.queue.records import Records
from worker.telemetry.catalogue import ACTIONS_TAKEN, LAST_PASS
from worker.telemetry.port import SILENT, Telemetry

log = logging.getLogger(__name__)

AT_ONCE = 1000
"""Due scans looked at in one step of a pass."""
SWEEP_S = 300.0
ROLL_CALL_S = 300.0
"""RQ forgets a worker eight minutes after its last word; its sets are cleaned so often."""
TAKEN = {"again": "requeued"}
"""What is counted of a scan that was taken from a lost worker; other words are their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What one pass did; ``elected`` False: another worker does it."""

    elected: bool
    expired: tuple[str, ...] = ()
    rung: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Reconciler:
    """``run_once`` is one pass. A lease counts as run out when two passes saw it so: workers of a Redis that was away for a while
    get the time of one pass to renew theirs."""

    records: Records
    bells: Doorbells
    worker: str
    every_s: float
    telemetry: Telemetry = SILENT
    _seen: dict[str, int] = field(default_factory=dict)
    _forgetting: Forgetting = field(init=False)
    _roll_call_s: float = float("-inf")

    def __post_init__(self) -> None:
        self._forgetting = Forgetting(records=self.records)

    def run(self, stop: threading.Event) -> None:
        """Pass after pass until told to stop; a Redis that is away is waited for."""
        while not stop.wait(self.every_s):
            try:
                self.run_once()
            except AWAY as exc:
                self._seen.clear()
                log.warning("reconciler: %s", reason(exc))
            except Exception:  # the thread's outermost boundary: without it no scan would be found again
                self._seen.clear()
                log.exception("reconciler: a pass failed")

    def run_once(self) -> Pass:
        if not self._is_elected():
            self._seen.clear()
            return Pass(elected=False)
        ring: list[str] = []
        taken: list[str] = []
        seen = self.records.expired()
        for scan_id, lease_ms in seen.items():
            if self._seen.get(scan_id) != lease_ms:
                continue
            ended = self.records.expire(scan_id, lease_ms)
            if ended.how != "held":
                taken.append(scan_id)
                self.telemetry.count(ACTIONS_TAKEN, TAKEN.get(ended.how, ended.how))
                log.warning("scan %s lost its worker: %s", scan_id, ended.how, extra={"scan_id": scan_id})
            ring += ended.ring
        self._seen = seen
        silent = self._silent()
        ring += silent
        if ring:
            self._ring(ring)
        if silent:
            self.telemetry.count(ACTIONS_TAKEN, "rung", by=len(silent))
        self._clean()
        self.telemetry.set(LAST_PASS, self.records.now_s())  # one clock for all workers: the latest is looked for
        return Pass(elected=True, expired=tuple(taken), rung=tuple(ring))

    def _clean(self) -> None:
        """What has drifted, and what is of those that are gone."""
        self.records.tidy(())
        self._forgetting.step()
        if time.monotonic() >= self._roll_call_s:
            self.bells.forget_lost_workers()
            self._roll_call_s = time.monotonic() + ROLL_CALL_S

    def _ring(self, scan_ids: list[str]) -> None:
        """What was begun before goes first: a scan that lost its worker does not wait for the whole backlog again."""
        priorities, begun = self.records.priorities(scan_ids), self.records.begun(scan_ids)
        self.bells.ring({scan_id: one for scan_id, one in priorities.items() if scan_id not in begun})
        self.bells.ring({scan_id: one for scan_id, one in priorities.items() if scan_id in begun}, first=True)

    def _silent(self) -> list[str]:
        """Scans that should be in a queue and are not, of those that are due now: where so many wait that the first are due again
        before the last were looked at, the pass ends all the same, and leases are looked at in the next. That is this worker's,
        too, however long this one took: of two that take turns, neither would see a lease a second time."""
        silent: list[str] = []
        heard: set[str] | None = None
        by_ms = self.records.now_ms()
        while due := self.records.due(AT_ONCE, by_ms):
            heard = self.bells.waiting() if heard is None else heard
            self.records.put_off(due)
            self.records.tidy(due)
            silent += [scan_id for scan_id in due if scan_id not in heard]
            if len(due) < AT_ONCE or not self._is_elected():
                break
        return silent

    def _is_elected(self) -> bool:
        """Take the lock, or keep it."""
        redis, key = self.records.redis, self.records.key("reconciler")
        ttl_ms = round(2000 * self.every_s) + 500
        if redis.set(key, self.worker, nx=True, px=ttl_ms):
            return True
        if redis.get(key) != self.worker.encode():
            return False
        return bool(redis.set(key, self.worker, xx=True, px=ttl_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeper:
    """Removes artefacts whose time is over, one worker at a time for each store, by Redis's clock: a wrong one of a machine would
    cost everybody theirs. A thread of its own: a store may be slow, or not answer. ``url`` is the store's; the lock is named
    after its hash, for it may hold a password. ``sweep`` is given Unix time."""

    records: Records
    url: str
    sweep: Callable[[float], object]
    telemetry: Telemetry = SILENT

    def run(self, stop: threading.Event) -> None:
        """At once, and then again and again, until told to stop: a worker may live shorter than ``SWEEP_S``."""
        while not stop.is_set():
            try:
                self.run_once()
            except Exception:  # the thread's outermost boundary: a store's driver may raise anything
                log.exception("artefacts could not be swept")
            stop.wait(SWEEP_S)

    def run_once(self) -> bool:
        """Whether it was this worker's turn."""
        key = self.records.key("sweep", hashlib.sha256(self.url.encode()).hexdigest()[:16])
        if not self.records.redis.set(key, 1, nx=True, px=round(900 * SWEEP_S)):
            return False
        self.sweep(self.records.now_s())
        self.telemetry.count(ACTIONS_TAKEN, "swept")
        return True

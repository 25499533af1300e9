"""A worker's parent process: hears doorbells, claims scans, renews leases, enforces limits, and kills. It never loads a model."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from rq.worker import BaseWorker
from rq.worker.base import WorkerStatus

from worker.errors import LeaseLost
from worker.patience import Patience
from worker.queue.away import AWAY, reason
from worker.queue.doorbell import HEAR_S, Doorbells
from worker.queue.reconcile import Reconciler, Sweeper
from worker.queue.record import Claim, Ended
from worker.queue.records import Records
from worker.queue.roster import Roster
from worker.queue.warm import ChildDied, WarmChild
from worker.telemetry.catalogue import CHILD_RESTARTS
from worker.telemetry.context import about
from worker.telemetry.port import SILENT, Telemetry

log = logging.getLogger(__name__)

TELL_S = 5.0
CANCEL_S = 3.0
REST_S = 5.0
"""After a scan that had no room here: who fails at once is free at once, and would take all that waits from those who have."""
LAST_WORD_S = 2.0
"""A lease that is over may be so because the child has just finished: it gets so long to say so."""


class RqFace(BaseWorker):
    """What RQ's own tools see of us (``rq info``): a registered worker with a heartbeat and a state. It runs no job."""

    def show(self, state: str) -> None:
        """Say that we live, and what we do; enrol again where Redis has forgotten us."""
        if not self.connection.exists(self.key):
            self.register_birth()  # type: ignore[no-untyped-call]
        self.heartbeat()
        self.set_state(state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a scan, or the process that does the scans, is ended; see ``QueueSettings``. 0 scans or MiB: never."""

    timeout_s: float
    grace_s: float
    scans_per_child: int
    child_growth_mib: int


@dataclass(slots=True, kw_only=True)
class ScanWorker:
    """``run`` works until it is told to ``stop``; then a running scan may end within the grace period, or is handed back."""

    face: Redis
    """A client of RQ's own: it changes the time limits of the one that it is given."""
    records: Records
    brisk: Records
    """The same, by a client without patience: while it waited, nobody would look at the clock."""
    bells: Doorbells
    roster: Roster
    child: WarmChild
    limits: Limits
    queues: Sequence[str]
    reconcile_s: float
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}")
    sweeper: Sweeper | None = None
    """None: there is no store to sweep."""
    on_beat: Callable[[dict[str, Any]], None] = lambda facts: None
    """Told every few seconds that the worker lives, Redis or no Redis."""
    telemetry: Telemetry = SILENT
    scans: int = 0
    _why_killed: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)
    _stopped_s: float = 0.0
    _told_s: float = 0.0
    _scan: str = ""
    _kept: Claim | None = None
    """What is to be handed back, and Redis has not heard of it yet."""
    _face: RqFace | None = None

    def stop(self) -> None:
        """From a signal handler or another thread."""
        if not self._stop.is_set():
            self._stopped_s = time.monotonic()
            self._stop.set()

    def run(self) -> None:
        """Raises ChildDied, NotReady, ConfigError or ModelError where the scanning process cannot be started."""
        reconciler = Reconciler(
            records=self.records, bells=self.bells, worker=self.name, every_s=self.reconcile_s, telemetry=self.telemetry
        )
        chores: list[Reconciler | Sweeper] = [reconciler] if self.sweeper is None else [reconciler, self.sweeper]
        threads = [
            threading.Thread(target=chore.run, args=(self._stop,), name=type(chore).__name__, daemon=True) for chore in chores
        ]
        for thread in threads:
            thread.start()
        try:
            self._start_child()
            while not self._stop.is_set():
                self._one_round()
        finally:
            self.stop()
            self.child.retire()
            for thread in threads:
                thread.join(LAST_WORD_S)
            self._leave()

    def _one_round(self) -> None:
        try:
            self._tell(WorkerStatus.IDLE)
            if self._kept is not None:
                self._hand_back(self._kept)
            scan_id = self.bells.hear(self.queues, HEAR_S)
            if scan_id is not None and not self._stop.is_set():
                self.answer(scan_id)
        except AWAY as exc:
            log.warning("waiting for Redis: %s", reason(exc))
            self._stop.wait(1.0)
        self._renew_child()

    def answer(self, scan_id: str) -> None:
        """Do a scan that a doorbell named, if it is still to be done."""
        claim = self.records.claim(scan_id, self.name)
        if isinstance(claim, Ended):
            log.debug("scan %s: nothing to do, it is %s", scan_id, claim.how)
            self._ring(claim.ring)
            return
        with about(scan_id=claim.id, attempt=claim.attempt):
            log.info("scan %s claimed, attempt %d", claim.id, claim.attempt, extra={"worker": self.name})
            self._do(claim)

    def _do(self, claim: Claim) -> None:
        self._scan = claim.id
        self._tell(WorkerStatus.BUSY, at_once=True)
        said: dict[str, Any] | None = None
        try:
            self.child.send({"scan": claim.id, "attempt": claim.attempt, "adopts": claim.adopts})
            said = self._attend(claim)
        except ChildDied as exc:
            log.warning("scan %s: %s", claim.id, exc)
            self._end(claim, "internal", str(exc), retryable=True)
        except LeaseLost:
            log.warning("scan %s: attempt %d was overtaken", claim.id, claim.attempt)
        finally:
            if said is None:  # it may still be at it, whatever ended the watch: the next scan is not to wait behind it
                self._kill("overtaken")
            self._scan = ""
            self.scans += 1
        if said is not None:
            self._heard(claim, said)

    def _attend(self, claim: Claim) -> dict[str, Any] | None:
        """Renew the lease and look at the clock until the child is done with it: what it said. None: it was ended before.

        Raises ChildDied, LeaseLost.
        """
        patience = Patience(self.limits.timeout_s, most_s=self.records.terms.lease_s)
        cancel_s: float | None = None
        every_s = self.records.terms.lease_s / 4
        while True:
            said = self.child.hear(every_s)
            if _is_end(said, claim):
                return said
            if said is not None:
                continue
            try:
                is_unwanted = self._renew(claim)
            except LeaseLost:
                said = self.child.hear(LAST_WORD_S)
                if not _is_end(said, claim):
                    raise
                return said
            now = time.monotonic()
            if is_unwanted:  # the child sees it too, at its next progress: then the model stays warm
                cancel_s = cancel_s or now
                if now - cancel_s >= (max(CANCEL_S, self.limits.grace_s) if claim.is_watch else CANCEL_S):
                    self._kill("cancelled")
                    self._end(claim, "internal", "cancelled", retryable=claim.is_watch)  # its report is for another attempt
                    return None
            if patience.spend() < 0:
                self._time_out(claim)
                return None
            if self._stop.is_set() and claim.is_watch:  # it hands itself back
                self.child.nudge()
            if self._stop.is_set() and now - self._stopped_s > self.limits.grace_s:
                self.child.kill()
                self._hand_back(claim)
                return None

    def _renew(self, claim: Claim) -> bool:
        """Whether the scan is to be cancelled. A Redis that is away is no reason to stop. Raises LeaseLost."""
        try:
            return self.brisk.renew(claim)
        except AWAY as exc:
            log.warning("scan %s: lease not renewed: %s", claim.id, reason(exc))
            return False
        finally:  # after it: what the roster takes of the time must not cost the lease
            self._tell(WorkerStatus.BUSY)

    def _heard(self, claim: Claim, said: dict[str, Any]) -> None:
        self.child.served += not said.get("waits")
        if said["how"] == "redis_down":  # no fault of the scan's
            self._hand_back(claim)
        self._ring(said["ring"], first=self._stop.is_set())
        if said.get("rest"):
            log.warning("no scan is taken for %g s: there was no room for this one", REST_S)
            self._stop.wait(REST_S)

    def _hand_back(self, claim: Claim) -> None:
        """To whoever is free, before all that wait. Where Redis does not hear of it, again before the next scan: a lease that
        only runs out would count as an attempt."""
        self._kept = claim
        with contextlib.suppress(LeaseLost):
            ended = self.records.hand_back(claim)
            log.info("scan %s handed back: it is %s", claim.id, ended.how)
            self._ring(ended.ring, first=True)
        self._kept = None

    def _time_out(self, claim: Claim) -> None:
        self._kill("timeout")
        try:
            stage = self.brisk.stage(claim.id)
        except AWAY:
            stage = ""
        late = {"fetch": "fetch_timeout", "watch": "fetch_timeout", "decode": "decode_timeout", "infer": "decode_timeout"}
        code = late.get(stage, "internal")
        message = f"ended after {self.limits.timeout_s:g} s in stage {stage or 'start'}"
        self._end(claim, code, message, retryable=code != "decode_timeout")

    def _kill(self, why: str) -> None:
        """``why`` it will have to be started again, where it was not dead already."""
        if not self._why_killed and self.child.is_alive:
            self._why_killed = why
        self.child.kill()

    def _end(self, claim: Claim, code: str, message: str, *, retryable: bool) -> None:
        self.child.kill()
        with contextlib.suppress(LeaseLost):
            ended = self.records.fail(claim, code=code, message=message, retryable=retryable)
            log.info("scan %s: %s", claim.id, ended.how)  # its code is told where it is counted
            self._ring(ended.ring)

    def _ring(self, scan_ids: Sequence[str], *, first: bool = False) -> None:
        if scan_ids:
            self.bells.ring(self.records.priorities(scan_ids), first=first)

    def _renew_child(self) -> None:
        """Replace a scanning process that is gone, has served long, has grown, or said that it is in a bad way."""
        if self._stop.is_set():
            return
        child, limits = self.child, self.limits
        served = limits.scans_per_child and child.served >= limits.scans_per_child
        grown = limits.child_growth_mib and child.grown_mib > limits.child_growth_mib
        if child.is_alive and not (served or grown or child.replace):
            return
        why = self._why_killed or "died"
        if child.is_alive:
            why = "poisoned" if child.replace else "served" if served else "grown"
        self.telemetry.count(CHILD_RESTARTS, why)
        self._why_killed = ""
        log.info("starting a scanning process (%s)", "the last one ended" if not child.is_alive else "the last one has served")
        self._start_child()

    def _start_child(self) -> None:
        """Everybody is told that there is none meanwhile, and that this process lives."""
        self._told_s = 0.0
        self.child.start(self._keep_waiting)
        self._told_s = 0.0

    def _keep_waiting(self) -> bool:
        self._tell(WorkerStatus.STARTED)
        return not self._stop.is_set()

    def _tell(self, state: WorkerStatus, *, at_once: bool = False) -> None:
        """Now and then, that we live."""
        now = time.monotonic()
        if now - self._told_s < TELL_S and not (at_once and now - self._told_s > 1):
            return
        facts = self._facts(state)
        self.on_beat(facts)
        try:
            self._told_s = now
            self.roster.tell(self.name, facts)
            if self._face is None:
                self._face = RqFace(list(self.bells.queues.values()), name=self.name, connection=self.face)
            self._face.show(state)
        except AWAY as exc:
            log.warning("nobody is told that this worker lives: %s", reason(exc))

    def _facts(self, state: WorkerStatus) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "child": self.child.pid,
            "ready": self.child.is_ready,
            "starts": self.child.starts,
            "memory_mib": self.child.memory_mib,
            "queues": list(self.queues),
            "state": state.value,
            "scan": self._scan,
            "scans": self.scans,
        }

    def _leave(self) -> None:
        try:
            self.roster.leave(self.name)
            if self._face is not None:
                self._face.register_death()  # type: ignore[no-untyped-call]
        except AWAY as exc:
            log.warning("left without a word: %s", reason(exc))


def _is_end(said: dict[str, Any] | None, claim: Claim) -> bool:
    return said is not None and said.get("done") == claim.id and said.get("attempt") == claim.attempt

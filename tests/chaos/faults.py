"""The faults, each at a victim that was seen in a stage: it is frozen, looked at again, and struck only if it still is there.

==============  =====================================================  ==========================================================
kind            in fetch, decode, infer, store                         in callback
==============  =====================================================  ==========================================================
child           SIGKILL of the scanning process                        SIGKILL of the courier in mid-send
parent          SIGKILL of the worker that keeps it                    SIGKILL of the courier's supervisor; another is started
both            SIGKILL of both at once                                SIGKILL of both at once
stop            SIGSTOP of both until another worker has the scan,     SIGSTOP of the courier until another has sent the
                then SIGCONT                                           callback, then SIGCONT
redis-kill      SIGKILL of Redis, started again after a while          the same, in mid-send
redis-pause     SIGSTOP of Redis for longer than a lease               the same, in mid-send
==============  =====================================================  ==========================================================
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.recovery import Hit, Watch
from tests.chaos.victims import CALLBACK, Eyes, Victim, send
from worker.queue.embedded import EmbeddedRedis

KILLS = ("child", "parent", "both")
KINDS = (*KILLS, "stop", "redis-kill", "redis-pause")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """``stop_s``: how long a stopped one stays so at most, if nobody takes its place."""

    redis_down_s: float
    redis_pause_s: float
    stop_s: float
    find_s: float


@dataclass(slots=True, kw_only=True)
class Stopped:
    """Processes that are to go on when another has taken their place, or at the deadline."""

    hit: Hit
    pids: list[int]
    deadline: float


@dataclass(slots=True, kw_only=True)
class Saboteur:
    """``strike`` blocks while Redis is away; what is stopped goes on in ``let_go``, which is to be called often."""

    server: EmbeddedRedis
    eyes: Eyes
    watch: Watch
    times: Times
    is_real: Callable[[str], bool]
    is_sent_again: Callable[[Hit], bool]
    stopped: list[Stopped] = field(default_factory=list)
    missed: int = 0

    def strike(self, kind: str, stage: str) -> Hit | None:
        """None: nobody was found in that stage in time."""
        deadline = time.monotonic() + self.times.find_s
        while time.monotonic() < deadline:
            self.let_go()
            victim = self.eyes.find(stage, 0.5)
            if victim is not None and (hit := self._strike(kind, victim)) is not None:
                return hit
        return None

    def _strike(self, kind: str, victim: Victim) -> Hit | None:
        """Freeze, look again, strike. None: the victim had gone on."""
        is_courier = victim.stage == CALLBACK
        pids = [victim.child] if is_courier else [victim.parent, victim.child]
        for pid in pids:
            send(pid, signal.SIGSTOP)
        keep_stopped = False
        try:
            if not self.eyes.still(victim):
                self.missed += 1
                return None
            hit = self._hit(kind, victim)
            if kind == "stop":
                keep_stopped = True
                self.stopped.append(Stopped(hit=hit, pids=pids, deadline=time.monotonic() + self.times.stop_s))
            elif kind in KILLS:
                doomed = {"child": [victim.child], "parent": [victim.parent], "both": [victim.parent, victim.child]}[kind]
                for pid in doomed:
                    send(pid, signal.SIGKILL)
            elif kind == "redis-kill":
                self.server.kill()
            else:
                self.server.pause()
        finally:
            if not keep_stopped:
                for pid in reversed(pids):
                    send(pid, signal.SIGCONT)
        if kind.startswith("redis"):
            self._bring_back(kind, hit)
        with self.watch.lock:
            self.watch.hits.append(hit)
        return hit

    def _hit(self, kind: str, victim: Victim) -> Hit:
        return Hit(
            kind=kind,
            stage=victim.stage,
            scan=victim.scan,
            attempt=victim.attempt,
            at_s=time.time(),
            is_real=self.is_real(victim.scan),
        )

    def _bring_back(self, kind: str, hit: Hit) -> None:
        if kind == "redis-kill":
            time.sleep(self.times.redis_down_s)
            self.server.start()
        else:
            time.sleep(self.times.redis_pause_s)
            self.server.resume()
        hit.back_s = time.time()
        with self.watch.lock:
            self.watch.outages.append((hit.at_s, hit.back_s))

    def let_go(self, *, all_of_them: bool = False) -> None:
        """Let those go on whose place another has taken."""
        now = time.monotonic()
        for one in list(self.stopped):
            is_replaced = self.is_sent_again(one.hit) if one.hit.stage == CALLBACK else one.hit.again_s > 0
            if is_replaced or all_of_them or now > one.deadline:
                for pid in reversed(one.pids):
                    send(pid, signal.SIGCONT)
                self.stopped.remove(one)


def delete_rq_keys(redis: Any) -> int:
    """All that RQ knows: queues, jobs, workers, registries."""
    keys = list(redis.scan_iter("rq:*"))
    return int(redis.delete(*keys)) if keys else 0

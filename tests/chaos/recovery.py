"""How long it takes until what was struck goes on: a scan is claimed again or ends, a callback is sent again."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.chaos.audit import FINAL, digest
from tests.chaos.ledger import Ledger, read_lines
from tests.chaos.victims import CALLBACK

WATCH_S = 0.1


@dataclass(slots=True, kw_only=True)
class Hit:
    """A fault that struck; times in seconds since 1970. ``outage``: Redis was away from ``at_s`` to ``back_s``."""

    kind: str
    stage: str
    scan: str
    attempt: int
    at_s: float
    is_real: bool
    back_s: float = 0.0
    again_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class Watch:
    """Looks at every accepted scan until it has ended, and writes down how it ended; and at every scan that was hit."""

    redis: Redis
    namespace: str
    ends: Ledger
    open: set[str] = field(default_factory=set)
    hits: list[Hit] = field(default_factory=list)
    outages: list[tuple[float, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(WATCH_S):
            try:
                self.look()
            except RedisError:  # the drill has taken Redis away
                continue

    def look(self) -> None:
        with self.lock:
            scans, hits = list(self.open), [hit for hit in self.hits if hit.stage != CALLBACK and not hit.again_s]
        names = ("state", "attempt", "stage", "claimed_ms", "finished_ms")
        with self.redis.pipeline(transaction=False) as pipe:
            for scan in [*scans, *(hit.scan for hit in hits)]:
                pipe.hmget(f"{self.namespace}:scan:{scan}", *names)
            told = pipe.execute()
        for hit, (state, attempt, stage, claimed_ms, finished_ms) in zip(hits, told[len(scans) :], strict=True):
            if state is None:
                continue  # lost: the auditor says so
            if state.decode() in FINAL:
                hit.again_s = int(finished_ms) / 1000
            elif int(attempt) > hit.attempt and state == b"running":
                hit.again_s = int(claimed_ms) / 1000
            elif hit.back_s and stage.decode() != hit.stage:
                hit.again_s = time.time()
        for scan, values in zip(scans, told, strict=False):
            if values[0] is not None and values[0].decode() in FINAL:
                self._note(scan)

    def _note(self, scan: str) -> None:
        stored: Any = self.redis.hgetall(f"{self.namespace}:scan:{scan}")
        record = {name.decode(): value for name, value in stored.items()}
        self.ends.add({"id": scan, "state": record["state"].decode(), "digest": digest(record), "seen": time.time()})
        with self.lock:
            self.open.discard(scan)

    def delay_s(self, hit: Hit) -> float | None:
        """From the later of the fault and Redis's return; None: it never went on."""
        if not hit.again_s:
            return None
        base = hit.at_s
        for since_s, until_s in self.outages:
            if since_s < hit.again_s and until_s > base:
                base = max(base, until_s)
        return max(0.0, hit.again_s - base)


def sent_again(hits: list[Hit], received: Path) -> None:
    """For callbacks that were hit: when the receiver got them next."""
    times: dict[str, list[float]] = defaultdict(list)
    for line in read_lines(received):
        times[line["id"]].append(line["time"])
    for hit in hits:
        if hit.stage == CALLBACK:
            hit.again_s = next((time_s for time_s in times[f"evt_{hit.scan}"] if time_s > hit.at_s), 0.0)

"""What a drill does: how many scans, which faults in which order, and the settings that the queue runs with."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tests.chaos.crew import SUPERVISORS
from tests.chaos.faults import KINDS, Times
from tests.chaos.ledger import RunFolder
from tests.chaos.victims import STAGES
from worker.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``short``: short leases and no real scanner; each kind and each stage once, not each pair. ``watched``: each part is killed
    once instead, and a Prometheus is to see it."""

    scans: int = 200
    faults: int = 30
    seed: int = 1
    workers: int = 2
    short: bool = False
    watched: bool = False

    @property
    def open_scans(self) -> int:
        """So many are kept in the queue: a little more than the workers have hands for, or four times as much."""
        return 4 * SUPERVISORS * self.workers if self.watched else 3 * self.workers + 2

    @property
    def least_hits(self) -> int:
        return 0 if self.watched else self.faults

    def pairs(self) -> list[tuple[str, str]]:
        """In the order in which they strike; those beyond the first of each are drawn."""
        draw = random.Random(self.seed)
        if self.short:
            wanted = [(kind, STAGES[n % len(STAGES)]) for n, kind in enumerate(KINDS)]
        else:
            wanted = [(kind, stage) for kind in KINDS for stage in STAGES]
        more = [(draw.choice(KINDS), draw.choice(STAGES)) for _ in range(max(0, self.faults - len(wanted)))]
        both = wanted + more
        draw.shuffle(both)
        return both

    @property
    def latest_s(self) -> float:
        """When a scan must go on. The short form runs beside other tests, on machines where a worker starts slowly."""
        return 90 if self.short else 30

    @property
    def times(self) -> Times:
        if self.short:
            return Times(redis_down_s=5 if self.watched else 0.5, redis_pause_s=2.5, stop_s=8, find_s=90)
        return Times(redis_down_s=5 if self.watched else 2, redis_pause_s=10, stop_s=40, find_s=120)

    def settings(self, folder: RunFolder, redis_url: str) -> Settings:
        """Leases, reconciler and back-off are the defaults of ``configs/worker.yaml``, but for the short form."""
        queue: dict[str, Any] = {"hold_s": 0.8, "max_attempts": 5, "grace_s": 5, "media_roots": [str(folder.media)]}
        callbacks: dict[str, Any] = {"backoff_s": 1, "backoff_max_s": 4, "timeout_s": 6, "lease_s": 10}
        if self.short:
            queue |= {
                "hold_s": 0.25,
                "lease_s": 1.5,
                "reconcile_s": 0.4,
                "ring_again_s": 1.5,
                "backoff_s": 0.1,
                "grace_s": 2,
                "max_attempts": 3,
            }
            callbacks |= {"backoff_s": 0.2, "backoff_max_s": 1, "timeout_s": 2, "lease_s": 3}
        return Settings.model_validate(
            {
                "redis": {"url": redis_url, "timeout_s": 2 if self.short else 10},
                "queue": queue,
                "callbacks": callbacks,
                "source": {
                    "temp_dir": str(folder.scratch),
                    "allow_private_hosts": ["127.0.0.1"],
                    "stall_s": 1.5,
                    "timeout_s": 30,
                },
                "model": {"threads": 1},
                "telemetry": {"port": 0 if self.watched else None},
            }
        )

    def told(self) -> str:
        leases = "short leases, the drill's own scanner only" if self.short else "leases and back-off as by default"
        return f"seed {self.seed}; {SUPERVISORS} supervisors with {self.workers} workers and a courier each; {leases}"

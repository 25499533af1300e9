"""What a drill's faults were and how fast things went on, in tables."""

from __future__ import annotations

import statistics
from collections import Counter

from tests.chaos.faults import KILLS, KINDS
from tests.chaos.recovery import Hit, Watch
from tests.chaos.victims import CALLBACK, SCAN_STAGES, STAGES


def told_faults(hits: list[Hit]) -> list[str]:
    count = Counter((hit.kind, hit.stage) for hit in hits)
    real = sum(hit.is_real for hit in hits)
    rows = [f"  {kind:<12}" + "".join(f"{count[kind, stage]:>10}" for stage in STAGES) for kind in KINDS]
    head = f"faults: {len(hits)}, of them {real} on scans of the real scanner; all of RQ's keys deleted once"
    return [head, "  " + " " * 12 + "".join(f"{stage:>10}" for stage in STAGES), *rows]


def told_recovery(watch: Watch) -> float:
    """Print it; the longest of a killed or stopped worker's scan, infinite for one that never went on."""
    print("recovery in seconds, from the later of the fault and Redis's return")
    print("  " + " " * 40 + "    n     min  median     p95     max")
    groups = {
        "scan of a killed worker or child": [h for h in watch.hits if h.kind in KILLS and h.stage in SCAN_STAGES],
        "scan of a stopped worker": [h for h in watch.hits if h.kind == "stop" and h.stage in SCAN_STAGES],
        "scan when Redis was away": [h for h in watch.hits if h.kind.startswith("redis") and h.stage in SCAN_STAGES],
        "callback of a lost courier, sent again": [
            h for h in watch.hits if not h.kind.startswith("redis") and h.stage == CALLBACK
        ],
    }
    latest = 0.0
    for name, hits in groups.items():
        delays = [watch.delay_s(hit) for hit in hits]
        known = [delay for delay in delays if delay is not None]
        print(f"  {name:<40}" + (distribution(known) if known else "    0"))
        if name.startswith("scan of"):
            latest = max([latest, *(float("inf") if delay is None else delay for delay in delays)])
    return latest


def distribution(delays_s: list[float]) -> str:
    ordered = sorted(delays_s)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"{len(ordered):>5}{ordered[0]:>8.1f}{statistics.median(ordered):>8.1f}{p95:>8.1f}{ordered[-1]:>8.1f}"

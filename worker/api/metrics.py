"""What Prometheus reads: the queue as Redis holds it at that moment, and this process's own requests.

Labels come from closed sets: route templates, methods, statuses. Nothing in them names an owner or a scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from worker.errors import RedisDown
from worker.queue.desk import Desk
from worker.queue.record import FINAL
from worker.queue.roster import Roster

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
GAUGES = {
    "waiting": ("veriframe_scans_waiting", "Scans that no worker has begun, or that wait for another try"),
    "running": ("veriframe_scans_running", "Scans that a worker holds"),
    "dead": ("veriframe_scans_dead", "Scans in the dead letter state"),
    "callbacks": ("veriframe_callbacks_owed", "Callbacks that are not delivered yet"),
}


class Metrics:
    """A registry of its own, so that two applications in one process do not meet."""

    def __init__(self, desk: Desk, roster: Roster) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter(
            "veriframe_http_requests", "Requests answered", ("method", "route", "status"), registry=self._registry
        )
        self._latency = Histogram(
            "veriframe_http_request_seconds",
            "From the first byte of a request to the last of its answer",
            ("method", "route"),
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._registry.register(_Queue(desk, roster))

    def answered(self, method: str, route: str, status: int, took_s: float) -> None:
        """``status`` 499: the caller went away before there was an answer."""
        known = method if method in METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._latency.labels(known, route).observe(took_s)

    def exposition(self) -> bytes:
        return generate_latest(self._registry)


class _Queue(Collector):
    """Asks Redis when it is asked itself; ``veriframe_redis_up`` 0 stands alone, for nothing else is known then."""

    def __init__(self, desk: Desk, roster: Roster) -> None:
        self._desk, self._roster = desk, roster

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        try:
            backlog, workers, ended = self._desk.backlog(), self._roster.live(), self._ended()
        except (RedisError, RedisDown):
            yield GaugeMetricFamily("veriframe_redis_up", "Whether Redis answers", 0)
            return
        yield GaugeMetricFamily("veriframe_redis_up", "Whether Redis answers", 1)
        for name, (metric, meaning) in GAUGES.items():
            yield GaugeMetricFamily(metric, meaning, backlog[name])
        by_status = CounterMetricFamily("veriframe_scans_ended", "Scans by the state they ended in", labels=("status",))
        for status in sorted(FINAL):
            by_status.add_metric((status,), ended.get(status, 0))
        yield by_status
        ready = sum(1 for facts in workers.values() if facts.get("ready"))
        alive = GaugeMetricFamily("veriframe_workers", "Live workers by whether their model has run", labels=("state",))
        alive.add_metric(("ready",), ready)
        alive.add_metric(("starting",), len(workers) - ready)
        yield alive

    def _ended(self) -> dict[str, int]:
        records = self._desk.records
        found = cast(dict[bytes, bytes], records.redis.hgetall(records.key("ended")))
        return {status.decode(): int(count) for status, count in found.items()}

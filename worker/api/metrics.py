"""What Prometheus reads: the queue as Redis holds it at that moment, and this process's own requests.

Labels come from closed sets: route templates, methods, statuses. Nothing in them names an owner or a scan.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from worker import __version__
from worker.errors import ConfigError, RedisDown
from worker.queue.backlog import read_backlog
from worker.queue.desk import Desk
from worker.queue.roster import Roster, queues_served, serves_scans
from worker.queue.server import check_writable
from worker.telemetry import catalogue

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class Metrics:
    """A registry of its own, so that two applications in one process do not meet."""

    def __init__(self, desk: Desk, roster: Roster) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        requests, request = catalogue.REQUESTS, catalogue.REQUEST
        self._requests = Counter(requests.name, requests.help, requests.label_names, registry=self._registry)
        self._latency = Histogram(
            request.name, request.help, request.label_names, buckets=request.buckets, registry=self._registry
        )
        build, started = catalogue.BUILD, catalogue.STARTED
        Gauge(build.name, build.help, build.label_names, registry=self._registry).labels(__version__).set(1)
        Gauge(started.name, started.help, registry=self._registry).set_to_current_time()
        self._registry.register(_Queue(desk, roster))

    def answered(self, method: str, route: str, status: int, took_s: float) -> None:
        """``status`` 499: the caller went away before there was an answer."""
        known = method if method in METHODS else catalogue.OTHER
        self._requests.labels(known, route, str(status)).inc()
        self._latency.labels(known, route).observe(took_s)

    def exposition(self) -> bytes:
        return generate_latest(self._registry)


class _Queue(Collector):
    """Asks Redis when it is asked itself; ``veriframe_redis_up`` 0 stands alone: what a Redis without writes holds grows old."""

    def __init__(self, desk: Desk, roster: Roster) -> None:
        self._desk, self._roster = desk, roster

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        try:
            check_writable(self._desk.records.redis, self._desk.records.namespace)
            backlog, workers = read_backlog(self._desk.records), self._roster.live()
        except (RedisError, RedisDown, ConfigError):
            yield _gauge(catalogue.REDIS_UP, 0)
            return
        yield _gauge(catalogue.REDIS_UP, 1)
        yield _gauge(catalogue.WAITING, backlog.waiting)
        yield _gauge(catalogue.DUE, backlog.due)
        yield _gauge(catalogue.OLDEST, backlog.oldest_s)
        yield _gauge(catalogue.RUNNING, backlog.running)
        yield _gauge(catalogue.DEAD, backlog.dead)
        yield _ended(backlog.ended)
        yield _gauge(catalogue.CALLBACKS_OWED, backlog.callbacks_owed)
        yield _gauge(catalogue.CALLBACKS_OLDEST, backlog.callbacks_oldest_s)
        yield _gauge(catalogue.CALLBACKS_DEAD, backlog.callbacks_dead)
        yield _workers(workers.values())
        yield _queue_workers(workers.values())


def _gauge(metric: catalogue.Metric, value: float | Mapping[str, float]) -> GaugeMetricFamily:
    """``value``: one, or by the values of the metric's one label."""
    if not isinstance(value, Mapping):
        return GaugeMetricFamily(metric.name, metric.help, value)
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.label_names)
    for label, one in value.items():
        family.add_metric((label,), one)
    return family


def _workers(told: Iterable[Mapping[str, Any]]) -> GaugeMetricFamily:
    """Every combination of the labels, also of those that there are none of: an alert can look for 0."""
    metric = catalogue.WORKERS
    seen: Tally[tuple[str, ...]] = Tally(
        ("ready" if facts.get("ready") else "starting", "scans" if serves_scans(facts) else "streams") for facts in told
    )
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.label_names)
    for labels in metric.from_the_start():
        family.add_metric(labels, seen[labels])
    return family


def _queue_workers(told: Iterable[Mapping[str, Any]]) -> GaugeMetricFamily:
    served = Tally(queue for facts in told if facts.get("ready") for queue in queues_served(facts))
    return _gauge(catalogue.QUEUE_WORKERS, {queue: served[queue] for queue in catalogue.QUEUES})


def _ended(ended: Mapping[str, int]) -> CounterMetricFamily:
    metric = catalogue.ENDED
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.label_names)
    for (status,) in metric.from_the_start():
        family.add_metric((status,), ended.get(status, 0))
    return family

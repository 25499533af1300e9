"""A telemetry that remembers what it was told, by metric and labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from worker.telemetry.catalogue import OF_A_WORKER, Metric


@dataclass(slots=True)
class Recorded:
    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)
    seen: dict[tuple[str, ...], list[float]] = field(default_factory=lambda: defaultdict(list))
    shown: dict[tuple[str, ...], float] = field(default_factory=dict)

    def count(self, metric: Metric, *labels: str, by: int = 1) -> None:
        self.counts[self._key(metric, "counter", labels)] += by

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        self.seen[self._key(metric, "histogram", labels)].append(value)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        self.shown[self._key(metric, "gauge", labels)] = value

    def _key(self, metric: Metric, kind: str, labels: tuple[str, ...]) -> tuple[str, ...]:
        """As strict as the real one, and in the closed sets stricter."""
        assert metric in OF_A_WORKER
        assert metric.kind == kind
        assert metric.closed(labels) == labels, f"{metric.name}: {labels}"
        return (metric.name.removeprefix("veriframe_"), *labels)

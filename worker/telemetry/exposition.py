"""What a worker or courier answers Prometheus: the numbers of all its processes, and of the machine's GPUs at that moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from worker.telemetry.catalogue import GPU_MEMORY, GPU_USE
from worker.telemetry.gpu import GpuProbe
from worker.telemetry.places import left_places


class Exposition:
    """Safe on several threads. ``gpus`` None: there is no driver, and so no such metric."""

    def __init__(self, folder: Path, gpus: GpuProbe | None) -> None:
        self._folder, self._gpus = folder, gpus

    def __call__(self) -> bytes:
        """Prometheus's text format."""
        with left_places(self._folder) as left:
            for place in left:
                mark_process_dead(place, str(self._folder))  # type: ignore[no-untyped-call]
        registry = CollectorRegistry(auto_describe=False)
        MultiProcessCollector(registry, path=str(self._folder))  # type: ignore[no-untyped-call]
        if self._gpus is not None:
            registry.register(_Cards(self._gpus))
        return generate_latest(registry)


class _Cards(Collector):
    def __init__(self, probe: GpuProbe) -> None:
        self._probe = probe

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        memory = GaugeMetricFamily(GPU_MEMORY.name, GPU_MEMORY.help, labels=GPU_MEMORY.label_names)
        use = GaugeMetricFamily(GPU_USE.name, GPU_USE.help, labels=GPU_USE.label_names)
        for gpu in self._probe.gpus():
            for state, size_bytes in (("used", gpu.used_bytes), ("total", gpu.total_bytes)):
                if size_bytes is not None:
                    memory.add_metric((gpu.index, state), size_bytes)
            if gpu.busy is not None:
                use.add_metric((gpu.index,), gpu.busy)
        yield memory
        yield use

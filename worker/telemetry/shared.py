"""Metrics of many processes that may be killed at any time: each writes files of its own, and the supervisor reads them all.

This is prometheus_client's multiprocess mode (https://prometheus.github.io/client_python/multiprocess/): numbers in mapped
memory, so that one is there as soon as it is counted, whatever becomes of the process. Files are named by ``places``. Made once
in a process, and only in those of our own: from then on, all metrics of prometheus_client's in it go to these files.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from worker import __version__
from worker.telemetry.catalogue import BUILD, OF_A_WORKER, STARTED, Metric
from worker.telemetry.places import make_room, take_place
from worker.telemetry.port import SILENT, Telemetry

log = logging.getLogger(__name__)

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
MODES = {False: "max", True: "livemax"}
"""Of a gauge that ``is_live``; the other kind stays when its process is gone. What two processes say alike is told once."""
KINDS = ("counter", "histogram", *(f"gauge_{mode}" for mode in MODES.values()))


class SharedTelemetry:
    """``folder`` is private and the same for all processes of one supervisor. Raises OSError where there is no room in it."""

    def __init__(self, folder: Path) -> None:
        from prometheus_client import CollectorRegistry, multiprocess, values

        place = take_place(folder)
        multiprocess.mark_process_dead(place, str(folder))  # type: ignore[no-untyped-call]
        make_room(folder, place, KINDS)
        os.environ[FOLDER] = str(folder)  # the library has no other way to be told
        values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]
        registry = CollectorRegistry(auto_describe=False)
        self._made = {metric: _made(metric, registry) for metric in OF_A_WORKER}

    def count(self, metric: Metric, *labels: str, by: int = 1) -> None:
        self._of(metric, labels).inc(by)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        self._of(metric, labels).observe(value)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        self._of(metric, labels).set(value)

    def begin(self) -> None:
        """Said once for all processes: the version, that it is now that they are started, and 0 for everything that may come."""
        for metric in OF_A_WORKER:
            for labels in metric.from_the_start():
                self._of(metric, labels)
        self.set(BUILD, 1, __version__)
        self.set(STARTED, time.time())

    def _of(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        made = self._made[metric]
        return made.labels(*metric.closed(labels)) if metric.labels else made


def open_telemetry(folder: str | None) -> Telemetry:
    """For a process below a supervisor, which told it the folder; None: nobody listens. Without room it works uncounted."""
    if not folder:
        return SILENT
    try:
        return SharedTelemetry(Path(folder))
    except OSError as exc:
        log.warning("what this process does is not counted: %s", exc.strerror)
        return SILENT


def _made(metric: Metric, registry: Any) -> Any:
    from prometheus_client import Counter, Gauge, Histogram

    if metric.kind == "counter":
        return Counter(metric.name, metric.help, metric.label_names, registry=registry)
    if metric.kind == "histogram":
        return Histogram(metric.name, metric.help, metric.label_names, buckets=metric.buckets, registry=registry)
    mode: Any = MODES[metric.is_live]
    return Gauge(metric.name, metric.help, metric.label_names, registry=registry, multiprocess_mode=mode)

"""The role: where the program says what happens, in numbers. It knows no Prometheus, and a scan on a laptop says it to nobody."""

from __future__ import annotations

from typing import Protocol

from worker.telemetry.catalogue import Metric


class Telemetry(Protocol):
    """``labels`` are the values of the metric's labels, in its order; safe on any thread, and it never raises for a value.

    A value outside a metric's closed set is told as ``other``, so that no input can make a new series.
    """

    def count(self, metric: Metric, *labels: str, by: int = 1) -> None:
        """So many more of a counter."""
        ...

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """One value of a histogram."""
        ...

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """What a gauge shows from now on."""
        ...


class Silent:
    """Where nobody listens."""

    def count(self, metric: Metric, *labels: str, by: int = 1) -> None:
        """Nothing."""

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Nothing."""

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Nothing."""


SILENT = Silent()

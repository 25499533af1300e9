"""Keeps reports in memory, for a command that judges them together."""

from __future__ import annotations

from worker.report import Report


class Collected:
    """A sink (``worker.output.sink.Sink``) whose output is a list."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

    def write(self, report: Report) -> None:
        self.reports.append(report)

    def close(self) -> None:
        """Nothing to finish."""

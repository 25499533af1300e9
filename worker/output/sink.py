"""What takes reports as they are finished, and the formats of standard output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TextIO

from worker.output.csv import CsvSink
from worker.output.jsonl import JsonArraySink, JsonLinesSink
from worker.output.table import TableSink
from worker.report import Report


class Sink(Protocol):
    def write(self, report: Report) -> None:
        """Take one finished report; a streaming format shows it at once."""
        ...

    def close(self) -> None:
        """Finish the output, also where only a part of the items was scanned."""
        ...


SINKS: dict[str, Callable[[TextIO], Sink]] = {
    "table": TableSink,
    "json": JsonArraySink,
    "jsonl": JsonLinesSink,
    "csv": CsvSink,
}

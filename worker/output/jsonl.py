"""Whole reports as JSON: one a line, or one array.

Plain ASCII: whatever a file name holds, it cannot move a terminal's cursor or split a line.
"""

from __future__ import annotations

import json
from typing import TextIO

from worker.report import Report


def json_line(report: Report) -> str:
    """The report on one line, without a line end."""
    return json.dumps(report.model_dump(mode="json"), ensure_ascii=True, allow_nan=False, separators=(",", ":"))


class JsonLinesSink:
    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, report: Report) -> None:
        self._out.write(json_line(report) + "\n")
        self._out.flush()

    def close(self) -> None:
        self._out.flush()


class JsonArraySink:
    """Streams the array's elements; what was written before an interruption is closed to valid JSON."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._begun = False

    def write(self, report: Report) -> None:
        self._out.write((",\n" if self._begun else "[\n") + json_line(report))
        self._begun = True

    def close(self) -> None:
        self._out.write("\n]\n" if self._begun else "[]\n")
        self._out.flush()

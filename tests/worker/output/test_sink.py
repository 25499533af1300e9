"""The formats of standard output: what is shown when, and what is whole."""

from __future__ import annotations

import io
import json

import pytest

from tests.worker.pages.reports import report
from worker.output.sink import SINKS


@pytest.mark.parametrize(("name", "lines"), [("jsonl", 1), ("csv", 2)])
def test_a_streaming_format_shows_a_report_at_once(name: str, lines: int) -> None:
    written = io.BytesIO()
    out = io.TextIOWrapper(written, encoding="utf-8")
    SINKS[name](out).write(report())
    assert written.getvalue().count(b"\n") == lines


@pytest.mark.parametrize("count", [0, 1, 2])
def test_json_is_one_array_of_however_many(count: int) -> None:
    out = io.StringIO()
    sink = SINKS["json"](out)
    for _ in range(count):
        sink.write(report())
    sink.close()
    assert [one["id"] for one in json.loads(out.getvalue())] == [report().id] * count

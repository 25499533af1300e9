"""The result table for people."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.worker.pages.reports import PART, report
from worker.errors import EmptyMedia
from worker.jobs import failed
from worker.output.scans import ScansTable
from worker.output.table import TableSink


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_narrow_terminal_costs_no_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = Terminal()
    sink = TableSink(out)
    sink.write(failed(Path("/clips/a.mp4"), EmptyMedia("no bytes")))
    sink.close()
    printed = out.getvalue()
    assert all(name in printed for name in ("file", "verdict", "score", "tracks", "worst", "seconds", "why"))
    assert "a.mp4" in printed


@pytest.mark.parametrize("table", [TableSink, ScansTable])
def test_that_the_score_is_not_calibrated_stands_beside_the_verdict(table: type[TableSink] | type[ScansTable]) -> None:
    out = io.StringIO()
    sink = table(out)
    sink.write(report(calibrated=False))
    sink.write(report())
    sink.close()
    assert out.getvalue().count("not calibrated") == 1


@pytest.mark.parametrize("table", [TableSink, ScansTable])
def test_that_only_a_part_was_scanned_stands_beside_the_verdict(table: type[TableSink] | type[ScansTable]) -> None:
    out = io.StringIO()
    sink = table(out)
    sink.write(report(reasons=({"code": "near_threshold"},), sampling=PART))
    sink.close()
    assert "near threshold, part only" in out.getvalue()

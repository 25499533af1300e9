"""The result table for people."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.worker.pages.reports import PART, report
from tests.worker.pages.reports import failed as failed_report
from worker.errors import EmptyMedia
from worker.jobs import failed
from worker.output.scans import ScansTable
from worker.output.table import TableSink


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        (TableSink, ("file", "verdict", "score", "tracks", "worst", "seconds", "why")),
        (ScansTable, ("id", "status", "verdict", "score", "created (UTC)", "source", "why")),
    ],
)
@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_a_narrow_terminal_costs_no_column(
    kind: str, table: type[TableSink] | type[ScansTable], columns: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setenv("COLUMNS", "40")
    out = Terminal()
    sink = table(out)
    report = failed(Path("/clips/a.mp4"), EmptyMedia("no bytes"))
    sink.write(report)
    sink.close()
    printed = out.getvalue()
    assert all(name in printed for name in columns)
    assert "a.mp4" in printed
    assert table is TableSink or report.id in printed


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


def files_of(*paths: str) -> list[str]:
    """The printed table's line above it, if there is one, and its first column."""
    out = io.StringIO()
    sink = TableSink(out)
    for path in paths:
        kind = "url" if "://" in path else "path"
        sink.write(report(source={"kind": kind, kind: path}))
    sink.close()
    above, _, rows = out.getvalue().partition(" file ")
    return [*above.strip(" ").split("\n")[:1], *(line.split()[0] for line in rows.splitlines()[2:] if line.strip())]


def test_files_come_by_path_below_the_folder_that_holds_all() -> None:
    assert files_of("/clips/x/b.mp4", "/clips/x/a.mp4", "/clips/c.mp4") == ["in /clips/", "c.mp4", "x/a.mp4", "x/b.mp4"]
    assert files_of("/b.mp4", "/a.mp4") == ["in /", "a.mp4", "b.mp4"]
    assert files_of("/clips/a.mp4") == ["", "/clips/a.mp4"]
    addresses = ["https://media.example/a.mp4", "https://media.example/b.mp4"]
    assert files_of(*addresses) == ["", *addresses]
    assert files_of("/clips/a.mp4", addresses[0]) == ["", "/clips/a.mp4", addresses[0]]


def test_what_failed_or_does_not_apply_is_told_in_words() -> None:
    out = io.StringIO()
    sink = TableSink(out)
    for one in (failed_report(), report(verdict="not_applicable", score=None, source={"kind": "path", "path": "/clips/b.mp4"})):
        sink.write(one)
    sink.close()
    broken, other = (line.split() for line in out.getvalue().splitlines() if ".mp4" in line)
    assert broken == ["a.mp4", "failed", "corrupt:", "moov", "atom", "not", "found"]
    assert other == ["b.mp4", "not", "applicable", "1", "00:02", "1.5"]


def test_of_nothing_no_table_is_printed() -> None:
    out = io.StringIO()
    TableSink(out).close()
    ScansTable(out).close()
    assert out.getvalue() == ""


def test_scans_are_told_with_their_state() -> None:
    out = io.StringIO()
    table = ScansTable(out)
    table.write(report(status="running", progress=0.375, verdict=None, score=None))
    table.write(failed_report().model_copy(update={"dead": True}))
    table.write(report(verdict="real", decided_by="human"))
    table.close()
    running, dead, decided = (line.split() for line in out.getvalue().splitlines() if line.startswith(" " + report().id))
    assert running[1:5] == ["running", "38%", "2026-11-28", "12:00:00"]
    assert dead[1:4] == ["dead", "2026-11-28", "12:00:00"]
    assert decided[1:5] == ["completed", "real", "(human)", "0.90"]
    assert decided[7] == "/clips/a.mp4"


@pytest.mark.parametrize("table", [TableSink, ScansTable])
def test_a_score_that_is_less_than_one_is_not_said_to_be_one(table: type[TableSink] | type[ScansTable]) -> None:
    out = io.StringIO()
    sink = table(out)
    sink.write(report(score=0.996))
    sink.close()
    assert " >0.99 " in out.getvalue()


@pytest.mark.parametrize("table", [TableSink, ScansTable])
def test_columns_line_up_also_where_the_encoding_lacks_letters_of_a_name(table: type[TableSink] | type[ScansTable]) -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii", "backslashreplace")
    sink = table(out)
    for name in ("caf\u00e9 \u65e5\u672c.mp4", "b.mp4"):
        sink.write(report(source={"kind": "path", "path": f"/clips/{name}"}))
    sink.close()
    out.seek(0)
    printed = out.read()
    assert r"caf\xe9 \u65e5\u672c.mp4" in printed
    assert len({len(line) for line in printed.splitlines() if line.startswith(("+", "|"))}) == 1

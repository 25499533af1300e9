"""The table of scans in whatever state, for people: what the queue's commands print."""

from __future__ import annotations

from typing import TextIO

from rich import box
from rich.table import Table
from rich.text import Text

from worker.output.row import row_of
from worker.output.text import shown_score
from worker.output.width import wide_console
from worker.report import Report

_STYLES = {
    "fake": "bold red",
    "real": "green",
    "uncertain": "yellow",
    "failed": "magenta",
    "dead": "bold magenta",
    "running": "cyan",
}


class ScansTable:
    """Keeps a row of each report, and prints them in the order in which they came. ``owners``: say whose each is."""

    def __init__(self, out: TextIO, *, owners: bool = False) -> None:
        self._owners = owners
        self._console = wide_console(out, in_a_file=200, at_least=150)
        self._table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        self._table.add_column("id", no_wrap=True)
        self._table.add_column("status", no_wrap=True)
        self._table.add_column("verdict", no_wrap=True)
        self._table.add_column("score", justify="right", no_wrap=True)
        self._table.add_column("created (UTC)", no_wrap=True)
        if owners:
            self._table.add_column("owner", overflow="fold")
        self._table.add_column("source", overflow="fold")
        self._table.add_column("why", overflow="fold")

    def write(self, report: Report) -> None:
        row = row_of(report, self._console.encoding)
        status = "dead" if report.dead else report.status
        shown = f"running {report.progress:.0%}" if status == "running" else status
        verdict = row.verdict.replace("_", " ") + (" (human)" if report.decided_by == "human" else "")
        self._table.add_row(
            Text(report.id),
            Text(shown, style=_STYLES.get(status, "")),
            Text(verdict, style=_STYLES.get(row.verdict, "")),
            Text("" if row.score is None else shown_score(row.score)),
            Text(report.created_at.strftime("%Y-%m-%d %H:%M:%S")),
            *((Text(report.owner or ""),) if self._owners else ()),
            Text(row.path),
            Text(row.why, style="dim"),
        )

    def close(self) -> None:
        if self._table.row_count:
            self._console.print(self._table)

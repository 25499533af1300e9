"""The result table for people, printed when the scan is over."""

from __future__ import annotations

import os
from typing import TextIO

from rich import box
from rich.table import Table
from rich.text import Text

from worker.output.row import Row, row_of
from worker.output.text import clock, shown_score
from worker.output.width import wide_console
from worker.report import Report

_STYLES = {"fake": "bold red", "real": "green", "uncertain": "yellow", "not_applicable": "dim", "failed": "magenta"}


class TableSink:
    """Keeps a row of each report, and prints them in the order of their paths."""

    def __init__(self, out: TextIO) -> None:
        self._console = wide_console(out, in_a_file=160, at_least=80)
        self._rows: list[Row] = []

    def write(self, report: Report) -> None:
        self._rows.append(row_of(report, self._console.encoding))

    def close(self) -> None:
        if not self._rows:
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("file", overflow="fold", ratio=None, min_width=12)
        table.add_column("verdict", no_wrap=True)
        for name in ("score", "tracks", "worst", "seconds"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("why", overflow="fold")
        rows = sorted(self._rows, key=lambda row: row.path)
        above = _folder_above([row.path for row in rows])
        for row in rows:
            table.add_row(*cells(row, above))
        if above:
            self._console.print(Text(f"in {above}", style="dim"))
        self._console.print(table)


def cells(row: Row, above: str) -> tuple[Text, ...]:
    """A row of the table; ``above`` is the folder left out of its path."""
    failed = row.status == "failed"
    verdict = "failed" if failed else row.verdict.replace("_", " ")
    style = _STYLES.get("failed" if failed else row.verdict, "")
    return (
        Text(row.path[len(above) :]),
        Text(verdict, style=style),
        Text("" if row.score is None else shown_score(row.score), style=style),
        Text(str(row.tracks) if not failed else ""),
        Text("" if row.worst_ms is None else clock(row.worst_ms)),
        Text("" if row.seconds is None else f"{row.seconds:.1f}"),
        Text(row.why, style="dim"),
    )


def _folder_above(paths: list[str]) -> str:
    """The folder that holds all paths, with the slash; empty for one path alone."""
    if len(paths) < 2 or not all(map(os.path.isabs, paths)):  # an address is above no other
        return ""
    above = os.path.commonpath([os.path.dirname(path) for path in paths])
    return above if above.endswith(os.sep) else above + os.sep

"""The doctor's findings as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.check import Check
from worker.doctor import can_scan
from worker.output.text import escaped

_MARKS = {"ok": ("ok", "green"), "note": ("--", "yellow"), "bad": ("NO", "bold red")}


def print_checks(checks: Sequence[Check], out: TextIO) -> None:
    """A line for each check, what to do below it, and whether a scan can run."""
    console = Console(file=out, highlight=False, width=None if out.isatty() else 120)
    grid = Table.grid(padding=(0, 2))
    for check in checks:
        mark, style = _MARKS[check.status]
        detail = Text(escaped(check.detail))
        if check.mend:
            detail.append(f"\nto mend: {escaped(check.mend)}", style="dim")
        grid.add_row(Text(mark, style=style), Text(check.name, style="bold"), detail)
    console.print(grid)
    console.print("A scan can run here." if can_scan(list(checks)) else "A scan cannot run here.", style="bold")

"""``veriframe bench history``: figures as rows of the table in docs/performance.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optimize.bench.document import HISTORY_HEAD, history_rows, read_document
from optimize.commands.bench.outcome import bench_exit_codes


def history(
    documents: Annotated[list[Path], typer.Argument(metavar="JSON...", help="Files that --json wrote.")],
    only: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Only figures with this in their names; may be given several times.")
    ] = None,
    head: Annotated[bool, typer.Option(help="Also print the table's head.")] = False,
) -> None:
    """Print the figures of one or more runs as Markdown rows, one each: date, commit, machine, command, figure, value.

    Example: veriframe bench history runs/bench/*.json --only "times as fast" >> docs/performance.md
    """
    with bench_exit_codes():
        rows = history_rows((read_document(path) for path in documents), only or ("",))
        typer.echo("\n".join([*(HISTORY_HEAD if head else ()), *rows]))

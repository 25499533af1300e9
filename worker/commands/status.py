"""``veriframe status``: how far scans are."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands import outcome
from worker.commands.options import ConfigOption, FailOnOption
from worker.commands.service import (
    FormatOption,
    OwnerOption,
    QuietOption,
    complain,
    interruptible,
    opened_desk,
    print_reports,
    progress_bar,
    read_ids,
)

if TYPE_CHECKING:
    from worker.report import Report

EPILOG = """[bold]Examples[/]

\b
veriframe status 0123456789abcdef0123456789abcdef
veriframe status --format jsonl ID | jq .progress
veriframe enqueue - < posts.txt | veriframe status --watch -
veriframe status --events ID                      what a watch of a stream has told so far
veriframe status --events --watch ID              and goes on to tell, until it ends

[bold]Exit codes[/]

\b
0    shown
1    a scan has a --fail-on verdict
2    usage: a flag, a setting, no scan id
3    no such scan; with --watch also: one failed, was cancelled, did
     not end in time, or is a watch that lost its stream
4    Redis is away, internal error
130  stopped by Ctrl-C; the scans go on
"""

PAUSE_S = 0.5
"""Between two looks for further events."""

app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)


@app.command(epilog=EPILOG)
def status(
    scan_ids: Annotated[list[str], typer.Argument(metavar="ID", help="Scans, or - for a list on standard input.")],
    watch: Annotated[bool, typer.Option("--watch", help="Wait until all have ended, and show them then.")] = False,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="S", help="With --watch: for so long at most.")] = None,
    events: Annotated[
        bool, typer.Option("--events", help="Of watches: their events, a JSON object a line, and no report.")
    ] = False,
    after: Annotated[int, typer.Option(min=-1, metavar="N", help="With --events: those after this number.")] = -1,
    fail_on: FailOnOption = None,
    format: FormatOption = "table",
    owner: OwnerOption = None,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Show how far scans are; those that have ended with their result."""
    with outcome.exit_codes(), interruptible("the scans go on"):
        from rich.console import Console

        from worker.errors import NoSuchScan, UnreadableRecord
        from worker.queue.waiting import wait_for

        ids = read_ids(scan_ids)
        if events:
            raise typer.Exit(run_events(ids, after, watch, timeout, owner, config))
        code = outcome.SCANNED
        with opened_desk(config) as desk:
            if watch:
                with progress_bar(Console(stderr=True), len(ids), "scanning", quiet=quiet) as bar:
                    wait_for(desk.records, ids, owner, timeout, lambda seen: bar.reach(seen.progress))
            verdicts: set[str] = set()

            def reports() -> Iterator[Any]:
                nonlocal code
                for scan_id in ids:
                    try:
                        report = desk.report(scan_id, owner)
                    except (NoSuchScan, UnreadableRecord) as exc:
                        complain(scan_id, exc)
                        code = outcome.ITEMS_FAILED
                        continue
                    verdicts.add(report.verdict.value if report.verdict else "")
                    if watch and _fell_short(report):
                        code = outcome.ITEMS_FAILED
                    yield report

            print_reports(format, reports())
            sys.stdout.flush()
        if code == outcome.SCANNED and verdicts & set(map(str, fail_on or ())):
            code = outcome.FAIL_ON
    raise typer.Exit(code)


def run_events(ids: list[str], after: int, follow: bool, timeout_s: float | None, owner: str | None, config: Path | None) -> int:
    """Print events of each watch as they come, until all have ended where they are followed; the exit code. Raises RedisDown."""
    from worker.errors import Conflict, NoSuchScan, UnreadableRecord
    from worker.queue.record import FINAL

    code = outcome.SCANNED
    read = dict.fromkeys(ids, after)
    deadline_s = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    with opened_desk(config) as desk:
        while read:
            came = False
            for scan_id in list(read):
                try:
                    state, page = desk.events(scan_id, owner, after=read[scan_id])
                    is_done = not page.events and (state in FINAL or not follow)
                    if is_done and follow and _fell_short(desk.report(scan_id, owner)):
                        code = outcome.ITEMS_FAILED
                except (Conflict, NoSuchScan, UnreadableRecord) as exc:
                    complain(scan_id, exc)
                    code = outcome.ITEMS_FAILED
                    del read[scan_id]
                    continue
                for event in page.events:
                    sys.stdout.write(json.dumps({"scan": scan_id, **event.model_dump(mode="json")}, ensure_ascii=True) + "\n")
                    read[scan_id], came = event.number, True
                if is_done:
                    del read[scan_id]
            sys.stdout.flush()
            if read and time.monotonic() >= deadline_s:
                return outcome.ITEMS_FAILED
            if read and not came:
                time.sleep(PAUSE_S)
    return code


def _fell_short(report: Report) -> bool:
    """Whether a scan that was waited for did not end, or not as it was to."""
    return report.status != "completed" or outcome.lost_its_stream(report)

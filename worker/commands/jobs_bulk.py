"""The commands of ``veriframe jobs`` that may change many scans: retry, rescan, purge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from worker.commands import outcome
from worker.commands.options import ConfigOption
from worker.commands.service import (
    OwnerOption,
    QuietOption,
    complain,
    for_each,
    interruptible,
    opened_desk,
    progress_bar,
    read_ids,
)

if TYPE_CHECKING:
    from worker.progress import Bar
    from worker.queue.bulk import Redone

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say how many.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
app = typer.Typer()


class Final(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@app.command()
def retry(
    scan_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Scans that have ended, or - for a list on standard input.")
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All dead letters that --dead has not replayed yet.")] = False,
    owner: OwnerOption = None,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Scan again, as new scans; prints the old id and the new one. The old record stays."""
    with outcome.exit_codes(), interruptible("asked again, it goes on"), opened_desk(config) as desk:
        from rich.console import Console

        from worker.errors import ConfigError
        from worker.queue.backlog import read_backlog
        from worker.queue.bulk import Bulk

        if dead == bool(scan_ids):
            raise ConfigError("give scan ids, or --dead")
        if dead:
            total = read_backlog(desk.records).dead
            with progress_bar(Console(stderr=True), total, "replaying", quiet=quiet, prints_at_once=True) as bar:
                code = _tell(Bulk(desk=desk, owner=owner, on_looked=_Count(bar)).replay_dead(), quiet)
        else:
            ids = read_ids(scan_ids or ())
            code = for_each(ids, lambda some: [made.refusal or made.id for made in desk.retry_each(some, owner)])
    raise typer.Exit(code)


@app.command()
def rescan(
    model_not: Annotated[str, typer.Option("--model-not", metavar="SHA256", help="The model that the results should be of.")],
    priority: Annotated[Literal["live", "batch", "low"], typer.Option(metavar="NAME", help="live, batch or low.")] = "low",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    owner: OwnerOption = None,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Scan again whatever another model has judged, as new scans; prints the old id and the new one.

    May be stopped and run again: no scan is scanned again twice for one model. What is no longer at its address fails, and the
    old result stays. Callbacks are made again, with retry_of.
    """
    with outcome.exit_codes(), interruptible("run again, it goes on"), opened_desk(config) as desk:
        from rich.console import Console

        from worker.queue.bulk import Bulk

        console, total = Console(stderr=True), desk.count(owner)
        if not yes or dry_run:
            with progress_bar(console, total, "looking", quiet=quiet) as bar:
                count = Bulk(desk=desk, owner=owner, on_looked=_Count(bar)).rescannable(model_not)
            if dry_run:
                typer.echo(f"{count} would be scanned again")
                return
            if count and not _confirmed(f"Scan {count} again, callbacks included?", "nothing was queued"):
                typer.echo("nothing was queued", err=True)
                return
        with progress_bar(console, total, "looking", quiet=quiet, prints_at_once=True) as bar:
            bulk = Bulk(desk=desk, owner=owner, on_looked=_Count(bar))
            code = _tell(bulk.rescan(model_not, priority=priority), quiet)
    raise typer.Exit(code)


@app.command()
def purge(
    older_than: Annotated[float, typer.Option(min=0, metavar="DAYS", help="Ended longer ago than this.")] = 0.0,
    status: Annotated[
        list[Final] | None,
        typer.Option(metavar="NAME", help="completed, failed or cancelled; may be repeated; default: all three."),
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Only dead letters.")] = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    owner: OwnerOption = None,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Delete the records and results of scans that have ended.

    The cache does not answer from them any more: the same bytes are scanned again. Waiting and running scans, decisions, the
    audit log and callbacks still owed stay; crops go when their time is over.
    """
    with outcome.exit_codes(), opened_desk(config) as desk:
        from rich.console import Console

        from worker.queue.bulk import Bulk
        from worker.queue.record import FINAL, Purge

        before_ms = desk.records.now_ms() - round(older_than * 86_400_000)
        states = frozenset(map(str, status)) if status else FINAL
        wanted = Purge(states=states, before_ms=before_ms + 1, dead_only=dead, owner=owner)
        console = Console(stderr=True)

        def go(really: bool) -> int:
            with progress_bar(console, desk.count(owner), "purging" if really else "looking", quiet=quiet) as bar:
                return Bulk(desk=desk, owner=owner, on_looked=_Count(bar)).purge(wanted, really=really)

        if not yes or dry_run:
            count = go(False)
            if dry_run or count == 0:
                typer.echo(f"{count} would be deleted")
                return
            if not _confirmed(f"Delete {count} scans for good?", "nothing was deleted"):
                typer.echo("0 deleted")
                return
        typer.echo(f"{go(True)} deleted")


def _tell(redone: Iterable[Redone], quiet: bool) -> int:
    """Print each; the exit code."""
    counts: Counter[str] = Counter()
    for one in redone:
        if one.new.refusal is not None:
            complain(one.old, one.new.refusal)
            counts["refused"] += 1
        elif one.new.created:
            typer.echo(f"{one.old}  {one.new.id}")
            counts["queued"] += 1
        else:
            counts["queued before"] += 1
    if not quiet:
        typer.echo(", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing to do", err=True)
    return outcome.ITEMS_FAILED if counts["refused"] else outcome.SCANNED


def _confirmed(question: str, undone: str) -> bool:
    """Raises ConfigError where nobody can be asked."""
    from worker.errors import ConfigError

    try:
        return typer.confirm(question, err=True)
    except typer.Abort as exc:
        raise ConfigError(f"{undone}: answer y, or give --yes") from exc


class _Count:
    """Moves a bar by so many."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._done = 0

    def __call__(self, count: int) -> None:
        self._done += count
        self._bar.reach(self._done)

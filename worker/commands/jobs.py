"""``veriframe jobs``: look after what is in the queue. The commands that change many scans are in ``jobs_bulk``."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from worker.commands import outcome
from worker.commands.jobs_bulk import app as bulk
from worker.commands.options import ConfigOption
from worker.commands.service import (
    FormatOption,
    OwnerOption,
    for_each,
    one_by_one,
    opened_desk,
    print_reports,
    read_ids,
)

if TYPE_CHECKING:
    from worker.queue.backlog import Backlog
    from worker.report import Report

EPILOG = """[bold]Examples[/]

\b
veriframe jobs list --status failed --limit 20
veriframe jobs list --dead                        dead letters: given up after several attempts
veriframe jobs retry --dead                       scan them all again
veriframe jobs cancel ID ID
veriframe jobs list --status queued --all --format jsonl | jq -r .id | veriframe jobs cancel -
veriframe jobs decide ID real --by ada --note 'shot on set'
veriframe jobs rescan --model-not SHA256          whatever another model has judged
veriframe jobs purge --older-than 30 --yes
veriframe jobs callbacks                          callbacks given up; --replay --all sends them again

[bold]Exit codes[/]

\b
0    done
2    usage: a flag, a setting, no scan id
3    some did not go: no such scan, a state that forbids it, a full queue
4    Redis is away, internal error
"""
Ids = Annotated[list[str], typer.Argument(metavar="ID", help="Scans, or - for a list on standard input.")]

app = typer.Typer(
    help="List, show, retry, cancel, decide and purge scans.",
    epilog=EPILOG,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)


@app.command(name="list")
def list_scans(
    status: Annotated[
        Literal["queued", "running", "completed", "failed", "cancelled"] | None,
        typer.Option(metavar="NAME", help="queued, running, completed, failed or cancelled."),
    ] = None,
    verdict: Annotated[
        Literal["fake", "real", "uncertain", "not_applicable"] | None,
        typer.Option(metavar="NAME", help="fake, real, uncertain or not_applicable."),
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Dead letters: given up after several attempts.")] = False,
    external_id: Annotated[str | None, typer.Option(metavar="ID", help="The submitter's own id.")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="So many.")] = 50,
    every: Annotated[bool, typer.Option("--all", help="Without a limit.")] = False,
    cursor: Annotated[str | None, typer.Option(metavar="TEXT", help="Go on where a list said that it ended.")] = None,
    format: FormatOption = "table",
    owner: OwnerOption = None,
    config: ConfigOption = None,
) -> None:
    """List scans, the newest first. Standard error says how to go on."""
    with outcome.exit_codes(), opened_desk(config) as desk:
        filters: dict[str, Any] = {"status": status, "verdict": verdict, "external_id": external_id, "dead": dead or None}
        if every:
            print_reports(format, desk.each(owner, **filters), owners=owner is None)
            return
        reports: list[Any] = []
        while len(reports) < limit:
            page = desk.page(owner, cursor=cursor, limit=limit - len(reports), **filters)
            reports += page.reports
            cursor = page.cursor
            if cursor is None:
                break
        print_reports(format, reports, owners=owner is None)
        if cursor is not None:
            typer.echo(f"there may be more: --cursor {cursor}", err=True)


@app.command()
def show(
    scan_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    owner: OwnerOption = None,
    config: ConfigOption = None,
) -> None:
    """All that is known of a scan, as JSON: its report, and what the queue knows of it."""
    with outcome.exit_codes(), opened_desk(config) as desk:
        from worker.errors import ConfigError, NoSuchScan, UnreadableRecord

        wanted, *more = read_ids([scan_id])
        if more:
            raise ConfigError("show tells of one scan: give one id")
        try:
            record = desk.record(wanted, owner)
            report = desk.report_of(record)
            near = desk.near_duplicates(wanted, owner)
        except (NoSuchScan, UnreadableRecord) as exc:
            _end(str(exc))
        kept = {
            field.name: getattr(record, field.name)
            for field in dataclasses.fields(record)
            if field.name not in ("report", "request", "id", "owner")
        }
        request = record.request.model_dump(mode="json", exclude_none=True)
        told = {"report": report.model_dump(mode="json"), "record": kept, "request": request, "near_duplicates": _near(near)}
        typer.echo(json.dumps(told, indent=2, ensure_ascii=True))


@app.command()
def cancel(scan_ids: Ids, owner: OwnerOption = None, config: ConfigOption = None) -> None:
    """Cancel scans: a waiting one at once, a running one within seconds. One that has ended stays as it is."""
    with outcome.exit_codes(), opened_desk(config) as desk:
        code = for_each(read_ids(scan_ids), lambda some: desk.cancel_each(some, owner))
    raise typer.Exit(code)


@app.command()
def decide(
    scan_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    verdict: Annotated[Literal["fake", "real"], typer.Argument(metavar="fake|real", show_default=False)],
    by: Annotated[str, typer.Option(metavar="NAME", help="Who decides; written into the audit log.")],
    category: Annotated[str | None, typer.Option(metavar="TEXT", help="Of what kind, such as satire.")] = None,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="Why.")] = None,
    owner: OwnerOption = None,
    config: ConfigOption = None,
) -> None:
    """Lay a human's decision over every result of this owner's for the same bytes, also for those still to be posted; of a scan
    of a part of a video, over those of the same part."""
    with outcome.exit_codes(), opened_desk(config) as desk:
        from worker.queue.desk import Decision

        decision = Decision(verdict=verdict, by=by, category=category, note=note)
        code = for_each(read_ids([scan_id]), one_by_one(lambda one: f"{desk.decide(one, owner, decision).verdict} (human)"))
    raise typer.Exit(code)


@app.command()
def audit(owner: OwnerOption = None, config: ConfigOption = None) -> None:
    """Print all decisions, the oldest first, a JSON object a line."""
    with outcome.exit_codes(), opened_desk(config) as desk:
        after = "-"
        while entries := desk.audit(None, after=after):
            for after, entry in entries:
                if owner in (None, entry["owner"]):
                    sys.stdout.write(json.dumps({"entry": after, **entry}, ensure_ascii=True) + "\n")
        sys.stdout.flush()


@app.command()
def stats(
    workers: Annotated[bool, typer.Option("--workers", help="What each worker last said of itself, too.")] = False,
    config: ConfigOption = None,
) -> None:
    """Print how much waits, runs and has ended, and how many workers live, in all and by queue, as JSON."""
    with outcome.exit_codes(), opened_desk(config) as desk:
        from worker.queue.backlog import read_backlog
        from worker.queue.roster import Roster

        told = Roster(desk.records.redis, desk.records.namespace).live()
        alive = {state: sum(_state(facts) == state for facts in told.values()) for state in ("ready", "starting")}
        backlog = read_backlog(desk.records)
        said: dict[str, Any] = {
            "waiting": sum(backlog.waiting.values()),
            "running": sum(backlog.running.values()),
            "dead": backlog.dead,
            "callbacks": backlog.callbacks_owed,
            "ended": backlog.ended,
            "open": backlog.open_scans,
            "queues": _by_queue(backlog, told.values()),
            "alive": alive,
        }
        typer.echo(json.dumps(said | ({"workers": told} if workers else {}), indent=2, ensure_ascii=True))


@app.command()
def callbacks(
    events: Annotated[list[str] | None, typer.Argument(metavar="EVENT", help="With --replay: these.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Send dead ones again, from the first try on.")] = False,
    every: Annotated[bool, typer.Option("--all", help="With --replay: all dead ones.")] = False,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="List so many.")] = 100,
    config: ConfigOption = None,
) -> None:
    """List callbacks that were given up, the latest first, a JSON object a line; or send them again."""
    with outcome.exit_codes(), opened_desk(config) as desk:
        from worker.errors import ConfigError
        from worker.queue.callbacks import Callbacks

        if replay != bool(events or every):
            raise ConfigError("--replay goes with the ids of events, or --all")
        kept = Callbacks(desk.records.redis, desk.records.namespace)
        code = outcome.SCANNED
        if not replay:
            for one in kept.dead(limit):
                shown = {name: getattr(one, name) for name in ("id", "scan", "owner", "url", "type", "tries", "last_error")}
                typer.echo(json.dumps(shown, ensure_ascii=True))
            return
        chosen = list(events or ()) if not every else [one.id for one in kept.dead(1_000_000)]
        for event in chosen:
            if kept.replay(event):
                typer.echo(f"{event}  waiting")
            else:
                typer.echo(f"veriframe: {event}: no dead callback", err=True)
                code = outcome.ITEMS_FAILED
    raise typer.Exit(code)


def _by_queue(backlog: Backlog, told: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """A worker counts in every queue that it serves."""
    from worker.queue.roster import queues_served

    served = Counter((queue, _state(facts)) for facts in told for queue in queues_served(facts))
    return {
        queue: {
            "waiting": waiting,
            "oldest_s": round(backlog.oldest_s[queue], 1),
            "running": backlog.running[queue],
            "ready": served[queue, "ready"],
            "starting": served[queue, "starting"],
        }
        for queue, waiting in backlog.waiting.items()
    }


def _state(facts: Mapping[str, Any]) -> str:
    """Of a worker that said this: whether its model has run."""
    return "ready" if facts.get("ready") else "starting"


def _near(found: list[tuple[Report, float]]) -> list[dict[str, Any]]:
    """What was said of near-identical media, the newest first."""
    shown = {"id", "verdict", "decided_by", "score", "calibrated", "finished_at"}
    return [
        {
            **one.model_dump(mode="json", include=shown),
            "start_s": one.start_s,
            "end_s": one.end_s,
            "distance": round(distance, 2),
        }
        for one, distance in found
    ]


def _end(message: str) -> NoReturn:
    typer.echo(f"veriframe: {message}", err=True)
    raise typer.Exit(outcome.ITEMS_FAILED)


app.registered_commands += bulk.registered_commands

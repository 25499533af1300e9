"""What the commands around the queue share: connection, flags, ids, progress bar, and reports printed in whatever state."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from worker.commands import outcome
from worker.interrupts import cursor_given_back

if TYPE_CHECKING:
    from redis import Redis
    from rich.console import Console

    from worker.errors import VeriframeError
    from worker.progress import Bar
    from worker.queue.desk import Desk
    from worker.report import Report
    from worker.settings import Settings

Format = Literal["table", "json", "jsonl"]
FormatOption = Annotated[Format, typer.Option(metavar="NAME", help="table, json (an array) or jsonl (a line each).")]
OwnerOption = Annotated[str | None, typer.Option(metavar="NAME", help="Only this owner's scans; default: everybody's.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary.")]
HASTY_S = 5.0
"""Someone waits for the answer: no command is tried for longer while Redis is away."""
AT_ONCE = 100
Act = Callable[[Sequence[str]], "Iterable[str | VeriframeError]"]
"""What came of each of some scans, in their order: a word, or why not."""


def load(config: Path | None) -> Settings:
    """Raises ConfigError."""
    from worker.settings import default_file, load_settings

    return load_settings(config or default_file())


@contextlib.contextmanager
def opened_redis(config: Path | None) -> Iterator[tuple[Redis, Settings]]:
    """The settings and their Redis. Refusals of what was asked are the user's to mend; raises ConfigError, RedisDown."""
    from worker.errors import BadRequest, ConfigError
    from worker.queue.connection import connect_from, translated

    settings = load(config)
    hasty = settings.redis.model_copy(update={"patience_s": min(settings.redis.patience_s, HASTY_S)})
    with contextlib.closing(connect_from(hasty)) as redis, translated():
        try:
            yield redis, settings
        except BadRequest as exc:
            raise ConfigError(str(exc)) from exc


@contextlib.contextmanager
def opened_desk(config: Path | None) -> Iterator[Desk]:
    """The desk of ``opened_redis``."""
    from worker.queue.front import build_desk

    with opened_redis(config) as (redis, settings):
        yield build_desk(settings, redis)


@contextlib.contextmanager
def interruptible(what_goes_on: str) -> Iterator[None]:
    """Ctrl-C ends the command only, and SIGTERM leaves no cursor hidden by a bar or a spinner."""
    try:
        with cursor_given_back():
            yield
    except KeyboardInterrupt as exc:
        typer.echo(f"veriframe: stopped; {what_goes_on}", err=True)
        raise typer.Exit(130) from exc


def read_ids(arguments: Iterable[str]) -> list[str]:
    """Scan ids, each once, and at least one; ``-``: the first word of every line of standard input. Raises ConfigError."""
    from worker.errors import ConfigError
    from worker.output.text import escaped
    from worker.queue.doorbell import is_id

    found: dict[str, None] = {}
    for argument in arguments:
        lines = sys.stdin if argument == "-" else [argument]
        found |= dict.fromkeys(line.split()[0] for line in lines if line.strip())
    for scan_id in found:
        if not is_id(scan_id):
            raise ConfigError(f"{escaped(scan_id[:80])!r} is no scan id: 32 hexadecimal digits")
    if not found:
        raise ConfigError("no scan ids: give some, or - with a list on standard input")
    return list(found)


def progress_bar(console: Console, total: int, name: str, *, quiet: bool, prints_at_once: bool = False) -> Bar:
    """On standard error, where that is a terminal. ``prints_at_once``: lines go to standard output meanwhile."""
    from worker.progress import Bar

    crowded = prints_at_once and sys.stdout.isatty()
    bar = Bar(console, total=total, live=console.is_terminal and not quiet and not crowded)
    bar.begin(name)
    return bar


def print_reports(format: Format, reports: Iterable[Report], *, owners: bool = False) -> None:
    """``owners``: a table says whose each scan is; the other formats always do."""
    from worker.output.scans import ScansTable
    from worker.output.sink import SINKS, Sink

    sink: Sink = ScansTable(sys.stdout, owners=owners) if format == "table" else SINKS[format](sys.stdout)
    for report in reports:
        sink.write(report)
    sink.close()


def complain(what: str, error: VeriframeError) -> None:
    """One of several did not go; the rest goes on."""
    from worker.output.text import escaped

    typer.echo(f"veriframe: {escaped(what)}: {escaped(str(error))}", err=True)


def for_each(scan_ids: Sequence[str], act: Act) -> int:
    """Do something to scans, ``AT_ONCE`` of them at a time, and say what came of each, in their order, on standard output; the
    exit code. A command that is killed has said it of all but those that it was at."""
    code = outcome.SCANNED
    for start in range(0, len(scan_ids), AT_ONCE):
        some = scan_ids[start : start + AT_ONCE]
        for scan_id, told in zip(some, act(some), strict=True):
            if isinstance(told, str):
                typer.echo(f"{scan_id}  {told}")
            else:
                complain(scan_id, told)
                code = outcome.ITEMS_FAILED
    return code


def one_by_one(act: Callable[[str], str]) -> Act:
    """For ``for_each``: what can only be done to one scan at a time, and is said at once."""
    from worker.errors import BadRequest, Conflict, NoSuchScan, QueueFull

    def acted(scan_ids: Sequence[str]) -> Iterator[str | VeriframeError]:
        for scan_id in scan_ids:
            try:
                yield act(scan_id)
            except (BadRequest, Conflict, NoSuchScan, QueueFull) as exc:
                yield exc

    return acted

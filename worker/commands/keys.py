"""``veriframe keys``: keys of the HTTP API and the secrets that callbacks are signed with."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.options import ConfigOption
from worker.commands.outcome import exit_codes
from worker.commands.service import opened_redis

if TYPE_CHECKING:
    from worker.queue.access import KeyInfo

KEEP_OLD_S = 86400.0
EPILOG = """[bold]Examples[/]

\b
veriframe keys create acme                            submit and read acme's scans
veriframe keys create acme --scope feedback --days 90 --name reviewers
veriframe keys create ops --scope admin               everything, for every owner
veriframe keys list --owner acme
veriframe keys revoke 0123456789abcdef
veriframe keys webhook acme                           what acme's callbacks are signed with
veriframe keys webhook acme --rotate                  a new secret; the old one signs along for a day

[bold]Exit codes[/]

\b
0    done
2    a name, scope or setting that cannot be used; no such key
4    Redis is away, internal error
"""
Owner = Annotated[str, typer.Argument(metavar="OWNER", help="Whose scans: a-z, 0-9, '.', '_', '-'.", show_default=False)]

app = typer.Typer(
    help="Create, list and revoke keys of the HTTP API; show and rotate the secrets that sign callbacks.",
    epilog=EPILOG,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)


@app.command()
def create(
    owner: Owner,
    scope: Annotated[
        list[str] | None,
        typer.Option(metavar="SCOPE", help="scan (submit, cancel, retry), read, feedback or admin; default: scan and read."),
    ] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    days: Annotated[float | None, typer.Option(min=0.001, max=36500, help="It ends after so many; default: never.")] = None,
    config: ConfigOption = None,
) -> None:
    """Make a key. Its token, the one line on standard output, is shown this once."""
    with exit_codes(), opened_redis(config) as (redis, settings):
        from worker.queue.access import ApiKeys

        expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
        info, token = ApiKeys(redis, settings.redis.namespace).create(owner, scope or ("scan", "read"), name, expires_at)
        typer.echo(token)
        typer.echo(f"key {info.id} of {owner}; the token cannot be shown again", err=True)


@app.command(name="list")
def list_keys(
    owner: Annotated[str | None, typer.Option(metavar="OWNER", help="Only this owner's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array instead of a table.")] = False,
    config: ConfigOption = None,
) -> None:
    """List keys, the oldest first. Tokens are not stored."""
    with exit_codes(), opened_redis(config) as (redis, settings):
        from worker.queue.access import ApiKeys

        keys = ApiKeys(redis, settings.redis.namespace).list(owner)
        rows = [_row(info) for info in keys]
        if as_json:
            typer.echo(json.dumps(rows, indent=2))
        else:
            _print(rows)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, as list shows it, or its token.", show_default=False)],
    config: ConfigOption = None,
) -> None:
    """End a key at once."""
    with exit_codes(), opened_redis(config) as (redis, settings):
        from worker.errors import ConfigError
        from worker.queue.access import ApiKeys, is_key_id, key_id_of

        key_id = key_id_of(key) or key
        if not is_key_id(key_id):  # part of a token, perhaps: its secret is not said again
            raise ConfigError("neither a whole token nor an id, 16 hexadecimal digits: `veriframe keys list` shows ids")
        if not ApiKeys(redis, settings.redis.namespace).revoke(key_id):
            raise ConfigError(f"there is no key {key_id}: `veriframe keys list` shows them")
        typer.echo(f"key {key_id} is revoked", err=True)


@app.command()
def webhook(
    owner: Owner,
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new secret.")] = False,
    keep_old_s: Annotated[
        float | None,
        typer.Option(
            min=0, max=90 * 86400, metavar="S", help="With --rotate: old ones sign along for so long (a day); 0: not at all."
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Show the secrets that sign an owner's callbacks now, the newest first, one a line."""
    with exit_codes(), opened_redis(config) as (redis, settings):
        from worker.errors import ConfigError
        from worker.queue.access import checked_owner
        from worker.queue.webhooks import Secrets

        if keep_old_s is not None and not rotate:
            raise ConfigError("--keep-old-s goes with --rotate: no secret was ended")
        secrets = Secrets(redis, settings.redis.namespace)
        checked_owner(owner)
        kept_s = KEEP_OLD_S if keep_old_s is None else keep_old_s
        for secret in secrets.rotate(owner, kept_s) if rotate else secrets.current(owner):
            typer.echo(secret)


def _row(info: KeyInfo) -> dict[str, str | None]:
    def text(when: datetime | None) -> str | None:
        return None if when is None else when.isoformat(timespec="seconds")

    return {
        "id": info.id,
        "owner": info.owner,
        "scopes": " ".join(sorted(info.scopes)),
        "name": info.name,
        "created_at": text(info.created_at),
        "expires_at": text(info.expires_at),
        "last_used_at": text(info.last_used_at),
    }


def _print(rows: Sequence[dict[str, str | None]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from worker.output.width import wide_console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("id", "owner", "scopes", "name", "created", "expires", "last used"):
        table.add_column(name, no_wrap=name == "id", overflow="fold")
    for row in rows:
        table.add_row(*(Text(value or "-") for value in row.values()))
    wide_console(sys.stdout, in_a_file=160, at_least=160).print(table)

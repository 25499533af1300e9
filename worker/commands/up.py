"""``veriframe up``: the whole service on this machine, and the demo scanned by it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.commands.options import ConfigOption
from worker.commands.outcome import ITEMS_FAILED, SCANNED, exit_codes

EPILOG = """[bold]Examples[/]

\b
veriframe up                                  the console at http://127.0.0.1:8080/console
veriframe up --port 8090 --workers 4
veriframe jobs list --config .run/worker.yaml       any command of the service, on this one
veriframe down                                ends it; nothing of it stays

[bold]Exit codes[/]

\b
0    it is up, and every demo scan is completed; also when it was up already
2    a setting cannot be used, the port is taken, or something is not installed
3    it is up, but a demo scan has failed
4    a part does not start or has ended, a scan did not end in time, no room on the disk
"""
DirOption = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Settings, key, pids, logs and data, all in one folder.")]
DEFAULT_DIR = Path(".run")
app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)


@app.command(epilog=EPILOG)
def up(
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Of API and console; 0: any free one; default: api.port of the settings.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Worker processes.")] = 2,
    demo: Annotated[bool, typer.Option(help="Scan the demo media, by HTTP.")] = True,
    directory: DirOption = DEFAULT_DIR,
    config: ConfigOption = None,
) -> None:
    """Bring up Redis, the API with its console, and workers on this machine, without containers; scan the demo by HTTP.

    It returns when every demo scan is final, prints the console's address and a key to sign in, and leaves all running. Called
    again, it starts what has died meanwhile. It is for trying things out: one machine, and all of it goes with veriframe down.
    """
    with exit_codes():
        code = run_up(directory, config, port=port, workers=workers, demo=demo)
    raise typer.Exit(code)


def run_up(directory: Path, config: Path | None, *, port: int | None, workers: int, demo: bool) -> int:
    """Returns the exit code. Raises VeriframeError."""
    from worker.errors import ConfigError
    from worker.extras import how_to_install, missing

    if lacking := missing(("rq", "fastapi")):
        raise ConfigError(f"{', '.join(lacking)} not installed. To install: {how_to_install('service,embedded')}")
    from worker.settings import default_file, load_settings
    from worker.up.bring_up import bring_up
    from worker.up.folder import RunFolder

    folder = RunFolder(path=directory.absolute())
    try:
        found = bring_up(
            folder,
            load_settings(config or default_file()),
            port=port,
            workers=workers,
            demo=demo,
            tell=lambda step: typer.echo(f"- {step}", err=True),
            is_named=config is not None,
        )
    except KeyboardInterrupt as exc:
        typer.echo(f"veriframe: stopped; `veriframe down --dir {directory}` ends what runs", err=True)
        raise typer.Exit(130) from exc
    typer.echo(f"it is up: {', '.join(found.started)} started" if found.started else "it is up already", err=True)
    typer.echo(f"console   {found.console}\nAPI       {found.api}\nkey       {found.token}\nsettings  {found.settings}")
    return SCANNED if all(report["status"] == "completed" for report in found.reports) else ITEMS_FAILED

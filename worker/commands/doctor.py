"""``veriframe doctor``: what works here, and how to mend what does not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from worker.commands.options import ConfigOption
from worker.commands.outcome import exit_codes

app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)


@app.command()
def doctor(
    choose: Annotated[
        bool, typer.Option("--choose", help="Measure the backends anew, seconds, and remember the fastest that passes parity.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
    model: Annotated[Path | None, typer.Option(metavar="FILE", help="Look at this checkpoint.")] = None,
    config: ConfigOption = None,
) -> None:
    """Say what works on this machine, and how to mend what does not.

    Exit code 0: a scan can run; 1: it cannot; 2: the settings cannot be used.
    """
    with exit_codes():
        from worker.backend_checks import choose_anew
        from worker.doctor import can_scan, examine
        from worker.settings import default_file, load_settings

        path = config or default_file()
        settings = load_settings(path, {"model": {"checkpoint": model}} if model else None)
        if choose:
            choose_anew(settings)
        checks = examine(settings, path)
        ready = can_scan(checks)
        if as_json:
            entries = [{"name": c.name, "status": c.status, "detail": c.detail, "mend": c.mend} for c in checks]
            typer.echo(json.dumps({"can_scan": ready, "checks": entries}, indent=2))
        else:
            from worker.output.checklist import print_checks

            print_checks(checks, sys.stdout)
    raise typer.Exit(0 if ready else 1)

"""``veriframe down``: end what ``veriframe up`` started."""

from __future__ import annotations

import typer

from worker.commands.outcome import exit_codes
from worker.commands.up import DEFAULT_DIR, DirOption

EPILOG = """[bold]Exit codes[/]

\b
0    nothing of it is left; also when nothing was up
2    another veriframe up or down is at work in the folder, it cannot be opened, or veriframe up did not make it
4    a process does not end
"""
app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)


@app.command(epilog=EPILOG)
def down(directory: DirOption = DEFAULT_DIR) -> None:
    """End all that veriframe up has started, and remove its folder: Redis's data, evidence, logs and the key.

    A process is ended only if it is the very one that was started (by number and moment of birth), or bears the folder's mark.
    """
    with exit_codes():
        from worker.up.folder import RunFolder
        from worker.up.take_down import take_down

        done = take_down(RunFolder(path=directory.absolute()))
        if done is None:
            typer.echo("nothing is up", err=True)
            return
        beside = f", {done.stray} left behind by killed ones" if done.stray else ""
        typer.echo(f"it is down: {done.ended} parts ended{beside}", err=True)
        if done.left:
            typer.echo(f"kept in {directory}, since they are not ours: {', '.join(map(repr, done.left))}", err=True)

"""Flags that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer


def workers(text: str | int) -> int:
    """A number of processes, or ``auto``: one for each core. Raises BadParameter."""
    from worker.cores import scan_workers

    if text == "auto":
        return scan_workers()
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= 256:
        raise typer.BadParameter(f"{text!r} is neither auto nor a number from 1 to 256")
    return count


WorkersOption = Annotated[
    int,
    typer.Option(parser=workers, metavar="N", help="Items scanned at once, each in a process; auto: one for each core."),
]
IncludeOption = Annotated[
    list[str] | None, typer.Option(metavar="GLOB", help="Only names or paths like this, in any case; may be repeated.")
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option(metavar="GLOB", help="No names, paths or folders like this; may be repeated.")
]

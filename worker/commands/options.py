"""Flags that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

WorkersOption = Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Items scanned at once, each in a process.")]
IncludeOption = Annotated[
    list[str] | None, typer.Option(metavar="GLOB", help="Only names or paths like this, in any case; may be repeated.")
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option(metavar="GLOB", help="No names, paths or folders like this; may be repeated.")
]

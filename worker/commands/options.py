"""Flags that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


def workers(text: str | int) -> int:
    """A number of processes, or ``auto``: one for each core. Raises BadParameter.

    Threads of one process wait for each other where detection is Python: two give 1.6 times one, two processes 1.8 times one
    (docs/decisions/0011-early-decision.md).
    """
    from worker.cores import usable_cores

    if text == "auto":
        return usable_cores()
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= 256:
        raise typer.BadParameter(f"{text!r} is neither auto nor a number from 1 to 256")
    return count


class FailOn(StrEnum):
    """The verdicts, as a choice; ``worker.types.Label`` would load numpy for ``--help``."""

    FAKE = "fake"
    REAL = "real"
    UNCERTAIN = "uncertain"
    NOT_APPLICABLE = "not_applicable"


def seconds(text: str) -> float:
    """Seconds of ``90``, ``1:30`` or ``0:01:30.5``. Raises BadParameter."""
    parts = text.split(":")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if not 1 <= len(values) <= 3 or not all(0 <= value < float("inf") for value in values):
        raise typer.BadParameter(f"{text!r} is no time: give seconds, mm:ss or h:mm:ss")
    total = 0.0
    for value in values:
        total = 60 * total + value
    return total


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
FailOnOption = Annotated[
    list[FailOn] | None,
    typer.Option(metavar="VERDICT", help="Exit with 1 on fake, real, uncertain or not_applicable; may be repeated."),
]
ModelOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A .safetensors checkpoint; default: the bundled one.", rich_help_panel="Engine"),
]
BackendOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="auto, onnxruntime, openvino, openvino-bf16, ... or torch.", rich_help_panel="Engine"),
]
ConfigOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Settings; default: configs/worker.yaml of a checkout.")]
EngineConfigOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Settings; default: configs/worker.yaml of a checkout.", rich_help_panel="Engine"),
]

"""The command ``veriframe``. Nothing heavy is imported until the command that needs it runs.

Our own commands are the modules of ``worker.commands``; ``training`` and ``optimize`` add theirs by entry points of the group
``veriframe.commands``, each a Typer app. A module is imported only when its command is invoked: ``scan`` never meets torch.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from worker import __version__, stdio
from worker.extras import how_to_install

GROUP = "veriframe.commands"
OWN = {
    "scan": "Scan files and folders: a verdict with evidence for each.",
    "watch": "Watch a live stream or a growing file: rolling verdicts as it runs.",
    "calibrate": "Fit the scores to your own real footage.",
    "demo": "Scan the demo media and show the expected answers beside the verdicts.",
    "doctor": "Say what works on this machine, and how to mend what does not.",
    "schema": "Print the JSON Schema of a report.",
    "worker": "Scan what is queued in Redis, until told to stop.",
    "courier": "Deliver callbacks, until told to stop.",
    "serve": "Serve the HTTP API.",
    "enqueue": "Queue addresses and files for the workers.",
    "status": "Show how far scans are.",
    "jobs": "List, show, retry, cancel, decide and purge scans.",
    "keys": "Create, list and revoke keys of the HTTP API.",
    "feedback": "List what people decided about scans, and export it for training.",
    "up": "Bring the whole service up on this machine, and scan the demo by it.",
    "down": "End what up has started; nothing of it stays.",
}
ADDED = {
    "data": "Cut labelled media into face crops to train on; look for leaks and shortcuts.",
    "train": "Train a network on prepared crops, as YAML files say.",
    "release": "Make a run's checkpoint, and calibrate it on files that it was not trained on.",
    "evaluate": "Judge a checkpoint on labelled files, and write a report.",
    "adapt": "Fine-tune a checkpoint on corrected cases; kept only if it loses nothing.",
    "tune": "Search for better settings of training.",
    "heads": "Compare kinds of classifiers on the same features.",
    "bench": "Measure scans, their parts and the queue on this machine.",
    "parity": "Compare all backends with PyTorch: scores and verdicts.",
    "export": "Make a checkpoint ready for another runtime, such as TensorRT or OpenVINO.",
}
"""What the commands of ``training`` and ``optimize`` do, told without importing them."""
SERVICE = {"worker", "courier", "serve", "enqueue", "status", "jobs", "keys", "feedback", "up", "down"}
"""Commands that need the extra ``service``."""
PANELS = {"training": "Training", "optimize": "Engines and measurements"}


class CommandGroup(TyperGroup):
    """Knows all commands by name; loads one to run it."""

    def list_commands(self, ctx: Any) -> list[str]:
        others = _entry_points().keys() - OWN.keys()
        return [*OWN, *(name for name in ADDED if name in others), *sorted(others - ADDED.keys())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stand-in with the name and a line of help."""
        if cmd_name in OWN:
            return TyperCommand(cmd_name, help=OWN[cmd_name])
        if entry := _entry_points().get(cmd_name):
            package = entry.module.partition(".")[0]
            unknown = f"From {package}: see veriframe {cmd_name} --help."
            return TyperCommand(cmd_name, help=ADDED.get(cmd_name, unknown), rich_help_panel=PANELS.get(package))
        return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, stand_in, rest = super().resolve_command(ctx, args)
        if stand_in is None or name is None:
            return name, stand_in, rest
        return name, _load(name), rest


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}


def _load(name: str) -> Any:
    if name in SERVICE and importlib.util.find_spec("rq") is None:
        raise _missing(name, "rq is not installed", "service")
    if name in OWN:
        # What we compute in threads of our own, NumPy need not: its pool alone costs some 0.2 s of a core.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        module = importlib.import_module(f"worker.commands.{name}")
        return _named(name, module.app)
    entry = _entry_points()[name]
    try:
        return _named(name, entry.load())
    except ImportError as exc:
        extra = entry.extras[0] if entry.extras else "train"
        missing = f"{exc.name} is not installed" if isinstance(exc, ModuleNotFoundError) else str(exc)
        raise _missing(name, missing, extra) from exc


def _missing(name: str, what: str, extra: str) -> typer.Exit:
    typer.echo(f"veriframe {name} cannot run here: {what}.\nTo install what it needs: {how_to_install(extra)}", err=True)
    return typer.Exit(2)


def _named(name: str, loaded: typer.Typer) -> Any:
    command: Any = get_command(loaded)
    command.name = name
    _refuse_empty_paths(command)
    return command


def _refuse_empty_paths(command: Any) -> None:
    """Of every option and argument that names a file or folder: ``Path("")`` is the current folder."""
    for below in getattr(command, "commands", {}).values():
        _refuse_empty_paths(below)
    for param in command.params:
        descriptor = getattr(param, "type_descriptor", None)  # Typer's own; should it go, an empty name is let through, no more
        if getattr(descriptor, "annotation", None) in (Path, list[Path]):
            param.process_value = partial(_path_given, param.process_value)


def _path_given(process: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    if "" in (value if isinstance(value, (list, tuple)) else [value]):
        raise typer.BadParameter("it is empty, and names no file or folder; a variable that is not set, perhaps")
    return process(ctx, value)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"veriframe {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=CommandGroup,
    name="veriframe",
    help="Scan video and pictures for deepfaked faces.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def main(obj: object = None) -> None:
    """The console script. ``obj`` replaces the function that opens a scanner (``worker.jobs.BuildScanner``)."""
    stdio.open_closed()
    stdio.guard()
    app(prog_name="veriframe", obj=obj)


if __name__ == "__main__":
    main()

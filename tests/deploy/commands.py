"""What a command line of an image or manifest means to the real program: parsed by its own parser, and not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import typer

from worker.cli import app
from worker.settings import Settings, load_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """``name`` as in "keys create"; ``given``: every option and argument by its name in the program."""

    name: str
    given: Mapping[str, Any] = field(default_factory=dict)


def parsed(arguments: Sequence[str]) -> Command:
    """Raises the parser's UsageError for a command or flag that does not exist, or a value that does not fit."""
    command: Any = typer.main.get_command(app)
    context, names = command.make_context("veriframe", list(arguments)), []
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        names.append(name)
        context = command.make_context(name, rest, parent=context)
    return Command(name=" ".join(names), given=dict(context.params))


def settings_of(environment: Mapping[str, str], monkeypatch: Any) -> Settings:
    """The settings that a container with this environment has. Raises ConfigError for a name or value that is none."""
    import os

    for name in list(os.environ):
        if name.startswith("VERIFRAME_"):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings()

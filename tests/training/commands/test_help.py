"""What the commands of training say of their options."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import typer
from rich.markup import render
from typer.main import get_command


def parameters(command: Any) -> Iterator[Any]:
    yield from command.params
    for below in getattr(command, "commands", {}).values():
        yield from parameters(below)


@pytest.mark.parametrize("name", ["adapt", "data", "evaluate", "heads", "release", "train", "tune"])
def test_nothing_of_an_options_help_is_taken_for_markup_and_not_shown(name: str) -> None:
    app = import_module(f"training.commands.{name}").app
    assert isinstance(app, typer.Typer)
    told = [one.help for one in parameters(get_command(app)) if getattr(one, "help", None)]
    assert told
    assert [render(text).plain for text in told] == told

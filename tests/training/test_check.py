"""What ``veriframe data check`` prints."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from training.check import Report, show
from training.leaks import Leak
from training.shortcuts import Shortcut


@pytest.mark.parametrize("name", ["a[/b]", "[bold]a", ":car:", "a\\"])
def test_names_are_printed_as_they_are(name: str) -> None:
    """Brackets are no markup: a tag that closes nothing would end the command. Nor are names emoji."""
    shortcut = Shortcut(source=name, feature="width", real=1.0, fake=2.0, auc=1.0)
    leak = Leak(kind="group", name=name, files=(("train", "x"), ("heldout", "y")))
    told = Console(file=io.StringIO(), width=120)
    show(Report(files=2, leaks=(leak,), shortcuts=(shortcut,), unread=(f"real/{name}.png",)), told)
    assert isinstance(told.file, io.StringIO)
    text = told.file.getvalue()
    assert f"the first of them real/{name}.png\n" in text
    assert f"  group {name}: train x | heldout y\n" in text
    assert f"│ {name} " in text

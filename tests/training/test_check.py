"""What ``veriframe data check`` prints."""

from __future__ import annotations

import io

from rich.console import Console

from training.check import Report, show
from training.shortcuts import Shortcut


def test_names_are_printed_as_they_are() -> None:
    """Brackets are no markup: a tag that closes nothing would end the command."""
    shortcut = Shortcut(source="a[/b]", feature="width", real=1.0, fake=2.0, auc=1.0)
    told = Console(file=io.StringIO(), width=120)
    show(Report(files=2, leaks=(), shortcuts=(shortcut,), unread=("real/x[/].png",)), told)
    assert isinstance(told.file, io.StringIO)
    text = told.file.getvalue()
    assert "the first of them real/x[/].png" in text
    assert "a[/b]" in text

"""How wide a table for people may be, on a terminal and in a file."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console, ConsoleDimensions


def wide_console(out: TextIO, *, in_a_file: int, at_least: int) -> Console:
    """A console of the terminal's width, or of ``in_a_file`` columns where ``out`` is none.

    ``at_least``: columns that the table needs. A narrower terminal breaks its lines; rich would cut cells and drop columns.
    """
    console = Console(file=out, width=None if out.isatty() else in_a_file, highlight=False)
    console.size = ConsoleDimensions(max(at_least, console.width), console.height)  # a width alone counts for no dumb terminal
    return console

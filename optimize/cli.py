"""``veriframe bench``: how fast and how large scans and their parts are here, beside what people would use instead.

Most need the ``train`` extra (the reference pipelines are PyTorch); ``queue`` and ``serve`` need ``service`` and ``embedded``.
"""

from __future__ import annotations

import typer

from optimize.commands.bench.history import history
from optimize.commands.bench.memory import memory
from optimize.commands.bench.queue import queue
from optimize.commands.bench.scan import scan

app = typer.Typer(help="Measure scans on this machine.", no_args_is_help=True, add_completion=False)
for command in (scan, memory, queue, history):
    app.command()(command)

"""``veriframe bench``: how fast and how large scans and their parts are here, beside what people would use instead.

Most need the ``train`` extra (the reference pipelines are PyTorch); ``queue`` and ``serve`` need ``service`` and ``embedded``.
"""

from __future__ import annotations

import typer

from optimize.commands.bench.classify import classify
from optimize.commands.bench.decode import decode
from optimize.commands.bench.detect import detect
from optimize.commands.bench.growth import growth
from optimize.commands.bench.history import history
from optimize.commands.bench.memory import memory
from optimize.commands.bench.queue import queue
from optimize.commands.bench.scan import scan
from optimize.commands.bench.serve import serve
from optimize.commands.bench.start import start

app = typer.Typer(help="Measure scans on this machine.", no_args_is_help=True, add_completion=False)
for command in (scan, decode, detect, classify, serve, start, queue, growth, memory, history):
    app.command()(command)

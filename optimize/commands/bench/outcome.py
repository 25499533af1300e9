"""What every bench does around its measurement: options, a progress bar, a table of figures, JSON and plot, exit codes."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from optimize.bench.document import Document
from optimize.bench.side import SideFailed
from worker.commands.outcome import exit_codes
from worker.cores import affine_cores
from worker.errors import ConfigError
from worker.extras import how_to_install, missing
from worker.progress import Bar

THREADS = min(2, affine_cores())
"""By default: two, so that machines compare, where there are two cores."""


def _as_many_as_cores(threads: int) -> int:
    """More would cost a side's own threads the time of one another, and count cores as idle that are not there."""
    if threads > (cores := affine_cores()):
        raise typer.BadParameter(f"every side needs as many cores, and here {'is 1' if cores == 1 else f'are {cores}'}")
    return threads


Threads = Annotated[int, typer.Option(min=1, callback=_as_many_as_cores, help="Threads, and cores, of each side.")]
JsonOut = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures to this file.")]
PlotOut = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Also draw them: .png or .svg.")]
Folder = Annotated[Path | None, typer.Argument(help="Folder of clips; the demo clips when left out.", metavar="[DIR]")]
Clips = Annotated[int | None, typer.Option(min=1, help="So many of the clips, evenly chosen.")]
Repeat = Annotated[int, typer.Option(min=1, help="Timed rounds; the median counts.")]

TRAIN_NEEDS = ("decord", "facenet_pytorch", "psutil", "timm", "torch")


@contextmanager
def bench_exit_codes() -> Iterator[None]:
    """As every command's, and 2 where a side cannot start or answer. SIGTERM closes what is open, and gives 143."""
    with _closed_by_sigterm(), exit_codes():
        try:
            yield
        except SideFailed as exc:
            raise ConfigError(f"bench: {exc}") from exc


@contextmanager
def _closed_by_sigterm() -> Iterator[None]:
    """Copies of media, sides and a server are not to outlive a bench that is stopped; a second signal kills it at once."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL or threading.current_thread() is not threading.main_thread():
        yield
        return

    def close(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, close)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def check_outputs(plot: Path | None, json_out: Path | None) -> None:
    """Raises ConfigError before anything is measured for files that could not be written."""
    if plot is not None:
        from optimize.bench.plot import check_plot

        check_plot(plot)
    for path in (plot, json_out):
        if path is None:
            continue
        if not path.absolute().parent.is_dir():
            raise ConfigError(f"{path}: there is no such folder")
        if path.is_dir():
            raise ConfigError(f"{path} is a folder: name a file")
        if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
            raise ConfigError(f"{path} may not be written")


def need(extra: str, modules: Iterable[str], what: str) -> None:
    """Raises ConfigError where a module is missing."""
    if lacking := missing(modules):
        raise ConfigError(f"{what} needs {', '.join(lacking)}: {how_to_install(extra)}")


def told_command(arguments: Sequence[str] | None = None) -> str:
    """The command line as it can be shown anywhere: without the files it writes, of absolute paths only the last part."""
    told = ["veriframe"]
    words = iter(sys.argv[1:] if arguments is None else arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option in ("--json", "--plot"):
            if not equals:
                next(words, None)
        elif option.startswith("--") and value.startswith("/"):
            told.append(f"{option}={Path(value).name}")
        else:
            told.append(Path(word).name if word.startswith("/") else word)
    return shlex.join(told)


def progress(total: int) -> Bar:
    console = Console(stderr=True)
    return Bar(console, total=total, live=console.is_terminal)


def finish(document: Document, json_out: Path | None, plot: Path | None) -> None:
    """Print the figures, and write the files that were asked for. Raises ConfigError where one cannot be written."""
    table = Table(title=f"{document.command}: {document.machine.cpu}, {document.machine.cores} cores")
    table.add_column("figure")
    table.add_column("value")
    for figure in document.figures:
        table.add_row(escape(figure.name), escape(str(figure)))
    Console().print(table)
    try:
        if json_out is not None:
            document.write(json_out)
        if plot is not None and document.charts:
            from optimize.bench.plot import draw

            machine = document.machine
            draw(document.charts, f"{document.command}\n{machine.cpu}, {machine.cores} cores, {document.at[:10]}", plot)
    except OSError as exc:
        raise ConfigError(f"the figures cannot be written: {exc}") from exc

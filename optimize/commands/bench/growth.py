"""``veriframe bench growth``: how the cost of scans grows with their size."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from optimize.bench.document import Started
from optimize.bench.growth import SIZES, growth_charts, growth_figures, measure, requests_of
from optimize.bench.side import Rival, Side
from optimize.bench.variants import variants_of
from optimize.commands.bench.outcome import (
    THREADS,
    JsonOut,
    PlotOut,
    Threads,
    bench_exit_codes,
    check_outputs,
    finish,
    need,
    progress,
    told_command,
)


class Of(StrEnum):
    VIDEOS = "videos"
    FRAMES = "frames"
    FACES = "faces"
    LENGTH = "length"


def growth(
    of: Annotated[list[Of] | None, typer.Option(help="Only this; may be given several times. Default: all four.")] = None,
    most: Annotated[int, typer.Option(min=1, max=64, help="The largest size; powers of two up to it.")] = 64,
    backend: Annotated[str, typer.Option(metavar="NAME", help="The classifier's backend.")] = "auto",
    repeat: Annotated[int, typer.Option(min=1, help="Timed rounds; the median counts.")] = 1,
    threads: Threads = THREADS,
    json_out: JsonOut = None,
    plot: PlotOut = None,
) -> None:
    """Time and CPU time of scans as videos, frames, faces and length grow from 1 to 64 times; every frame is scored.

    Example: veriframe bench growth --json growth.json --plot growth.svg
    """
    with bench_exit_codes():
        check_outputs(plot, json_out)
        need("train", ("psutil",), "counting CPU time")
        names = [one.value for one in of or Of]
        sizes = [size for size in SIZES if size <= most]
        flags = variants_of([backend], None, early=False)[0].flags(frames=most)
        ours = Rival(name="veriframe", build="optimize.bench.rivals.scanner:build", options={"flags": flags})
        started = Started("growth", told_command())
        with (
            tempfile.TemporaryDirectory(prefix="veriframe-bench-") as scratch,
            progress(len(names) * len(sizes) * repeat) as bar,
            Side(ours, threads=threads) as side,
        ):
            found = []
            for name in names:
                bar.begin(name)
                requests = requests_of(name, sizes, Path(scratch))
                found.append(measure(name, side, requests, rounds=repeat, on_size=lambda size: bar.advance()))
        finish(started.document(growth_figures(found), growth_charts(found)), json_out, plot)

"""``veriframe bench memory``: peak memory of a short and a long clip."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from optimize.bench.document import Figure, Started
from optimize.bench.soak import SHORT_S, Soaked, loop_clip, make_clip, soak
from optimize.commands.bench.outcome import (
    THREADS,
    JsonOut,
    Threads,
    bench_exit_codes,
    check_outputs,
    finish,
    need,
    progress,
    told_command,
)

MIB = 1024**2


def memory(
    minutes: Annotated[float, typer.Option(min=0.2, help="Length of the long clip.")] = 30.0,
    clip: Annotated[Path | None, typer.Option(help="A clip to repeat; one made of a demo clip, 720p, when left out.")] = None,
    threads: Threads = THREADS,
    json_out: JsonOut = None,
) -> None:
    """Peak memory and time of a ten-second and a half-hour clip, default options: neither may grow with length."""
    with bench_exit_codes():
        check_outputs(None, json_out)
        need("train", ("psutil",), "counting memory")
        started = Started("memory", told_command())
        with tempfile.TemporaryDirectory(prefix="veriframe-soak-") as scratch, progress(2) as bar:
            source, short, long = clip or Path(scratch, "made.mp4"), Path(scratch, "short.mp4"), Path(scratch, "long.mp4")
            bar.begin("making clips")
            if clip is None:
                make_clip(source)
            lasting = [(short, loop_clip(source, short, SHORT_S)), (long, loop_clip(source, long, 60 * minutes))]
            results = []
            for one in lasting:
                bar.begin(one[0].name)
                results += soak([one], threads=threads)
                bar.advance()
        finish(started.document([figure for result in results for figure in _figures(result)]), json_out, None)


def _figures(result: Soaked) -> list[Figure]:
    name = f"{result.media_s:.0f} s of media"
    return [
        Figure(name=f"{name}: peak memory of all processes (PSS)", value=result.peak_bytes / MIB, unit="MiB"),
        Figure(name=f"{name}: scan", value=result.scan_s, unit="s", note=f"{result.frames} frames, {result.faces} faces"),
    ]

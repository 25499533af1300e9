"""``veriframe bench serve``: videos a second through the real queue."""

from __future__ import annotations

from typing import Annotated

import typer

from optimize.bench.clips import chosen_clips
from optimize.commands.bench.outcome import (
    Folder,
    JsonOut,
    PlotOut,
    bench_exit_codes,
    check_outputs,
    finish,
    need,
    progress,
    told_command,
)
from optimize.commands.bench.queue import QUEUE_NEEDS


def serve(
    folder: Folder = None,
    videos: Annotated[int, typer.Option(min=1, help="Scans in each round; clips are repeated, as copies of other bytes.")] = 24,
    workers: Annotated[list[int] | None, typer.Option(min=1, help="A number of workers; default: 1 and 2.")] = None,
    frames: Annotated[int, typer.Option(min=1, max=256, help="Frames looked at in each clip.")] = 32,
    backend: Annotated[str, typer.Option(metavar="NAME", help="The classifier's backend.")] = "auto",
    early: Annotated[bool, typer.Option("--early/--exhaustive", help="With early decision.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each number of workers, in turns.")] = 2,
    json_out: JsonOut = None,
    plot: PlotOut = None,
) -> None:
    """Videos a second through the real queue on an embedded Redis, each worker pinned to a core, and how long scans take.

    Example: veriframe bench serve videos/ --videos 32 --workers 1 --workers 2 --json serve.json
    """
    with bench_exit_codes():
        check_outputs(plot, json_out)
        for extra, needs in QUEUE_NEEDS.items():
            need(extra, needs, "the queue")
        from optimize.bench.document import Started
        from optimize.bench.serve import serve as measure
        from optimize.bench.serve import serve_charts, serve_figures
        from optimize.bench.variants import variants_of

        counts = sorted(set(workers or (1, 2)))
        flags = variants_of([backend], None, early)[-1].flags(frames)
        paths = chosen_clips(folder, videos)
        started = Started("serve", told_command())
        with progress(rounds * len(counts)) as bar:
            bar.begin("queue")
            served = measure(paths, videos=videos, workers=counts, rounds=rounds, flags=flags, on_round=lambda one: bar.advance())
        finish(started.document(serve_figures(served), serve_charts(served)), json_out, plot)

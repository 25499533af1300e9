"""``veriframe bench decode``: decoding alone against decord, plain PyAV and the floor, and by length."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from optimize.bench.clips import chosen_clips
from optimize.bench.decode import OURS, decode_charts, decode_figures, decode_long, rivals
from optimize.bench.decode import decode as measure
from optimize.bench.document import Started
from optimize.bench.soak import loop_clip, make_clip
from optimize.bench.turns import open_sides
from optimize.commands.bench.outcome import (
    THREADS,
    TRAIN_NEEDS,
    Clips,
    Folder,
    JsonOut,
    PlotOut,
    Repeat,
    Threads,
    bench_exit_codes,
    check_outputs,
    finish,
    need,
    progress,
    told_command,
)


def decode(
    folder: Folder = None,
    clips: Clips = None,
    frames: Annotated[int, typer.Option(min=1, max=256, help="Frames looked at in each clip.")] = 32,
    minutes: Annotated[float, typer.Option(min=0, help="Length of a long clip, against one of a minute; 0: left out.")] = 30.0,
    repeat: Repeat = 3,
    threads: Threads = THREADS,
    json_out: JsonOut = None,
    plot: PlotOut = None,
) -> None:
    """Time decoding of the same frames: ours (a sandboxed child that hands frames over), decord, plain PyAV, and the floor.

    Then a 720p clip of a minute against one of half an hour, looked at as a scan does by default: the time for a distinct frame.

    Example: veriframe bench decode videos/ --clips 12 --json decode.json
    """
    with bench_exit_codes():
        check_outputs(plot, json_out)
        need("train", TRAIN_NEEDS, "decord")
        paths = chosen_clips(folder, clips)
        started = Started("decode", told_command())
        with (
            tempfile.TemporaryDirectory(prefix="veriframe-bench-") as scratch,
            progress(len(paths) + (minutes > 0)) as bar,
            open_sides(rivals(), threads) as sides,
        ):
            bar.begin("decoders")
            found = measure(paths, sides, frames=frames, rounds=repeat, on_clip=lambda clip: bar.advance())
            long = []
            if minutes > 0:
                bar.begin("long clips")
                source = Path(scratch, "made.mp4")
                make_clip(source)
                lasting = [(Path(scratch, f"{length:g}.mp4"), length) for length in (1.0, minutes)]
                looped = [(path, loop_clip(source, path, 60 * length)) for path, length in lasting]
                long = decode_long(looped, sides[OURS], frames=frames, rounds=repeat)
        finish(started.document(decode_figures(found, long), decode_charts(found, long)), json_out, plot)

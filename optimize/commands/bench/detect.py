"""``veriframe bench detect``: face detection alone against facenet-pytorch."""

from __future__ import annotations

from typing import Annotated

import typer

from optimize.bench.clips import chosen_clips
from optimize.bench.detect import OURS, REFERENCES, detect_charts, detect_figures, rivals
from optimize.bench.detect import detect as measure
from optimize.bench.document import Started
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


def detect(
    folder: Folder = None,
    clips: Clips = None,
    frames: Annotated[int, typer.Option(min=1, max=256, help="Frames looked at in each clip.")] = 32,
    carry: Annotated[bool, typer.Option("--carry/--no-carry", help="Also with carrying.")] = True,
    full_size: Annotated[bool, typer.Option(help="Also against detect() by its defaults on full-size frames (slow).")] = True,
    repeat: Repeat = 3,
    threads: Threads = THREADS,
    json_out: JsonOut = None,
    plot: PlotOut = None,
) -> None:
    """Time face detection on the same frames: ours, with carrying, and facenet-pytorch's detect() at half and full size.

    Decoding and shrinking are not timed. Recall is of the reference's faces whose box is 80 pixels or more wide and high.

    Example: veriframe bench detect videos/ --clips 6 --repeat 2 --json detect.json
    """
    with bench_exit_codes():
        check_outputs(plot, json_out)
        need("train", TRAIN_NEEDS, "facenet-pytorch's detector")
        paths = chosen_clips(folder, clips)
        started = Started("detect", told_command())
        ours = OURS if carry else OURS[:1]
        references = [mode for mode in REFERENCES if full_size or mode != "a"]
        with progress(len(paths)) as bar, open_sides(rivals([*ours, *references]), threads) as sides:
            bar.begin("detectors")
            found = measure(paths, sides, frames=frames, rounds=repeat, on_clip=lambda clip: bar.advance())
        finish(started.document(detect_figures(found), detect_charts(found)), json_out, plot)

"""``veriframe bench start``: a cold start, from the shell to a verdict."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from optimize.bench.clips import lasts_s
from optimize.bench.document import Started
from optimize.bench.soak import SHORT_S, make_clip
from optimize.bench.start import measure, start_figures
from optimize.commands.bench.outcome import JsonOut, bench_exit_codes, check_outputs, finish, need, progress, told_command


def start(
    clip: Annotated[
        Path | None, typer.Argument(help="A clip; one of ten seconds, 720p, when left out.", metavar="[CLIP]")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Timed rounds; the median counts.")] = 5,
    json_out: JsonOut = None,
) -> None:
    """Time `veriframe scan` of one clip from the shell to the verdict, caches warm, and tell whether torch was imported.

    Example: veriframe bench start --repeat 5 --json start.json
    """
    with bench_exit_codes():
        check_outputs(None, json_out)
        need("train", ("psutil",), "describing the machine")
        started = Started("start", told_command())
        with tempfile.TemporaryDirectory(prefix="veriframe-bench-") as scratch, progress(repeat) as bar:
            bar.begin("starting")
            source = clip or Path(scratch, "made.mp4")
            if clip is None:
                make_clip(source, SHORT_S)
            runs, torch = measure(source, rounds=repeat, on_round=lambda run: bar.advance())
            media_s = lasts_s(source)
        finish(started.document(start_figures(runs, torch=torch, media_s=media_s)), json_out, None)

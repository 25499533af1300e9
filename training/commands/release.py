"""``veriframe release``: from a run to a checkpoint, and from scans of held-out files to its calibrations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.outcome import exit_codes
from worker.errors import ConfigError

if TYPE_CHECKING:
    from worker.report import Report

app = typer.Typer(help="Write a run's checkpoint and calibrate it.", no_args_is_help=True, add_completion=False)

COVERAGE = 0.72
"""Chosen for checkpoint 4: docs/model-card.md, False alarms on recompressed video."""

EXPORT_HELP = """Write a run's averaged weights as a checkpoint. Thresholds and calibrations are fitted on scans, afterwards.

\b
  veriframe release export model.safetensors --run runs/second
  veriframe release export model.safetensors --run runs/second --start runs/first/model.safetensors --share 0.5
A run of stages has written its own already: runs/paper/model.safetensors
"""

CALIBRATE_HELP = """Fit calibrations and thresholds on scans of held-out files, store them in the checkpoint, print scores.

Videos and pictures have one each. A kind without scans keeps its own; one that is an adapted checkpoint's parent's is taken away.

\b
  veriframe data files heldout leftout | veriframe scan - --exhaustive --model model.safetensors --format jsonl > scans.jsonl
  veriframe release calibrate model.safetensors scans.jsonl --card scores.md --version 3.1
A checkpoint of one's own media, on the files that its cache holds out:
  veriframe data files heldout leftout --cache runs/cache | veriframe scan - --exhaustive --model runs/own/model.safetensors \
    --format jsonl > scans.jsonl
  veriframe release calibrate runs/own/model.safetensors scans.jsonl --cache runs/cache
A checkpoint that has learnt from all people, by runs of its recipe that each held some out (hold_out in their configurations):
  veriframe data files train --held-out-by fold-a.safetensors | veriframe scan - --exhaustive --model fold-a.safetensors \
    --format jsonl >> scans.jsonl
  veriframe release calibrate model.safetensors scans.jsonl --fold fold-a.safetensors --fold fold-b.safetensors
With degraded copies it also learns how much less poor faces tell (kept where that helps out of fold):
  veriframe release degrade copies
  veriframe scan copies --exhaustive --model model.safetensors --format jsonl > copies.jsonl
  veriframe release calibrate model.safetensors scans.jsonl --degraded copies.jsonl --copies copies
"""

DEGRADE_HELP = """Make a degraded copy of each held-out and left-out file (compressed, blurred or small); goes on after a stop.

A copy bears its original's time of modification: of a file that was replaced since, it is made anew.

\b
  veriframe release degrade copies --data ../shared/data
  veriframe release degrade copies --cache runs/cache
"""

ALARMS_HELP = """Count real videos that are called fake, as they are and recompressed; thresholds are cross-fitted over groups.

\b
  veriframe data files heldout leftout | grep videos/ | veriframe scan - --exhaustive --model model.safetensors --format jsonl \
    > videos.jsonl
  veriframe release alarms model.safetensors videos.jsonl
As a calibration with degraded copies judges them (veriframe release calibrate):
  veriframe release alarms model.safetensors videos.jsonl --degraded copies.jsonl --copies copies
Copies: x264 at CRF 23, 28 and 35, and scaled to 360 rows; of long videos the first seconds. Made and scanned one at a time; a
stopped run goes on.
"""

CacheOption = Annotated[
    Path | None, typer.Option(help="The files and split of this crop cache instead of the committed ones.", show_default=False)
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the labelled media; default: ../shared/data, or what the cache was made of.", show_default=False
    ),
]
DegradedOption = Annotated[
    list[Path] | None,
    typer.Option(exists=True, dir_okay=False, show_default=False, help="JSONL of scans of degraded copies; may be repeated."),
]
CopiesOption = Annotated[Path, typer.Option(help="Folder of those copies, each at its original's path.")]
COPIES = Path("copies")


FoldOption = Annotated[
    list[Path] | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="A checkpoint of the same recipe whose run held groups out of what CHECKPOINT learnt from (hold_out): its scans of"
        " these count, too; may be repeated.",
        show_default=False,
    ),
]


def _told(note: str) -> None:
    typer.echo(note, err=True)


@app.command(help=EXPORT_HELP)
@exit_codes()
def export(
    out: Annotated[Path, typer.Argument(help="The safetensors file to write (fp16, spec inside).")],
    run: Annotated[Path, typer.Option("--run", help="Folder of the run.")],
    cache: Annotated[Path, typer.Option(help="Folder of the crop cache that it was trained on.")] = Path("runs/cache"),
    name: Annotated[str, typer.Option(help="The model's name in reports.")] = "veriframe-b0",
    version: Annotated[str, typer.Option(help="Its version.")] = "1",
    start: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Average the weights with this checkpoint, where the run began."),
    ] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the average: how much comes from the run.")] = 0.5,
) -> None:
    from training.room import refuse_unwritable

    refuse_unwritable(out)
    from training.paper.stages import RUN, export_run
    from training.release import export_checkpoint

    if (run / RUN).exists():
        if start is not None:
            raise ConfigError("--start is for runs of one recipe, not of stages")
        spec = export_run(run, cache, out, name=name, version=version)
    else:
        spec = export_checkpoint(run, cache, out, name=name, version=version, start=start, share=share)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {spec.name} {spec.version}")


@app.command(help=CALIBRATE_HELP)
@exit_codes()
def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="The checkpoint to calibrate; written anew, in place.")],
    reports: Annotated[
        list[Path],
        typer.Argument(
            exists=True, dir_okay=False, help="JSONL of `veriframe scan --model CHECKPOINT` over files not trained on."
        ),
    ],
    fold: FoldOption = None,
    cache: CacheOption = None,
    data: DataOption = None,
    degraded: DegradedOption = None,
    copies: CopiesOption = COPIES,
    card: Annotated[Path | None, typer.Option(help="Also write the tables of scores by source here (Markdown).")] = None,
    fpr: Annotated[float, typer.Option(min=0, max=1, help="Most real files that may be called fake.")] = 0.05,
    fnr: Annotated[float, typer.Option(min=0, max=1, help="Most fake files that may be called real.")] = 0.10,
    coverage: Annotated[float, typer.Option(min=0, max=1, help="Least share that must be decided.")] = COVERAGE,
    version: Annotated[
        str | None, typer.Option(help="The checkpoint's version from now on: verdicts will differ; default: as it was.")
    ] = None,
) -> None:
    from training.calibration import Target
    from training.labelled import judges, labelled_files, tell_of_another_split
    from training.room import refuse_unwritable
    from training.scans import calibrate_checkpoint, read_reports

    refuse_unwritable(checkpoint)
    if card is not None:
        refuse_unwritable(card, is_replaced=False)
    labelled, root = labelled_files(cache, data)
    judging = judges(checkpoint, fold or (), labelled.values())
    tell_of_another_split(checkpoint, cache, _told)
    scanned = read_reports(reports, judging, root, _told)
    poor = read_reports(degraded or [], judging, copies, _told)
    lines = calibrate_checkpoint(checkpoint, scanned, Target(fpr=fpr, fnr=fnr, coverage=coverage), poor, version=version)
    typer.echo("\n".join(lines))
    if card is not None:
        card.write_text("\n".join(lines) + "\n", "utf-8")


@app.command(help=DEGRADE_HELP)
@exit_codes()
def degrade(
    out: Annotated[Path, typer.Argument(help="Folder for the copies.")],
    cache: CacheOption = None,
    data: DataOption = None,
) -> None:
    from training.degraded import make_copies
    from training.labelled import labelled_files
    from training.room import refuse_unwritable
    from worker.frame_source import build_frames
    from worker.settings import default_file, load_settings

    refuse_unwritable(out / "copy")
    labelled, root = labelled_files(cache, data)
    items = [item for item in labelled.values() if item.split != "train"]
    with build_frames(load_settings(default_file())) as frames:
        failed = make_copies(items, root, out, frames)
    typer.echo(f"{len(items) - failed} copies below {out}, {failed} files could not be read")


@app.command(help=ALARMS_HELP)
@exit_codes()
def alarms(
    checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The checkpoint.")],
    reports: Annotated[
        list[Path],
        typer.Argument(
            exists=True, dir_okay=False, help="JSONL of `veriframe scan --model CHECKPOINT` over files not trained on."
        ),
    ],
    fold: FoldOption = None,
    cache: CacheOption = None,
    data: DataOption = None,
    degraded: DegradedOption = None,
    copies: CopiesOption = COPIES,
    out: Annotated[Path, typer.Option(help="Folder for the copies' scans and the table.")] = Path("runs/alarms"),
    fpr: Annotated[float, typer.Option(min=0, max=1, help="As for calibrate.")] = 0.05,
    fnr: Annotated[float, typer.Option(min=0, max=1, help="As for calibrate.")] = 0.10,
    coverage: Annotated[float, typer.Option(min=0, max=1, help="As for calibrate.")] = COVERAGE,
    threads: Annotated[int | None, typer.Option(min=1, max=64, help="Of the scans.")] = None,
) -> None:
    from rich.console import Console

    from training.alarms import report_lines, seen_of, trials
    from training.calibration import Target
    from training.evaluation import robustness
    from training.labelled import judges, labelled_files, tell_of_another_split
    from training.room import refuse_unwritable
    from training.scans import last_of_each, named_reports, read_reports
    from worker.compose import build_scanner
    from worker.frame_source import build_frames
    from worker.progress import Bar
    from worker.settings import default_file, load_settings

    refuse_unwritable(out / "alarms.md")
    labelled, root = labelled_files(cache, data)
    judging = judges(checkpoint, fold or (), labelled.values())
    tell_of_another_split(checkpoint, cache, _told)
    told = named_reports(reports, judging, root, _told)
    own = last_of_each(((item.path, (item, report)) for item, report in told), _told)
    every_frame = {"sampling": {"exhaustive": True}, "output": {"evidence_per_track": 0}}
    out.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    poor = read_reports(degraded or [], judging, copies, _told)
    again: dict[robustness.Key, Report] = {}
    for judge in judging:
        wanted = trials((it for it in own.values() if it[1].model and it[1].model.sha256 == judge.sha256), root)
        engine = {"checkpoint": judge.checkpoint} | ({} if threads is None else {"threads": threads})
        settings = load_settings(default_file(), {"model": engine} | every_frame)
        bar = Bar(console, total=len(wanted), live=console.is_terminal)
        with build_scanner(settings) as scanner, build_frames(settings) as frames, bar:
            again |= robustness.scans(wanted, out / "copies.jsonl", scanner, frames, on_done=bar.advance)
    seen, lost = seen_of(own, again)
    lines = report_lines(seen, Target(fpr=fpr, fnr=fnr, coverage=coverage), poor)
    lines += ["", f"{lost} of {len(again)} copies got no score and count in no share."]
    (out / "alarms.md").write_text("\n".join(lines) + "\n", "utf-8")
    typer.echo("\n".join(lines))

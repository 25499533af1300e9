"""``veriframe evaluate``: labelled media to a report on a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from worker.commands.outcome import exit_codes

app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)

HELP = (
    "Judge a checkpoint on labelled files: AUC, errors at the shipped thresholds, calibration, coverage, by source.\n\n"
    "Videos and pictures are judged apart, by whole scans; all intervals are over groups. Stopped and started again, it goes on. "
    "Writes report.html, report.md, report.json, scores.csv and the reports of the scans into --out."
)
EPILOG = """[bold]Examples[/]

\b
veriframe evaluate media/ --out runs/eval                     media/real and media/fake
veriframe evaluate set.csv --out runs/eval --model mine.safetensors
veriframe evaluate set.csv --out runs/eval --robustness       also recompressed, blurred, resized ...
veriframe evaluate training/splits/v2.csv --data ../media --out runs/eval --limit 250
veriframe evaluate set.csv --out runs/eval --reports scans.jsonl

[bold]The manifest[/]

\b
CSV with path, label (real, fake), source, group; of use where they are there:
manipulation, split (train is left out, and leftout where the checkpoint
learnt from it; names of your own need --split), original, sex, age, race
"""


@app.command(help=HELP, epilog=EPILOG)
def evaluate(
    ctx: typer.Context,
    manifest: Annotated[
        Path, typer.Argument(exists=True, help="A manifest (CSV), or a folder that `veriframe data prepare` takes.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the report and the scans; outside git.", metavar="DIR")],
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The checkpoint, of --reports too: it says what it learnt from. Default: the bundled one."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that the manifest's paths are below; default: its own.")
    ] = None,
    reports: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Finished `veriframe scan --exhaustive --format jsonl` instead of scanning.",
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only files of this split; may be repeated. Default: all but those trained on."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most N videos and N pictures, evenly over sources and labels.")
    ] = None,
    robustness: Annotated[bool, typer.Option("--robustness", help="Also scan degraded copies of a sample: takes long.")] = False,
    robust_videos: Annotated[int, typer.Option(min=0, metavar="N", help="Videos in that sample.")] = 20,
    robust_pictures: Annotated[int, typer.Option(min=0, metavar="N", help="Pictures in that sample.")] = 60,
    draws: Annotated[int, typer.Option(min=10, metavar="N", help="Bootstrap draws of an interval.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Files scanned at once.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, max=64, metavar="N", help="Threads of each worker.")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings of the scans; default: configs/worker.yaml of a checkout.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary.")] = False,
) -> None:
    """Flags to a plan; see HELP."""
    with exit_codes():
        from training.evaluation.run import Plan

        plan = Plan(
            manifest=manifest,
            out=out,
            data=data,
            splits=tuple(split) if split else None,
            limit=limit,
            reports=tuple(reports or ()),
            robust_videos=robust_videos if robustness else 0,
            robust_pictures=robust_pictures if robustness else 0,
            draws=draws,
            workers=workers,
            quiet=quiet,
        )
        code = run_evaluate(plan, model=model, threads=threads, config=config, build=ctx.obj)
    raise typer.Exit(code)


def run_evaluate(plan: Any, *, model: Path | None, threads: int | None, config: Path | None, build: Any = None) -> int:
    """Evaluate, print the overview; returns the exit code. ``build`` opens a scanner (``worker.jobs.BuildScanner``)."""
    from training.evaluation.run import evaluate as evaluate_plan
    from training.evaluation.scanning import Stopped
    from training.evaluation.sections import overview
    from worker.settings import default_file, load_settings

    if build is None:
        from worker.compose import build_scanner

        build = build_scanner
    engine = {key: value for key, value in (("checkpoint", model), ("threads", threads)) if value is not None}
    every_frame = {"sampling": {"exhaustive": True}}
    settings = load_settings(config or default_file(), {"model": engine, "output": {"evidence_per_track": 0}} | every_frame)
    try:
        found = evaluate_plan(plan, settings, build)
    except Stopped as stopped:
        typer.echo(f"veriframe: {stopped}", err=True)
        return stopped.exit_code
    except KeyboardInterrupt:
        typer.echo("veriframe: stopped; the next run with the same --out goes on", err=True)
        return 130
    if not plan.quiet:
        show(overview(found))
        typer.echo(f"Report: {plan.out / 'report.html'}")
    return 0


def show(table: Any) -> None:
    """Print a ``training.evaluation.document.Table``."""
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    printed = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in table.header:
        printed.add_column(Text(name), overflow="fold")
    for row in table.rows:
        printed.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120, highlight=False).print(printed)

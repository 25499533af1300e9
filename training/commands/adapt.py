"""``veriframe adapt``: a checkpoint that learnt from corrected cases, if it lost nothing by it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from worker.commands.outcome import exit_codes

app = typer.Typer(add_completion=False)
REFUSED = 1

HELP = """Fine-tune a checkpoint on corrected cases (false alarms, misses), and keep the result only if it lost nothing.

FEEDBACK.csv has the columns of a manifest: path, label (the right one), source, and if known group and family. Half of every
batch or more is old training data from the crop cache. The files of the cache that are not trained on are scored before and
after: a loss on any source beyond a paired 95 % bound, or no gain on the feedback, refuses the new checkpoint (exit code 1).
Where that is refused, averages with the parent are tried, which forget less (shares: half, then a quarter, of the new one).
Either way report.md and report.json in the run folder tell what changed. Started again, it goes on where it was stopped.

\b
  veriframe adapt wrong.csv --model model.safetensors --cache runs/cache --out adapted.safetensors
  veriframe scan clip.mp4 --model adapted.safetensors
Its calibration is the parent's; fitted anew:
  veriframe data files heldout leftout --cache runs/cache | veriframe scan - --exhaustive --model adapted.safetensors \
    --format jsonl > scans.jsonl
  veriframe release calibrate adapted.safetensors scans.jsonl --cache runs/cache
More old data, fewer steps (all settings: configs/train/adapt.yaml):
  veriframe adapt wrong.csv --model model.safetensors --out adapted.safetensors --config mine.yaml --run runs/second-try

Exit codes: 0 written, 1 refused by the gate, 2 usage (feedback that is in the regression set is named), 4 internal error.
"""


@app.command(help=HELP, no_args_is_help=True)
@exit_codes()
def adapt(
    feedback: Annotated[Path, typer.Argument(metavar="FEEDBACK.csv", help="The corrected cases, as a manifest.")],
    model: Annotated[Path, typer.Option(help="The checkpoint to start from; it is left as it is.")],
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")],
    cache: Annotated[Path, typer.Option(help="Crop cache of old data: replayed, and judged by.")] = Path("runs/cache"),
    run: Annotated[Path | None, typer.Option("--run", help="Folder of the run; default: runs/adapt-FEEDBACK.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML of settings other than the defaults.")] = None,
    version: Annotated[str | None, typer.Option(help="Of the new checkpoint; default: the parent's and -adapted.")] = None,
) -> None:
    from rich.console import Console

    from training.adaptation.settings import read_adaptation

    settings = read_adaptation(config)  # a mistake in it shows before torch is loaded
    from training.adaptation.report import MARKDOWN
    from training.adaptation.run import Plan, adapt
    from training.folder_lock import alone_in
    from worker.content import full_told

    folder = run or Path("runs") / f"adapt-{feedback.stem}"
    plan = Plan(feedback=feedback, model=model, cache=cache, out=out, folder=folder, settings=settings, version=version)
    with full_told(folder), alone_in(folder, partial(typer.echo, err=True)):
        found = adapt(plan, Console(stderr=True))
    for one in found.tried:
        for reason in one.refusals:
            typer.echo(f"refused, share {one.share:g} of the end of training: {reason}", err=True)
    typer.echo(folder / MARKDOWN)
    if not found.gate.is_accepted:
        raise typer.Exit(REFUSED)
    share = found.tried[-1].share
    of = "" if share == 1 else f" ({share:g} of the end of training, the rest the parent's)"
    typer.echo(f"{out}{of}: fit its calibration anew (veriframe release calibrate --cache {cache})")

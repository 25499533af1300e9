"""``veriframe tune``: search for better settings of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.commands.outcome import exit_codes

app = typer.Typer(add_completion=False)

HELP = """Search for better settings of a recipe by training it many times for a short while (Optuna).

The YAML names the recipe, the steps of a trial, and ranges for any of the recipe's settings. A trial is judged by the mean AUC
over sources on files that it did not train on, and ends early where it lags. Stopped and started again, it goes on, the trial
that was cut included; several processes may work on one study in one run folder, which gets report.md (all trials, what
mattered) and best.yaml.

\b
  veriframe tune configs/train/tune.yaml
  veriframe train runs/tune/best.yaml
Ten trials more, a study kept elsewhere, other media:
  veriframe tune configs/train/tune.yaml --trials 30
  veriframe tune configs/train/tune.yaml --storage sqlite:///runs/tune/study.db
  veriframe tune mine.yaml --cache runs/mine --run runs/tune-mine
"""


@app.command(help=HELP, no_args_is_help=True)
@exit_codes()
def tune(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML of the search (training/tuning/settings.py).")],
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials in all, those already done included; default: as CONFIG says.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL, or path of a journal file; default: study.db in the run folder.")
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Folder of the study; default: runs/NAME of CONFIG.")] = None,
    cache: Annotated[Path, typer.Option(help="Folder of the crop cache (veriframe data prepare).")] = Path("runs/cache"),
) -> None:
    from rich.console import Console

    from training.tuning.settings import read_search

    search = read_search(config)  # a mistake in it shows before torch is loaded
    from training.loop import fit_network
    from training.tuning.report import BEST, MARKDOWN
    from training.tuning.study import tune
    from worker.content import full_told

    folder = run or Path("runs") / config.stem
    console = Console(stderr=True)
    with full_told(folder):
        tune(search, cache, folder, fit_network, console, trials=trials or search.trials, storage=storage)
    typer.echo(f"{folder / MARKDOWN}\n{folder / BEST}")

"""``veriframe train``: prepare the crop cache, fit a network, write its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Train the classifier on your own labelled media.", no_args_is_help=True)

DataOption = Annotated[Path, typer.Option(help="Folder of the labelled media, with MANIFEST.csv.")]
CacheOption = Annotated[Path, typer.Option(help="Folder of the crop cache; outside git, it holds private faces.")]
RunOption = Annotated[Path, typer.Option("--run", help="Folder of the run: state, logs.")]
DATA, CACHE, RUN = Path("../shared/data"), Path("runs/cache"), Path("runs/first")


@app.command()
def prepare(
    data: DataOption = DATA,
    cache: CacheOption = CACHE,
    threads: Annotated[int, typer.Option(help="Threads of the face detector.")] = 2,
) -> None:
    """Decode the files of the committed split, find faces, cut crops. Continues where it was cut."""
    from training.prepare import prepare as fill
    from training.splits import read_split

    missing = fill(read_split(), data, cache, threads=threads)
    typer.echo(f"{missing} files without a sure face were left out")


@app.command()
def fit(
    config: Annotated[Path, typer.Option(help="YAML of training.settings.Fit.")] = Path("configs/train/first.yaml"),
    cache: CacheOption = CACHE,
    run: RunOption = RUN,
    minutes: Annotated[float | None, typer.Option(help="Training time instead of the configuration's.")] = None,
) -> None:
    """Train until the time limit; started again on the same folder, it continues."""
    from training.loop import fit_network
    from training.settings import read_fit

    settings = read_fit(config)
    fit_network(settings if minutes is None else settings.model_copy(update={"minutes": minutes}), cache, run)

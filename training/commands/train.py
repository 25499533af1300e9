"""``veriframe train``: the paper's stages, one recipe, a leave-one-source-out study, or a comparison of networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.outcome import exit_codes
from worker.errors import ConfigError

if TYPE_CHECKING:
    from training.configuration import Configuration

app = typer.Typer(add_completion=False)

HELP = """Train a network as YAML files say; started again on the same folder, it goes on where it was stopped.

Of several files the later ones replace settings of the earlier ones. What a configuration can hold: training/paper/settings.py
(with `sets`: the paper's stages), training/settings.py (one recipe), and docs/training.md.

\b
The paper's four stages and its tables and figures, on the crops in runs/cache:
  veriframe train configs/train/paper.yaml
Your own folder of real/ and fake/ videos or pictures, then a scan with what came out:
  veriframe data prepare FOLDER
  veriframe train configs/train/own.yaml
  veriframe scan clip.mp4 --model runs/own/model.safetensors
The same with CutMix, with AugMix, or with a larger network:
  veriframe train configs/train/paper.yaml configs/train/with-cutmix.yaml --run runs/cutmix
  veriframe train configs/train/paper.yaml configs/train/with-v2-m.yaml --run runs/v2-m
The last of the five runs that the bundled checkpoint comes from (docs/training.md has all):
  veriframe train configs/train/lit.yaml
How it does on sources that it has not seen, each left out in turn; then the report again at a threshold of your own:
  veriframe train configs/train/leave-out.yaml
  veriframe train configs/train/leave-out.yaml --threshold 0.4
Parameters, multiply-adds, latency and accuracy of five networks:
  veriframe train configs/train/baselines.yaml
"""


@app.command(help=HELP, no_args_is_help=True)
@exit_codes()
def train(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG...", help="YAML files of the run.")],
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Folder of the run: state, logs, report, checkpoint; default: runs/NAME of CONFIG."),
    ] = None,
    cache: Annotated[Path, typer.Option(help="Folder of the crop cache (veriframe data prepare).")] = Path("runs/cache"),
    threshold: Annotated[
        float | None,
        typer.Option(help="Of a leave-one-source-out study: log odds above which a file is called fake; default: fitted."),
    ] = None,
) -> None:
    from training.configuration import read_configuration
    from training.settings import Study
    from worker.content import full_told

    settings = read_configuration(configs)  # a mistake in it shows before torch is loaded
    if threshold is not None:
        if not isinstance(settings, Study):
            raise ConfigError("--threshold is for a study: a configuration with folds")
        settings = settings.model_copy(update={"threshold": threshold})
    folder = run or Path("runs") / configs[0].stem
    with full_told(folder), _alone_in(folder, settings):
        _train(settings, cache, folder)


@contextmanager
def _alone_in(folder: Path, settings: Configuration) -> Iterator[None]:
    """But for a process that the first one of a staged run or a comparison started: that has the folder for both."""
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    from training.folder_lock import alone_in
    from training.paper.settings import Baselines, Pipeline

    if isinstance(settings, Pipeline | Baselines) and rank_zero_only.rank != 0:  # type: ignore[attr-defined]
        yield
        return
    with alone_in(folder, partial(typer.echo, err=True)):
        yield


def _train(settings: Configuration, cache: Path, folder: Path) -> None:
    from training.paper.settings import Baselines, Pipeline
    from training.settings import Study

    if isinstance(settings, Pipeline):
        from training.paper.stages import run_pipeline

        report = run_pipeline(settings, cache, folder)
        if report is not None:
            typer.echo(f"{report}\n{report.with_suffix('.html')}\n{folder / 'model.safetensors'}")
    elif isinstance(settings, Baselines):
        from training.baselines import compare, markdown

        typer.echo(markdown(compare(settings, cache, folder), settings))
    elif isinstance(settings, Study):
        from training.leave_out import run_study

        report = run_study(settings, cache, folder)
        typer.echo(f"{report}\n{report.with_suffix('.html')}\n{report.with_suffix('.json')}")
    else:
        from training.loop import fit_network

        fit_network(settings, cache, folder)
        typer.echo(f"to get a checkpoint: veriframe release export OUT.safetensors --run {folder}")

"""``veriframe train``: prepare the crop cache, fit a network, write its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.commands.outcome import exit_codes
from worker.errors import ConfigError

app = typer.Typer(help="Train the classifier on your own labelled media.", no_args_is_help=True, add_completion=False)

DataOption = Annotated[Path, typer.Option(help="Folder of the labelled media, with MANIFEST.csv.")]
CacheOption = Annotated[Path, typer.Option(help="Folder of the crop cache; outside git, it holds private faces.")]
RunOption = Annotated[Path, typer.Option("--run", help="Folder of the run: state, logs.")]
DATA, CACHE, RUN = Path("../shared/data"), Path("runs/cache"), Path("runs/first")


@app.command()
@exit_codes()
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
@exit_codes()
def fit(
    config: Annotated[Path, typer.Option(help="YAML of training.settings.Fit.")] = Path("configs/train/first.yaml"),
    cache: CacheOption = CACHE,
    run: RunOption = RUN,
    minutes: Annotated[float | None, typer.Option(help="Training time instead of the configuration's.")] = None,
) -> None:
    """Train until the time limit; started again on the same folder, it continues."""
    from training.settings import read_fit

    settings = read_fit(config)  # a mistake in it shows before torch is loaded
    from training.loop import fit_network

    fit_network(settings if minutes is None else settings.model_copy(update={"minutes": minutes}), cache, run)


@app.command("export-checkpoint")
@exit_codes()
def export_checkpoint(
    out: Annotated[Path, typer.Argument(help="The safetensors file to write (fp16, spec inside).")],
    cache: CacheOption = CACHE,
    run: RunOption = RUN,
    name: Annotated[str, typer.Option(help="The model's name in reports.")] = "veriframe-b0",
    version: Annotated[str, typer.Option(help="Its version.")] = "1",
) -> None:
    """Write a run's averaged weights as a checkpoint. Thresholds and calibrations are fitted on scans, afterwards."""
    from training.release import export_checkpoint as export

    spec = export(run, cache, out, name=name, version=version)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {spec.name} {spec.version}")


@app.command()
@exit_codes()
def evaluate(
    scores: Annotated[Path, typer.Argument(help="CSV of scores a file; written first with --from-run.")],
    from_run: Annotated[bool, typer.Option("--from-run", help="Score the cache's held-out and left-out crops.")] = False,
    cache: CacheOption = CACHE,
    run: RunOption = RUN,
) -> None:
    """Print AUC with intervals over groups, coverage and balanced accuracy, by source."""
    from training.evaluate import markdown, read_scores, table, write_scores

    if from_run:
        from training.data import CropStore
        from training.release import read_run, score_cache

        write_scores(score_cache(read_run(run).network, CropStore(cache), ("heldout", "leftout")), scores)
    typer.echo(markdown(table(read_scores(scores))))


@app.command()
@exit_codes()
def files(
    splits: Annotated[list[str], typer.Argument(help="train, heldout or leftout; one or more.")],
    data: DataOption = DATA,
) -> None:
    """Print the files of these parts of the committed split, a line each: for `veriframe scan -`."""
    from training.splits import read_split

    if odd := set(splits) - {"train", "heldout", "leftout"}:
        raise ConfigError(f"no such part of the split: {', '.join(sorted(odd))}; there are train, heldout and leftout")
    for item in read_split():
        if item.split in splits:
            typer.echo(data.resolve() / item.path)


@app.command()
@exit_codes()
def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="The checkpoint to calibrate; written anew, in place.")],
    reports: Annotated[
        list[Path],
        typer.Argument(
            exists=True, dir_okay=False, help="JSONL of `veriframe scan --model CHECKPOINT` over files not trained on."
        ),
    ],
    data: DataOption = DATA,
    card: Annotated[Path | None, typer.Option(help="Also write the tables of scores by source here (Markdown).")] = None,
    fpr: Annotated[float, typer.Option(min=0, max=1, help="Most real files that may be called fake.")] = 0.05,
    fnr: Annotated[float, typer.Option(min=0, max=1, help="Most fake files that may be called real.")] = 0.10,
    coverage: Annotated[float, typer.Option(min=0, max=1, help="Least share that must be decided.")] = 0.75,
) -> None:
    """Fit calibrations and thresholds on scans of held-out files, store them in the checkpoint, print scores out of fold."""
    from training.calibration import Target
    from training.scans import calibrate_checkpoint, read_reports
    from training.splits import read_split
    from worker.model.checkpoint import sha256

    items = {item.path: item for item in read_split()}
    scanned = read_reports(reports, items, data, sha256(checkpoint))
    lines = calibrate_checkpoint(checkpoint, scanned, Target(fpr=fpr, fnr=fnr, coverage=coverage))
    typer.echo("\n".join(lines))
    if card is not None:
        card.write_text("\n".join(lines) + "\n", "utf-8")

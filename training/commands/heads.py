"""``veriframe heads``: the comparison of heads on cached features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.commands.outcome import exit_codes

app = typer.Typer(help="Compare the heads on one backbone's cached features.", add_completion=False)


@app.command("heads", epilog="Example: veriframe heads --cache runs/cache --run runs/heads --seeds 3")
@exit_codes()
def heads(
    cache: Annotated[Path, typer.Option(help="Folder of the crop cache.")] = Path("runs/cache"),
    checkpoint: Annotated[
        Path | None, typer.Option(help="Whose backbone gives the features; by default the bundled one.")
    ] = None,
    run: Annotated[Path, typer.Option("--run", help="Folder for features, results of each seed, table and plot.")] = Path(
        "runs/heads"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Seeds, each of which trains all three heads.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each head.")] = 1500,
    per_label: Annotated[int, typer.Option(min=10, help="Training crops of each label.")] = 1500,
    pictures: Annotated[
        int, typer.Option(min=1, help="Held-out and left-out pictures of each source and label, at most.")
    ] = 1000,
    frames_per_clip: Annotated[int, typer.Option(min=1, help="Frames of held-out and left-out clips.")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
) -> None:
    """Train the linear, diffusion and CARD heads on the same features and write a table of what each gives.

    Stopped and started again on the same folder it continues: features are kept as they come, seeds as they are done.
    """
    from training.room import refuse_unwritable

    refuse_unwritable(run / "heads.md")
    import torch

    from training.data import CropStore
    from training.features import choose_rows, extract
    from training.heads import Settings, check_rows, compare, measure
    from training.heads_report import markdown, plot
    from training.labelled import as_learnt
    from worker.errors import ConfigError
    from worker.model.checkpoint import sha256
    from worker.model.packaged import default_checkpoint
    from worker.model.restore import load_network

    torch.set_num_threads(threads)
    store = CropStore(cache)
    if not store.rows:
        raise ConfigError(f"{cache} holds no crops; fill it with `veriframe data prepare` or name another folder with --cache")
    run.mkdir(parents=True, exist_ok=True)
    chosen = checkpoint or default_checkpoint()
    spec, network = load_network(chosen)
    known = as_learnt(store.rows, spec.training)
    rows = choose_rows(known, per_label=per_label, pictures=pictures, frames_per_clip=frames_per_clip)
    check_rows(rows)
    features = extract(network, store, rows, run / "features.npz", crop=spec.crop, checkpoint_sha256=sha256(chosen))
    results = compare(features, Settings(steps=steps), range(1, seeds + 1), run)
    table = markdown(results, measure(network.head, features.of_split("heldout"), features.of_split("leftout")))
    (run / "heads.md").write_text(table, "utf-8")
    plot(results, run / "risk-coverage.png")
    typer.echo(table)

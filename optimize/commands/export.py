"""``veriframe export``: a checkpoint and MTCNN's networks for another runtime, as a folder that says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.console import Console
from rich.table import Table

from worker.backends.artefact import Kind, Manifest, Precision
from worker.commands.options import ConfigOption
from worker.commands.outcome import exit_codes
from worker.errors import ConfigError

app = typer.Typer(add_completion=False)

HELP = """Make the networks of a checkpoint ready for another runtime: crops in as uint8, all outputs out.

\b
  veriframe export --to onnx --out exported
  veriframe export model.safetensors --to openvino --precision fp16 --out exported
  veriframe export --to tensorrt --precision fp16 --batch 1,8,32      # on the card that will run it; kept in the cache
  veriframe export --to tensorrt-rtx --target SM89,SM120 --out engines  # without a card
The folder holds the classifier, MTCNN's three networks, real crops to compare on, and manifest.json. What this machine can run is
compared with PyTorch in float32 first, and not written beyond the gates (docs/export.md).
Exit codes: 0 written, 2 something is missing here or the runtime refuses, 4 an internal error.
"""


@app.command(help=HELP)
@exit_codes()
def export(
    to: Annotated[str, typer.Option("--to", help=f"The runtime: {', '.join(get_args(Kind))}.", metavar="KIND")],
    checkpoint: Annotated[
        Path | None, typer.Argument(help="A .safetensors checkpoint; else that of the settings, or the bundled one.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help=f"Of the backbone: {', '.join(get_args(Precision))}. The head, and MTCNN, are fp32 always.")
    ] = "fp32",
    batch: Annotated[
        str, typer.Option(metavar="MIN,OPT,MAX", help="Crops at once: least, usual, greatest (TensorRT).")
    ] = "1,8,16",
    target: Annotated[
        str | None, typer.Option(metavar="SM80,...", help="Architectures for tensorrt-rtx; SM80,SM89,SM120 when left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write here; when left out, kept in the user's cache by key.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make it again, even where a good one is kept.")] = False,
    config: ConfigOption = None,
) -> None:
    from worker.settings import default_file, load_settings

    kind = cast(Kind, _one_of("--to", to, get_args(Kind)))
    precise = cast(Precision, _one_of("--precision", precision, get_args(Precision)))
    sizes = _batch(batch)
    model = load_settings(config or default_file()).model
    from optimize.artefacts.needs import need

    need(kind)
    from optimize.export import Request, run_export

    console = Console(stderr=True)
    with console.status("starting") as status:
        request = Request(
            kind=kind,
            checkpoint=checkpoint or model.checkpoint,
            precision=precise,
            batch=sizes,
            targets=tuple(target.replace(" ", "").upper().split(",")) if target else (),
            out=out,
            cache_dir=model.cache_dir,
            rebuild=rebuild,
            tell=lambda doing: status.update(doing),
        )
        exported = run_export(request)
    _print(exported.manifest)
    typer.echo(f"{exported.folder}{'' if exported.fresh else ': kept from before (--rebuild makes it again)'}")


def _one_of(flag: str, given: str, known: tuple[str, ...]) -> str:
    if given not in known:
        raise ConfigError(f"{flag} {given}: one of {', '.join(known)}")
    return given


def _batch(given: str) -> tuple[int, int, int]:
    try:
        least, usual, greatest = (int(part) for part in given.split(","))
    except ValueError as exc:
        raise ConfigError(f"--batch {given}: three numbers, as in 1,8,16") from exc
    return least, usual, greatest


def _print(manifest: Manifest) -> None:
    table = Table(title=f"{manifest.model} for {manifest.kind}, {manifest.precision}")
    for heading in ("network", "MB", "largest |dp|", "mean |dp|", "samples", "against"):
        table.add_column(heading, justify="left" if heading in ("network", "against") else "right")
    for name, network in manifest.networks.items():
        found, size = manifest.parity[name], _size_bytes(manifest, network.file) / 1e6
        figures = [f"{figure:.1e}" if figure is not None else "not run" for figure in (found.max_dp, found.mean_dp)]
        table.add_row(name, f"{size:.1f}", *figures, str(found.samples), found.reference)
    Console().print(table)
    for reason in sorted({found.reason for found in manifest.parity.values() if found.reason}):
        typer.echo(f"not compared: {reason}")


def _size_bytes(manifest: Manifest, file: str) -> int:
    """Of a network's file and its weights, if those lie beside it."""
    stem = Path(file).stem
    return sum(stored.size_bytes for name, stored in manifest.files.items() if Path(name).stem == stem)

"""``veriframe calibrate``: scan one's own real files, fit an offset of the score, write a settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from worker.commands import outcome
from worker.commands.options import ExcludeOption, IncludeOption, WorkersOption

app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)

HELP = (
    "Fit the scores to your own footage, from files that you know to be real.\n\n"
    "Scans the folder, compares its scores with those of the real files that the model was calibrated on, and writes a settings "
    "file with one offset for video and one for pictures. Says how many of your files would be called fake, what rate of false "
    "alarms that promises, and how many fakes the offset costs. Run again after a stop, it goes on where it was."
)
EPILOG = """[bold]Examples[/]

\b
veriframe calibrate ~/Videos/real
veriframe calibrate ~/Videos/real --out studio.yaml --workers 4
veriframe scan ~/Videos/new --config studio.yaml   with the offset
veriframe doctor --config studio.yaml              says which it is

Give real files only, of many people and places; 8 are the least,
59 without a false alarm promise at most 5 % of them.

[bold]Exit codes[/]

\b
0    the settings file was written
2    usage: a flag or setting, no such model, too few files with a face
4    internal error
130  stopped by Ctrl-C (SIGTERM: 143, SIGHUP: 129); nothing was
     written
"""


@app.command(help=HELP, epilog=EPILOG)
def calibrate(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Real videos and pictures (everything below).")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The settings file to write.")] = Path("veriframe-calibrated.yaml"),
    reports: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where reports are kept to go on after a stop; default: beside --out.")
    ] = None,
    workers: WorkersOption = 1,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .safetensors checkpoint; default: the bundled one.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings of the scans, kept in --out; default: configs/worker.yaml of a checkout."),
    ] = None,
) -> None:
    """Flags to settings; see HELP."""
    with outcome.exit_codes():
        code = run_calibrate(
            folder,
            out,
            reports,
            workers=workers,
            names=(include or [], exclude or []),
            quiet=quiet,
            config=config,
            flags={"model": {"checkpoint": model}} if model else {},
            build=ctx.obj,
        )
    raise typer.Exit(code)


def run_calibrate(
    folder: Path,
    out: Path,
    reports: Path | None,
    *,
    workers: int,
    names: tuple[list[str], list[str]],
    quiet: bool,
    config: Path | None,
    flags: dict[str, dict[str, Any]],
    build: Any = None,
) -> int:
    """Scan, fit, print and write; returns the exit code. ``names``: globs to include and to exclude. ``build`` opens a scanner
    (``worker.jobs.BuildScanner``). Raises ConfigError, ModelError, StorageError."""
    from worker.errors import ConfigError
    from worker.footage import check_writable, expectations, fit, settings_text, sort_reports, told, write_settings
    from worker.model.checkpoint import load_spec, sha256
    from worker.model.packaged import default_checkpoint
    from worker.settings import CalibrationSettings, default_file, load_settings

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: give one with real videos or pictures")
    if not out.name:
        raise ConfigError(f"--out {out}: name a file")
    reports = reports or out.with_suffix(".reports")
    if reports.absolute() == out.absolute():
        raise ConfigError(f"--out {out}: that is where reports are kept; name another file, or another folder by --reports")
    check_writable(out)
    settings = load_settings(config or default_file(), flags).model_copy(update={"calibration": CalibrationSettings()})
    places = {"checkpoint": settings.model.checkpoint, "cache_dir": settings.model.cache_dir}
    whole = {name: place.absolute() for name, place in places.items() if place is not None}  # --out is used elsewhere, too
    settings = settings.model_copy(update={"model": settings.model.model_copy(update=whole)})
    checkpoint = settings.model.checkpoint or default_checkpoint()
    digest = sha256(checkpoint)
    spec = load_spec(checkpoint)
    known = expectations(spec)
    if spec.calibration_is_inherited:
        typer.echo(
            f"{spec.name} {spec.version} was adapted: what it expects of real files was fitted on its parent's scores. "
            "Calibrate it first (veriframe release calibrate), or take the offset for a rough one",
            err=True,
        )
    scanned, stopped = _scan(folder, reports, settings, workers=workers, names=names, quiet=quiet, build=build)
    if stopped:
        typer.echo("stopped; run again to go on", err=True)
        return stopped
    files, without = sort_reports(scanned)
    if without:
        typer.echo(f"without a score: {', '.join(f'{n} {reason}' for reason, n in sorted(without.items()))}")
    fitted = fit(files, known)
    for one in fitted:
        for line in told(one):
            typer.echo(line)
    for kind in [kind for kind in files if files[kind] and kind not in {one.kind for one in fitted}]:
        unknown = f"the checkpoint does not say what it expects of real {kind.value}s"
        few = f"{len(files[kind])} files with a score are too few"
        typer.echo(f"{kind.value}: {few if kind in known else unknown}, no offset")
    write_settings(out, settings_text(settings, fitted, digest, folder.absolute()))
    typer.echo(f"written: {out}; use it with veriframe scan --config {out}")
    return outcome.SCANNED


def _scan(
    folder: Path, reports: Path, settings: Any, *, workers: int, names: tuple[list[str], list[str]], quiet: bool, build: Any
) -> tuple[list[Any], int]:
    """Reports of every file, also those of an earlier run; and the exit code of a signal, or 0."""
    from rich.console import Console

    from worker.batch import Batch
    from worker.commands.scan import logs_on, share_cores
    from worker.errors import ConfigError
    from worker.output.collect import Collected
    from worker.output.folder import ReportFolder
    from worker.progress import Bar
    from worker.source.files import find_items

    include, exclude = names
    items = list(find_items([str(folder)], include=include, exclude=exclude, skip=[reports]))
    if not items:
        links = "links inside a folder are passed over"
        raise ConfigError(f"nothing to scan: no files there ({links}), or --include and --exclude leave none")
    if build is None:
        from worker.compose import build_scanner

        build = build_scanner
    console = Console(stderr=True)
    sink = Collected()
    no_crops = settings.output.model_copy(update={"evidence_per_track": 0})
    every_frame = settings.sampling.model_copy(update={"exhaustive": True})
    batch = Batch(
        build=build,
        settings=share_cores(settings.model_copy(update={"output": no_crops, "sampling": every_frame}), workers),
        workers=workers,
        resume=True,
        folder=ReportFolder(reports),
        sink=sink,
        bar=Bar(console, total=len(items), live=console.is_terminal and not quiet),
    )
    with logs_on(console):
        tally = batch.run(items)
    return sink.reports, tally.stopped

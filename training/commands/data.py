"""``veriframe data``: labelled media to a crop cache, and what should be known of it before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.outcome import exit_codes
from worker.errors import ConfigError

if TYPE_CHECKING:
    from training.layouts import Listing
    from training.splits import Item

app = typer.Typer(
    help="Labelled media for training: list them, cut face crops, check for leaks and shortcuts.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)
OWN, CACHE = Path("../shared/data"), Path("runs/cache")
LEAKS = 1
SHOWN_SKIPS = 10


class LayoutName(StrEnum):
    """The layouts of ``training.layouts``, as a choice that needs no import."""

    OWN = "own"
    MANIFEST = "manifest"
    FFPP = "ffpp"
    CELEBDF = "celebdf"
    DFDC = "dfdc"
    FACES_140K = "140k"
    PLAIN = "plain"


SourcesArgument = Annotated[
    list[Path] | None,
    typer.Argument(help="Folders or manifests (CSV: path, label, source, group, family).", show_default=str(OWN)),
]
LayoutOption = Annotated[LayoutName | None, typer.Option(help="How the folder lies, where it is not recognised rightly.")]
CacheOption = Annotated[Path, typer.Option(help="Folder of the crop cache; it holds faces, keep it out of git.")]
PREPARE_EPILOG = """[bold]Examples[/]

\b
veriframe data prepare my/folder                    with real/ and fake/
veriframe data prepare FaceForensics++ Celeb-DF-v2 --cache runs/both
veriframe data prepare manifest.csv --split my_split.csv
veriframe data prepare my/folder && veriframe train configs/train/own.yaml

[bold]Layouts[/] ffpp, celebdf, dfdc, 140k (as published), plain (real/ and fake/ at any depth; a folder below
them is one clip or person, and what was taken for such is printed), manifest, own.

[bold]Exit codes[/] 0 done, 1 a leak: nothing was cut, 2 usage, 4 internal error. Start it again after a stop: it goes on.
"""


@app.command(epilog=PREPARE_EPILOG)
@exit_codes()
def prepare(
    sources: SourcesArgument = None,
    layout: LayoutOption = None,
    cache: CacheOption = CACHE,
    split: Annotated[Path | None, typer.Option(help="CSV (path, split: train, heldout or leftout) instead of our own.")] = None,
    held_out: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of the groups that are held out.")] = 0.15,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="A source left out, with what shares its groups; may be repeated.")
    ] = None,
    train_frames: Annotated[int, typer.Option(min=1, help="Frames of a training clip.")] = 20,
    test_frames: Annotated[int, typer.Option(min=1, help="Frames of any other clip.")] = 12,
    recompress: Annotated[
        bool | None,
        typer.Option(help="Also cut aligned training clips encoded anew, as sites do; slow. Default: own layout only."),
    ] = None,
    crop_px: Annotated[
        int, typer.Option(min=64, max=2048, help="Side of a cached crop; a network of more than 224 pixels wants 1.4 times its.")
    ] = 288,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the face detector.")] = 2,
) -> None:
    """Decode the files, find faces, cut crops: with landmarks, and beside each fake its original where that is known.

    People and clips are kept on one side of the split. What cannot be used is skipped, counted and listed in about/skipped.csv.
    """
    from training.leaks import by_name
    from training.prepare import prepare as fill
    from training.provenance import Provenance, begin, read_skipped, skip, straddling
    from training.splits import Assignment, assign, is_whole, read_sides, read_split
    from worker.content import full_told

    listing = _listing(sources, layout)
    _tell(listing)
    if listing.layout == "own" and split is None and not leave_out:
        found = Assignment(items=tuple(read_split()))
    elif listing.layout == "own" and split is not None and is_whole(split):
        found = Assignment(items=tuple(read_split(split)))
    else:
        sides = None if split is None else read_sides(split)
        found = assign(listing.entries, held_out=held_out, leave_out=leave_out or (), given=sides)
    items = found.items
    typer.echo("".join(f"{note}\n" for note in (*found.notes, _sides(items))), err=True, nl=False)
    if leaking := by_name(items):
        typer.echo("\n".join(map(str, leaking)), err=True)
        raise typer.Exit(LEAKS)
    again = listing.layout == "own" if recompress is None else recompress
    made_of = Provenance(
        root=listing.root,
        layout=listing.layout,
        items=items,
        train_frames=train_frames,
        test_frames=test_frames,
        recompress=again,
        crop_px=crop_px,
    )
    with full_told(cache):
        begin(cache, made_of)
        skip(cache, straddling(found.straddling))
        fill(
            items,
            listing.root,
            cache,
            train_frames=train_frames,
            test_frames=test_frames,
            threads=threads,
            recompress=again,
            crop_px=crop_px,
        )
    skipped = read_skipped(cache)
    counts = {code: sum(one.code == code for one in skipped) for code in sorted({one.code for one in skipped})}
    told = ", ".join(f"{count} x {code}" for code, count in counts.items())
    typer.echo(f"{len(items)} files, skipped: {told or 'none'}")
    for one in skipped[:SHOWN_SKIPS]:
        typer.echo(f"  {one.code} {one.path} {one.message}".rstrip())


@app.command("list")
@exit_codes()
def list_files(
    sources: SourcesArgument = None,
    layout: LayoutOption = None,
    part: Annotated[str | None, typer.Option(help="Only this part of the data set's own: train, valid or test.")] = None,
) -> None:
    """Print the manifest of what would be prepared: `veriframe data list FOLDER > manifest.csv`. Paths are absolute."""
    import sys
    from dataclasses import replace

    from training.manifest import write_manifest

    listing = _listing(sources, layout)
    _tell(listing)
    root = listing.root.resolve()
    entries = [
        replace(entry, path=str(root / entry.path), original=str(root / entry.original) if entry.original else "")
        for entry in listing.entries
        if part is None or entry.part == part
    ]
    if not entries:
        raise ConfigError(f"no file is of the part {part!r}")
    write_manifest(entries, sys.stdout)


@app.command()
@exit_codes()
def check(
    sources: SourcesArgument = None,
    layout: LayoutOption = None,
    cache: Annotated[Path | None, typer.Option(help="Check this crop cache; the default where no source is named.")] = None,
    data: Annotated[Path | None, typer.Option(help="Where the cache's files lie, if it does not say.")] = None,
) -> None:
    """Refuse leakage (exit code 1) and report shortcuts.

    Leaks: a group, an original, the same bytes or crops that look the same, on two sides of the split. Shortcuts: size, face
    size, JPEG quality, format, frame rate, border and gray share, each judged alone by AUC.
    """
    from rich.console import Console

    from training.check import check_cache, check_items, show
    from training.provenance import read
    from training.splits import assign, read_split

    console = Console()
    if sources:
        listing = _listing(sources, layout)
        _tell(listing)
        items = read_split() if listing.layout == "own" else assign(listing.entries).items
        report = check_items(items, listing.root, console)
    else:
        cache = cache or CACHE
        made_of = read(cache)
        report = check_cache(cache, data or (made_of.root if made_of else OWN), console)
    show(report, console)
    if report.leaks:
        raise typer.Exit(LEAKS)


@app.command()
@exit_codes()
def files(
    splits: Annotated[list[str], typer.Argument(help="train, heldout or leftout; one or more.")],
    data: Annotated[Path | None, typer.Option(help="Folder that the files lie in.")] = None,
    cache: Annotated[Path | None, typer.Option(help="The split of this cache instead of the committed one.")] = None,
    held_out_by: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Of them only what this checkpoint's run held out of train.")
    ] = None,
) -> None:
    """Print the files of these parts of the split, a line each: for `veriframe scan -`."""
    from training.provenance import read
    from training.splits import SPLITS, read_split
    from worker.model.checkpoint import load_spec

    if odd := set(splits) - set(SPLITS):
        raise ConfigError(f"no such part of the split: {', '.join(sorted(odd))}; there are {', '.join(SPLITS)}")
    made_of = read(cache) if cache else None
    if cache and made_of is None:
        raise ConfigError(f"{cache} has no split of its own: it was not made by `veriframe data prepare`")
    root = (data or (made_of.root if made_of else OWN)).resolve()
    held = load_spec(held_out_by).training.held_out if held_out_by else None
    if held is not None and not held:
        raise ConfigError(f"{held_out_by} held nothing out: it was trained without hold_out")
    for item in made_of.items if made_of else read_split():
        if item.split in splits and (held is None or item.group in held):
            typer.echo(root / item.path)


SHEET_EPILOG = """[bold]Examples[/]

\b
veriframe data sheet
veriframe data sheet --config configs/train/own-pairs.yaml      of media of your own
veriframe data sheet --config configs/train/second.yaml --out blends.png --rows 6 --seed 3
"""


@app.command(epilog=SHEET_EPILOG)
@exit_codes()
def sheet(
    cache: CacheOption = CACHE,
    config: Annotated[Path | None, typer.Option(help="The recipe whose mixture is drawn; the default mixture without.")] = None,
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("runs/sheet.png"),
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other pairs.")] = 0,
    rows: Annotated[int, typer.Option(min=1, help="Pairs of each kind.")] = 2,
) -> None:
    """Draw what is trained on: real, fake, where they differ, and both as trained, for each kind of pair; and say how fast.

    The picture shows faces of the cache: keep it out of git.
    """
    from training.data import WORK_PX
    from training.room import refuse_unwritable
    from training.settings import Mixture, read_fit
    from training.sheet import contact_sheet

    refuse_unwritable(out, is_replaced=False)

    fit = read_fit(config) if config else None
    mixture, hold_out, size = (fit.mixture, fit.hold_out, fit.size) if fit else (Mixture(), (), WORK_PX)
    drawn = contact_sheet(cache, mixture, out, seed, rows, hold_out=hold_out, size=size)
    for kind, speed in drawn.crops_per_cpu_s.items():
        typer.echo(f"{kind:16} {speed:6.0f} crops/s a core")
    if drawn.missing:
        typer.echo(f"nothing in {cache} for {', '.join(drawn.missing)}", err=True)
    typer.echo(out)


RECONSTRUCT_EPILOG = """[bold]Example[/]

\b
veriframe data reconstruct 140k=350 ciplab=150 --init ../shared/init/taesd

Start it again after a stop, or with larger numbers: it goes on.
"""


@app.command(epilog=RECONSTRUCT_EPILOG)
@exit_codes()
def reconstruct(
    counts: Annotated[list[str], typer.Argument(metavar="SOURCE=COUNT...", help="Pictures of a source, in all.")],
    init: Annotated[Path, typer.Option(help="Folder of taesd, taesdxl and taesd3: NET_encoder and NET_decoder.safetensors.")],
    cache: CacheOption = CACHE,
    data: Annotated[Path | None, typer.Option(help="Where the cache's files lie, if it does not say.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Add whole real training pictures that went through small autoencoders, at their own JPEG quality, as fakes.

    Pictures that are no JPEG or cannot be cut as before are left out and counted.

    About 0.6 s of one core for each picture of 256 pixels.
    """
    from training.provenance import read

    wanted: dict[str, int] = {}
    for one in counts:
        source, _, count = one.partition("=")
        if not (source and count.isdecimal()):
            raise ConfigError(f"{one!r}: say how many pictures of a source, as in 140k=350")
        wanted[source] = int(count)
    from training.reconstruct import add_reconstructions  # a mistake in the counts shows before torch is loaded

    made_of = read(cache)
    added = add_reconstructions(cache, data or (made_of.root if made_of else OWN), init, wanted, threads=threads)
    typer.echo(f"{cache}: added {added}")


def _listing(sources: list[Path] | None, layout: LayoutName | None) -> Listing:
    from training.layouts import list_sources

    return list_sources(sources or [OWN], layout.value if layout else None)


def _sides(items: Sequence[Item]) -> str:
    """Files on each side of the split: one large group may be most of what there is."""
    from training.splits import SPLITS

    counts = Counter((item.split, item.label) for item in items)
    files = {side: (counts[side, "real"], counts[side, "fake"]) for side in SPLITS}
    return "; ".join(f"{side}: {real} real, {fake} fake" for side, (real, fake) in files.items() if real + fake)


def _tell(listing: Listing) -> None:
    """What was recognised, with counts, on standard error."""
    typer.echo(f"{listing.root}: layout {listing.layout}, {len(listing.entries)} files", err=True)
    for (source, label, manipulation), count in listing.counts.items():
        typer.echo(f"  {source:16} {label} {manipulation:16} {count}", err=True)
    for note in listing.notes:
        typer.echo(note, err=True)

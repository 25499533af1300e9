"""``veriframe feedback``: what people decided, listed, and exported with its media as training takes it."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands import outcome
from worker.commands.options import ConfigOption
from worker.commands.service import QuietOption, interruptible, load, opened_desk, progress_bar

if TYPE_CHECKING:
    from rich.console import Console

EPILOG = """[bold]Examples[/]

\b
veriframe jobs decide ID real --by ada                a label; the review console and the HTTP API take them, too
veriframe feedback list                               the latest label of each content, as CSV
veriframe feedback export --out wrong                 those whose media are still there, with the media
veriframe feedback export --out wrong --owner acme    one owner's; started again, it goes on
veriframe adapt wrong/MANIFEST.csv --model model.safetensors --out adapted.safetensors
veriframe data prepare wrong                          or as a data set of its own

Media are there where they were scanned from a folder that this machine has, or are retained (artifacts.media_keep_s).
Labels of scans of a part of a video (--start, --end) are left out, and counted on standard error.

[bold]Exit codes[/]

\b
0    done; what had no media is counted on standard error, and listed in without-media.csv
2    usage: a flag, a setting, a folder that holds another data set
4    Redis or the store is away, internal error
130  stopped by Ctrl-C; started again, it goes on
"""
OwnerOption = Annotated[str | None, typer.Option(metavar="NAME", help="Only this owner's labels; default: everybody's.")]

app = typer.Typer(
    help="List what people decided about scans, and export it for training.",
    epilog=EPILOG,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)


@app.command(name="list")
def list_feedback(owner: OwnerOption = None, config: ConfigOption = None) -> None:
    """Print the latest label of each whole content as CSV, in the order in which contents were first decided on."""
    with outcome.exit_codes(), opened_desk(config) as desk:
        from rich.console import Console

        from worker.queue.feedback import COLUMNS, latest_decisions, manifest_row

        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        writer.writeheader()
        decisions, of_parts = latest_decisions(desk, owner)
        writer.writerows(manifest_row(decision) for decision in decisions)
        sys.stdout.flush()
        _tell_parts(Console(stderr=True), of_parts)


@app.command()
def export(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to; made, or brought up to date.")],
    owner: OwnerOption = None,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Write a folder that training takes as it is: MANIFEST.csv, and beside it the media of the latest label of each content."""
    with outcome.exit_codes(), interruptible("started again, the export goes on"):
        from rich.console import Console

        from worker.artifacts import open_store
        from worker.queue.feedback import latest_decisions
        from worker.queue.feedback_export import MANIFEST, WITHOUT_MEDIA, export_feedback

        with opened_desk(config) as desk:
            decisions, of_parts = latest_decisions(desk, owner)
        console = Console(stderr=True)
        with progress_bar(console, len(decisions), "copying", quiet=quiet) as bar:
            found = export_feedback(decisions, open_store(load(config).artifacts.url), out, bar.advance)
        if not quiet:
            console.print(
                f"{found.labels.total()} labels with their media: {_counts(found.labels)}", highlight=False, markup=False
            )
            if found.without:
                left = f"{found.without.total()} without media: {_counts(found.without)} ({out / WITHOUT_MEDIA})"
                console.print(left, highlight=False, markup=False)
            _tell_parts(console, of_parts)
        if found.labels:
            typer.echo(out / MANIFEST)


def _tell_parts(console: Console, count: int) -> None:
    if count:
        said = f"{count} left out: labels of scans of a part (--start, --end) say nothing of the whole file"
        console.print(said, highlight=False, markup=False, soft_wrap=True)


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"

"""Judges a training set before anything is learnt from it: leaks that forbid it, shortcuts that one should know of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from training import leaks, shortcuts
from training.data import CropStore
from training.leaks import Leak
from training.prepare import RECONSTRUCTED
from training.shortcuts import FLAGGED, Shortcut, Value
from training.splits import Item
from worker.errors import ConfigError

SHOWN = 20
"""Leaks named one by one; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """``unread``: files whose bytes and head were not looked at."""

    files: int
    leaks: tuple[Leak, ...]
    shortcuts: tuple[Shortcut, ...]
    unread: tuple[str, ...]
    looked_at_crops: int = 0


def check_items(items: Sequence[Item], root: Path, console: Console) -> Report:
    """By names, bytes and heads of files; crops are not looked at."""
    with Progress(console=console) as progress:
        same, unread = leaks.by_content(progress.track(items, description="hashing files"), root)
        there = [item for item in items if item.path not in set(unread)]
        measured, no_head = shortcuts.of_files(progress.track(there, description="reading heads"), root)
    return Report(
        files=len(items),
        leaks=(*leaks.by_name(items), *same),
        shortcuts=tuple(shortcuts.shortcuts([(row, found) for row, found in measured if row.split == "train"])),
        unread=(*unread, *no_head),
    )


def check_cache(cache: Path, root: Path, console: Console) -> Report:
    """As ``check_items``, and by the crops' looks; shortcuts are those of training's files. Raises ConfigError if empty.

    Reconstructions have no file of their own, and their parent's name and looks.
    """
    store = CropStore(cache)
    if not store.rows:
        raise ConfigError(f"{cache} holds no crops: `veriframe data prepare` fills it")
    rows = [row for row in store.rows if row.source != RECONSTRUCTED]
    first = {row.path: row for row in reversed(rows)}
    with Progress(console=console) as progress:
        same, unread = leaks.by_content(progress.track(list(first.values()), description="hashing files"), root)
        crops = (store.crop(row) for row in progress.track(rows, description="comparing crops"))
        alike = leaks.by_looks(rows, np.stack([leaks.thumbnail(crop) for crop in crops]))
        learnt = [row for row in first.values() if row.split == "train"]
        heads, _ = shortcuts.of_files(progress.track(learnt, description="reading heads"), root)
        of_head = {row.path: found for row, found in heads}
        shown = (
            (row, shortcuts.of_crop(store.picture(row), row.side_px))
            for row in progress.track(learnt, description="looking at crops")
        )
        features = [(row, of_head.get(row.path, {}) | found) for row, found in shown]
    return Report(
        files=len(first),
        leaks=(*leaks.by_name(rows), *same, *alike),
        shortcuts=tuple(shortcuts.shortcuts(features)),
        unread=tuple(unread),
        looked_at_crops=len(rows),
    )


def show(report: Report, console: Console) -> None:
    """The verdict on leaks, those found, and a table of shortcuts."""
    if report.unread:
        told = f"{len(report.unread)} of {report.files} files could not be read, the first of them {report.unread[0]}"
        console.print(told, markup=False, emoji=False)
    crops = f", {report.looked_at_crops} crops" if report.looked_at_crops else ""
    counts = ", ".join(f"{count} x {kind}" for kind, count in leaks.summary(report.leaks).items())
    console.print(f"leaks: {counts or 'none'} ({report.files} files{crops})")
    for leak in report.leaks[:SHOWN]:
        console.print(f"  {leak}", highlight=False, soft_wrap=True, markup=False, emoji=False)
    if len(report.leaks) > SHOWN:
        console.print(f"  and {len(report.leaks) - SHOWN} more")
    table = Table("source", "feature", "real", "fake", "AUC of it alone", title="shortcuts in training (medians by label)")
    for found in report.shortcuts:
        flag = "[bold red] shortcut[/]" if found.is_flagged else ""
        table.add_row(Text(found.source), found.feature, _text(found.real), _text(found.fake), f"{_text(found.auc)}{flag}")
    if report.shortcuts:
        console.print(table)
        flagged = sum(found.is_flagged for found in report.shortcuts)
        console.print(f"{flagged} of {len(report.shortcuts)} above {FLAGGED}: see training.augment for what hides them")


def _text(value: Value) -> str:
    return (
        value if isinstance(value, str) else "-" if np.isnan(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    )

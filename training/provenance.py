"""What a crop cache was made of, in its folder ``about``: the split of all files, where they lie, which were skipped and why."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from training.manifest import Entry
from training.splits import COMMITTED, Item, read_split, write_split
from worker.content import write_atomically
from worker.errors import ConfigError

FOLDER = "about"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A file without crops; ``code`` is that of the error, or ``no_face``, ``straddles_split``, ``not_aligned``."""

    path: str
    code: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """``root`` is what the items' paths are relative to."""

    root: Path
    layout: str
    items: tuple[Item, ...]


def split_file(cache: Path) -> Path:
    return cache / FOLDER / "split.csv"


def begin(cache: Path, made_of: Provenance) -> None:
    """Note it down. Raises ConfigError where the cache was begun with another list or split: its shards would be mixed up."""
    path = split_file(cache)
    if path.exists():
        if tuple(read_split(path)) != made_of.items:
            raise ConfigError(
                f"{cache} was made of other files or another split: name a fresh folder by --cache, or delete this one"
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"root": str(made_of.root.resolve()), "layout": made_of.layout, "files": len(made_of.items)}
    write_atomically(path.with_name("source.json"), json.dumps(about, indent=1).encode())
    unfinished = path.with_suffix(".part")
    write_split(made_of.items, unfinished)
    unfinished.replace(path)


def read(cache: Path) -> Provenance | None:
    """None for a cache that says nothing of itself."""
    path = split_file(cache)
    if not path.exists():
        return None
    about = json.loads(path.with_name("source.json").read_text())
    return Provenance(root=Path(about["root"]), layout=about["layout"], items=tuple(read_split(path)))


def skip(cache: Path, skipped: Sequence[Skipped]) -> None:
    """Add to the list; nothing where there is nothing to add."""
    path = cache / FOLDER / "skipped.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Skipped)], lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerows(asdict(one) for one in skipped)


def split_of(cache: Path) -> Path:
    """The split that a cache was made by: its own, or the committed one."""
    made_of = read(cache)
    return COMMITTED if made_of is None or made_of.layout == "own" else split_file(cache)


def straddling(entries: Sequence[Entry]) -> list[Skipped]:
    """Of entries whose people stand on both sides."""
    return [Skipped(path=entry.path, code="straddles_split", message=entry.group) for entry in entries]


def read_skipped(cache: Path) -> list[Skipped]:
    """Each file once, as last seen."""
    path = cache / FOLDER / "skipped.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list({row["path"]: Skipped(**row) for row in csv.DictReader(file)}.values())

"""What a crop cache was made of, in its folder ``about``: the split of all files, where they lie, how and when they were cut,
which were skipped and why."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from training.errors import damaged_shard
from training.manifest import Entry
from training.splits import COMMITTED, Item, read_split, write_split
from worker.content import write_atomically
from worker.errors import ConfigError, SourceError

FOLDER, CUT, SKIPPED = "about", "cut.csv", "skipped.csv"
SHOWN = 5
"""Changed files that a message names."""
CROP_PX = 288
"""Side of a cached crop, unless another is asked for: that of all caches that do not say."""
OPTIONS = ("train_frames", "test_frames", "recompress", "crop_px")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A file without crops; ``code`` is that of the error, or ``no_face``, ``straddles_split``, ``not_aligned``."""

    path: str
    code: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """``root`` is what the items' paths are relative to; the rest is how they are cut, None where nobody noted it down."""

    root: Path
    layout: str
    items: tuple[Item, ...]
    train_frames: int | None = None
    test_frames: int | None = None
    recompress: bool | None = None
    crop_px: int = CROP_PX


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A file as it was when its crops were cut."""

    path: str
    size_bytes: int
    mtime_ns: int


def split_file(cache: Path) -> Path:
    return cache / FOLDER / "split.csv"


def begin(cache: Path, made_of: Provenance) -> None:
    """Note it down. Raises ConfigError where the cache was begun with other files, options or split: shards would be mixed up.

    So too where files have changed since they were cut, and where a shard is damaged. What an older cache has not noted down is
    not compared, but for the size of its crops: all had ``CROP_PX``.
    """
    path, advice = split_file(cache), "name a fresh folder by --cache, or delete this one"
    before = read(cache)
    if before is not None:
        if before.items != made_of.items:
            raise ConfigError(f"{cache} was made of other files or another split: {advice}")
        if other := _differences(before, made_of):
            raise ConfigError(f"{cache} was made with {'; '.join(other)}: {advice}")
        if changed := changed_files(cache, made_of.root):
            told = ", ".join(changed[:SHOWN]) + (" ..." if len(changed) > SHOWN else "")
            why = f"{len(changed)} files have changed since they were cut for {cache}, by size or time ({told})"
            raise ConfigError(f"{why}: {advice}")
        if others := _shards_of_another_size(cache, made_of.crop_px):
            told = ", ".join(others[:SHOWN]) + (" ..." if len(others) > SHOWN else "")
            why = f"{cache} holds crops that are not of {made_of.crop_px} px ({told}): an older version went on with it"
            raise ConfigError(f"{why}; delete these files, each .npy with its .csv, and run again")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"root": str(made_of.root.resolve()), "layout": made_of.layout, "files": len(made_of.items)}
    about |= {name: getattr(made_of, name) for name in OPTIONS if getattr(made_of, name) is not None}
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
    return Provenance(
        root=Path(about["root"]),
        layout=about["layout"],
        items=tuple(read_split(path)),
        train_frames=about.get("train_frames"),
        test_frames=about.get("test_frames"),
        recompress=about.get("recompress"),
        crop_px=about.get("crop_px", CROP_PX),
    )


def crop_px_of(cache: Path) -> int:
    """Side of a cache's crops."""
    made_of = read(cache)
    return made_of.crop_px if made_of else CROP_PX


def _differences(before: Provenance, now: Provenance) -> list[str]:
    """In words; what one of the two does not say differs from nothing."""
    found = [] if before.root == now.root.resolve() else [f"files of {before.root}, not {now.root.resolve()}"]
    for name in OPTIONS:
        theirs, ours = getattr(before, name), getattr(now, name)
        if theirs is not None and ours is not None and theirs != ours:
            found.append(f"{name.replace('_', '-')} {theirs}, not {ours}")
    return found


def _shards_of_another_size(cache: Path, crop_px: int) -> list[str]:
    found = []
    for path in sorted(cache.glob("*.npy")):
        try:
            count, side, *_ = np.load(path, mmap_mode="r").shape
        except (ValueError, EOFError) as exc:
            raise damaged_shard(path, exc) from exc
        if count and side != crop_px:
            found.append(path.name)
    return found


def look_at(root: Path, paths: Iterable[str]) -> list[Cut]:
    """The files that are there, as they are now."""
    found = []
    for path in paths:
        try:
            told = (root / path).stat()
        except OSError:
            continue
        found.append(Cut(path=path, size_bytes=told.st_size, mtime_ns=told.st_mtime_ns))
    return found


def note_cut(cache: Path, files: Sequence[Cut]) -> None:
    """Note down what crops are made of, as it was before it was read."""
    _append(cache / FOLDER / CUT, Cut, files)


def changed_files(cache: Path, root: Path) -> list[str]:
    """Files that are not what they were when they were cut; those that are gone, or that nobody noted down, are not named."""
    known = {(row["path"], int(row["size_bytes"]), int(row["mtime_ns"])) for row in _rows(cache / FOLDER / CUT)}
    there = {one.path: one for one in look_at(root, {path for path, *_ in known})}
    return sorted({path for path, *was in known if path in there and was != [there[path].size_bytes, there[path].mtime_ns]})


def begin_again(cache: Path, root: Path, shards: Mapping[str, Collection[str]]) -> None:
    """Shards (paths by name) are begun anew of which a file was not there when they were cut, and has come since."""
    skipped, noted = read_skipped(cache), {row["path"] for row in _rows(cache / FOLDER / CUT)}
    lost = {one.path for one in skipped if one.code == SourceError.code} - noted
    came = {one.path for one in look_at(root, lost)}
    if not came:
        return
    for name, paths in shards.items():
        if not came.isdisjoint(paths):
            (cache / f"{name}.csv").unlink(missing_ok=True)
    left = _lines(Skipped, [one for one in skipped if one.path not in came], with_header=True)
    write_atomically(cache / FOLDER / SKIPPED, left.encode())  # last: a kill before it leaves no shard forgotten


def skip(cache: Path, skipped: Sequence[Skipped]) -> None:
    """Add to the list; nothing where there is nothing to add."""
    _append(cache / FOLDER / SKIPPED, Skipped, skipped)


def _append(path: Path, kind: type[Skipped] | type[Cut], lines: Sequence[Skipped] | Sequence[Cut]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        file.seek(0)
        whole = whole_lines(file.read())
        file.truncate(len(whole))
        file.write(_lines(kind, lines, with_header=not whole).encode())


def _lines(kind: type[Skipped] | type[Cut], lines: Sequence[Skipped] | Sequence[Cut], *, with_header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    if with_header:
        writer.writeheader()
    writer.writerows(asdict(one) for one in lines)
    return text.getvalue()


def _rows(path: Path) -> list[dict[str, str]]:
    """The whole lines of a list; none where there is none."""
    if not path.exists():
        return []
    return list(csv.DictReader(io.StringIO(whole_lines(path.read_bytes()).decode(), newline="")))


def whole_lines(data: bytes) -> bytes:
    """A list without the line that a kill cut short. An odd number of quotes before a line's end: it is within a file's name."""
    end = data.rfind(b"\n") + 1
    while data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return data[:end]


def split_of(cache: Path) -> Path:
    """The split that a cache was made by: a committed one, if it is that, or its own."""
    made_of = read(cache)
    if made_of is None:
        return COMMITTED
    committed = (path for path in sorted(COMMITTED.parent.glob("*.csv")) if tuple(read_split(path)) == made_of.items)
    return next(committed, split_file(cache)) if made_of.layout == "own" else split_file(cache)


def straddling(entries: Sequence[Entry]) -> list[Skipped]:
    """Of entries whose people stand on both sides."""
    return [Skipped(path=entry.path, code="straddles_split", message=entry.group) for entry in entries]


def read_skipped(cache: Path) -> list[Skipped]:
    """Each file once, as last seen."""
    return list({row["path"]: Skipped(**row) for row in _rows(cache / FOLDER / SKIPPED)}.values())

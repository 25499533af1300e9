"""A manifest: the labelled files of a training set, one a line of a CSV.

Columns: ``path`` (absolute, or relative to the CSV), ``label`` (real or fake), ``source`` (the data set's name), ``group`` and
``family`` (of a fake: blend, manipulation or synthetic); these two may be empty or missing. Used where they are there:
``manipulation`` (what made the fake), ``original`` (path of the real file that a fake was made of, frame by frame: an aligned
pair) and ``part`` (the data set's own: train, valid or test). All other columns are passed over.

A *group* names what must stay on one side of a split: a person, a clip, a scene. Several are joined by ``+``: a face swap
between two people belongs to both. A fake belongs to its original's groups too, of whatever source that is. Without a group, a
file stands alone by its path, without label folder and suffix: ``real/a.mp4`` and ``fake/a.mp4`` stay together. A ``+`` in the
path is ``%2B`` in that name.
"""

from __future__ import annotations

import csv
import os
import posixpath
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import TextIO

from worker.errors import ConfigError
from worker.model.spec import FAMILIES

LABELS = ("real", "fake")
REQUIRED = ("path", "label", "source")
PARTS = ("", "train", "valid", "test")
VIDEO_SUFFIXES = frozenset((
    ".mp4", ".mov", ".m4v", ".3gp", ".3g2", ".avi", ".mkv", ".webm", ".wmv", ".asf",
    ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".ogv", ".ivf", ".mxf",
))  # fmt: skip
PICTURE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One labelled file. Raises ConfigError for a label, family or part that is none."""

    path: str
    label: str
    source: str
    group: str = ""
    family: str = ""
    manipulation: str = ""
    original: str = ""
    part: str = ""

    def __post_init__(self) -> None:
        if self.label not in LABELS:
            raise ConfigError(f"{self.path}: label {self.label!r}; it must be real or fake")
        if not self.path or not self.source:
            raise ConfigError(f"{self.path or 'a line'}: path and source must not be empty")
        allowed = ("", "real") if self.label == "real" else ("", *FAMILIES[1:])
        if self.family not in allowed:
            raise ConfigError(f"{self.path}: family {self.family!r} of a {self.label} file; one of {', '.join(allowed[1:])}")
        if self.part not in PARTS:
            raise ConfigError(f"{self.path}: part {self.part!r}; one of {', '.join(PARTS[1:])}")

    @property
    def groups(self) -> tuple[str, ...]:
        """The names that must stay on one side."""
        return tuple(name for name in self.group.split("+") if name) or (own_group(self.source, self.path),)


def own_group(source: str, path: str) -> str:
    """The group of a file that names none: ``source/`` and its path without ``real`` or ``fake`` folder and suffix."""
    pure = PurePosixPath(path)
    kept = [part for part in pure.parent.parts if part.lower() not in LABELS and part not in ("/", source)]
    return one_name("/".join([source, *kept, pure.stem]))


def one_name(text: str) -> str:
    """A group's name made of a file's or folder's: a ``+`` in these joins nothing."""
    return text.replace("+", "%2B")


def joined_to_originals(entries: Sequence[Entry]) -> list[Entry]:
    """Every fake also in the groups of the original that it was made of: the two stay on one side.

    Fakes of one original that is not listed stay together too, by a group of its name where they have none in common.
    """
    groups = {entry.path: entry.groups for entry in entries}
    fakes_of: dict[str, list[set[str]]] = defaultdict(list)
    for entry in entries:
        if entry.original and entry.original not in groups:
            fakes_of[entry.original].append(set(entry.groups))
    for original, theirs in fakes_of.items():
        groups[original] = () if set.intersection(*theirs) else (one_name(f"original {original}"),)
    return [
        replace(entry, group="+".join(dict.fromkeys((*entry.groups, *groups.get(entry.original, ())))))
        if entry.original
        else entry
        for entry in entries
    ]


def is_video(path: str) -> bool:
    """By its suffix; what a file really is shows when it is decoded."""
    return PurePosixPath(path).suffix.lower() in VIDEO_SUFFIXES


def read_manifest(path: Path, data: Path | None = None) -> list[Entry]:
    """All entries, their paths plain; relative ones are below ``data``, by default the manifest's folder.

    Raises ConfigError, naming the line, for an entry that cannot be used, and for a file that is listed twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(f"{path}: no column {', '.join(missing)}; a manifest has path, label, source, group, family")
            entries = [_entry(row, f"{path}, line {reader.line_num}") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise ConfigError(f"{path}: cannot be read as a manifest: {exc}") from exc
    root = data or path.parent
    names: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        names[_place(root, entry.path)].append(entry.path)
    if twice := [" = ".join(dict.fromkeys(its)) for its in names.values() if len(its) > 1]:
        raise ConfigError(f"{path}: listed more than once: {', '.join(twice[:3])}")
    if not entries:
        raise ConfigError(f"{path}: lists no file")
    known = {place: its[0] for place, its in names.items()}
    return [
        replace(entry, original=known.get(_place(root, entry.original), entry.original)) if entry.original else entry
        for entry in entries
    ]


def write_manifest(entries: Sequence[Entry], file: TextIO) -> None:
    writer = csv.DictWriter(file, [field.name for field in fields(Entry)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(entry) | {"group": "+".join(entry.groups)} for entry in entries)


def plain_path(text: str) -> str:
    """A path as entries have it: ``./`` and ``x/../`` taken away, by which one file would have two names."""
    return posixpath.normpath(text.strip())


def _entry(row: Mapping[str, str | None], where: str) -> Entry:
    text = {field.name: (row.get(field.name) or "").strip() for field in fields(Entry)}
    text |= {name: plain_path(text[name]) for name in ("path", "original") if text[name]}
    try:
        return Entry(**text | {"label": text["label"].lower()})
    except ConfigError as exc:
        raise ConfigError(f"{where}: {exc}") from exc


def _place(root: Path, path: str) -> str:
    """Where a file lies, be its path absolute or not."""
    return os.path.abspath(root / path)

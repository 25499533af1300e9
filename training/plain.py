"""Folders ``real`` and ``fake`` of anybody's own: which of the folders below them are one group, a clip's frames or a person.

A folder's name says nothing of what it is. ``fake/alice`` and ``fake/stylegan`` look alike, and so do ``real/clip3`` and
``real/batch1``. So a folder that holds files is a group, as people and clips may not stand on both sides, unless that would
leave a side without a label. ``folder_notes`` tell what was taken for what.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from training.manifest import LABELS, Entry, is_video, one_name
from training.splits import MIN_STRATUM, assign

CLIP_FOLDERS = 10
"""So many folders of pictures below ``fake`` are clips or persons, even where their files are named like real ones."""
NEARLY_ALL = 0.9
"""A folder with more than this share of its label's files is no group: with it nearly all of the label would change sides."""
PARTS = {"train": "train", "val": "valid", "valid": "valid", "validation": "valid", "test": "test"}
"""Folders above ``real`` and ``fake`` that divide a source rather than being one, or below, where ``train`` is not alone."""


@dataclass(frozen=True, slots=True)
class _File:
    path: PurePosixPath
    place: int
    """Of the label's folder among the path's parts."""
    parts_below: bool = False
    """Whether folders below the label's may be the data set's own parts."""

    @property
    def label(self) -> str:
        return self.path.parts[self.place].lower()

    @property
    def part(self) -> str:
        """The data set's own: train, valid, test, or empty."""
        names = (*self.path.parts[: self.place], *self.below_label)
        return next((PARTS[name.lower()] for name in names if name.lower() in PARTS), "")

    @property
    def below_label(self) -> tuple[str, ...]:
        """The folder of a part between the label's and what else is below it."""
        between = self.path.parts[self.place + 1 : -1][:1]
        return between if self.parts_below and between and between[0].lower() in PARTS else ()

    @property
    def source(self) -> str:
        """Of the folders above the label's; empty where there are none."""
        return _slug("-".join(name for name in self.path.parts[: self.place] if name.lower() not in PARTS))

    @property
    def below(self) -> tuple[str, ...]:
        return self.path.parts[self.place + 1 + len(self.below_label) :]

    @property
    def folder(self) -> str:
        """The name of the folder below the label's that holds the file; empty for a file that lies in the label's own."""
        return self.path.parent.name if len(self.below) > 1 else ""


def label_place(path: PurePosixPath) -> int | None:
    """Where among the folders of a path the innermost ``real`` or ``fake`` stands."""
    return max((n for n, part in enumerate(path.parts[:-1]) if part.lower() in LABELS), default=None)


def plain_entries(paths: Iterable[PurePosixPath], name: str) -> list[Entry]:
    """``[SOURCE/][train|val|test/]real|fake/[FOLDER/]file``, the part above the label or below: those of the paths that have a
    label; ``name``: the source of what lies in none.

    Files of one name and part are one group. So are those of a folder, under ``real`` and ``fake`` alike, but for what
    ``_group_names`` excludes. A fake of a real file's name is taken for made of it; cutting the crops will show whether it is.
    """
    by_source: dict[str, list[_File]] = defaultdict(list)
    for path in paths:
        if (place := label_place(path)) is not None:
            file = _File(path, place)
            by_source[file.source or _slug(name) or "plain"].append(file)
    return [entry for source, files in by_source.items() for entry in _of_source(source, _with_parts_below(files))]


def _with_parts_below(files: Sequence[_File]) -> Sequence[_File]:
    """``real/train`` and ``real/test`` are parts as ``train/real`` and ``test/real`` are, where ``fake`` has them too. One of
    them alone may be anything."""
    found: dict[str, set[str]] = {file.label: set() for file in files}
    for file in files:
        if len(file.below) > 1 and file.below[0].lower() in PARTS:
            found[file.label].add(PARTS[file.below[0].lower()])
    are_parts = all("train" in names and len(names) > 1 for names in found.values())
    return [replace(file, parts_below=True) for file in files] if are_parts else files


def folder_notes(entries: Sequence[Entry]) -> list[str]:
    """Which folders below ``real`` and ``fake`` were taken for groups, and which were not."""
    groups: dict[PurePosixPath, set[str]] = defaultdict(set)
    for entry in entries:
        path = PurePosixPath(entry.path)
        is_part = bool(entry.part) and path.parent.name.lower() in PARTS
        if label_place(path.parent) is not None and not is_part:
            groups[path.parent].add(entry.group)
    whole = [
        str(folder) for folder, names in groups.items() if {name.rpartition("/")[2] for name in names} == {one_name(folder.name)}
    ]
    apart = [str(folder) for folder in groups if str(folder) not in whole]
    notes = [f"taken for clips or persons, each on one side: {_counted(whole)}"] if whole else []
    if apart:
        notes.append(
            f"not taken for clips or persons, their files may be on both sides: {_counted(apart)} (if they are: a manifest's "
            "column group says so)"
        )
    return notes


def _counted(folders: Sequence[str]) -> str:
    shown = ", ".join(folders[:3])
    return f"{shown} and {len(folders) - 3} folders more" if len(folders) > 3 else shown


def _of_source(source: str, files: Sequence[_File]) -> list[Entry]:
    """Entries with folders as groups, unless the files divide better, every label on both sides, without these groups."""
    names = _group_names(files)
    with_folders = list(_entries(source, files, names))
    if not names or _divides(with_folders):
        return with_folders
    without = list(_entries(source, files, ()))
    return without if _divides(without) else with_folders


def _divides(entries: Sequence[Entry]) -> bool:
    """Whether the usual split gives both sides every label that there is."""
    sides = {(item.split, item.label) for item in assign(entries).items}
    return len(sides) == 2 * len({entry.label for entry in entries})


def _group_names(files: Sequence[_File]) -> set[str]:
    """Names of folders of one source that are groups.

    None are: kinds of fakes (``_kinds``); a folder that holds nearly all of its label; and, of a label of few groups, folders
    whose names the other label lacks: up to four are data sets or kinds rather than people, and as groups too few to train on.
    """
    names = {file.folder for file in files if file.folder} - _kinds(files)
    of_label = {label: [file for file in files if file.label == label] for label in LABELS}
    for own in of_label.values():
        names -= {name for name, count in Counter(file.folder for file in own).items() if count > NEARLY_ALL * len(own)}
    folders = {label: {file.folder for file in own} for label, own in of_label.items()}
    shared = names & folders["real"] & folders["fake"]
    for own in of_label.values():
        units = {file.folder if file.folder in names else file.path.stem for file in own}
        if len(units) <= MIN_STRATUM and not units & shared:
            names -= units
    return names


def _kinds(files: Sequence[_File]) -> set[str]:
    """Folders of fakes most of which are named like one real file that is elsewhere: ``fake/faceswap/7.mp4``, ``real/7.mp4``."""
    reals: dict[str, set[str]] = defaultdict(set)
    fakes: dict[str, list[_File]] = defaultdict(list)
    for file in files:
        if file.label == "real":
            reals[file.path.stem].add(file.folder)
        elif file.folder:
            fakes[file.folder].append(file)
    of_pictures = {name for name, own in fakes.items() if not any(is_video(file.path.name) for file in own)}
    clips = of_pictures if len(of_pictures) >= CLIP_FOLDERS else set()

    def is_like_one(file: _File) -> bool:
        there = reals.get(file.path.stem, set())
        return len(there) == 1 and file.folder not in there

    return {name for name, own in fakes.items() if name not in clips and sum(map(is_like_one, own)) > len(own) / 2}


def _entries(source: str, files: Sequence[_File], group_names: Collection[str]) -> Iterator[Entry]:
    """A file outside these folders belongs to the one of them that holds a file of its name, or else to its name."""
    holders: dict[str, set[str]] = defaultdict(set)
    for file in files:
        if file.folder in group_names:
            holders[_named(file)].add(file.folder)
    paths = {str(file.path) for file in files}
    for file in files:
        holding = {file.folder} if file.folder in group_names else holders[_named(file)]
        entry = Entry(
            path=str(file.path),
            label=file.label,
            source=source,
            group=one_name(f"{source}/{next(iter(holding)) if len(holding) == 1 else _named(file)}"),
            part=file.part,
        )
        if file.label == "fake":
            kind = _slug(file.below[0]) if file.folder and file.folder not in group_names else "fake"
            entry = replace(entry, manipulation=kind, original=next((name for name in _twins(file) if name in paths), ""))
        yield entry


def _named(file: _File) -> str:
    """What files of one name share. Data sets often count anew in each part: ``train/real/1.jpg`` and ``test/real/1.jpg``."""
    return f"{file.part}/{file.path.stem}" if file.part else file.path.stem


def _twins(file: _File) -> list[str]:
    """Where the real file lies that a fake was made of, if it is named alike."""
    path, place = file.path, file.place
    real = PurePosixPath(*path.parts[:place], _like(path.parts[place], "real"))
    return [str(real.joinpath(*file.below_label, *rest)) for rest in (file.below, file.below[1:])]


def _like(written: str, word: str) -> str:
    """``word`` in the case of ``written``: FAKE -> REAL."""
    return word.upper() if written.isupper() else word.title() if written.istitle() else word


def _slug(text: str) -> str:
    """Small letters, their marks and digits of any script; whatever stands between them is one hyphen."""
    letters = (char if unicodedata.category(char)[0] in "LMN" else " " for char in unicodedata.normalize("NFC", text.lower()))
    return "-".join("".join(letters).split())

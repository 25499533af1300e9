"""The labelled files that a checkpoint is judged on, from a manifest (``training.manifest``) or a folder (``training.layouts``).

Beyond a manifest's columns these are read where they are there: split (train is not judged by default), sex, age, race (of the
face, as it appears to an annotator), and note, in which UTKFace's own file names give the three. A note that the manifest lacks
is looked up, by path, in the ``MANIFEST.csv`` of the data folder, if there is one.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training.layouts import MANIFEST, list_source
from training.manifest import Entry, is_video, joined_to_originals, plain_path, read_manifest
from training.splits import COMMITTED, components, ids_of
from worker.errors import ConfigError
from worker.report import shown_path
from worker.types import MediaKind

_UTKFACE = re.compile(r"(?:^|/)(\d{1,3})_([01])_([0-4])_\d{8,}\.(?:jpg|png)")
SEXES = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "other")
DECADES = ((0, 12), (13, 19), (20, 39), (40, 59), (60, 200))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One labelled file. ``name`` is its path as the manifest has it, bytes that are not UTF-8 as ``\\xNN``; ``path`` is where it
    lies; unknown fields are empty."""

    name: str
    path: Path
    label: str
    source: str
    group: str
    manipulation: str = ""
    split: str = ""
    original: str = ""
    sex: str = ""
    age: str = ""
    race: str = ""

    def __post_init__(self) -> None:
        if self.label not in ("real", "fake"):
            raise ConfigError(f"{self.name}: label {self.label!r} is neither real nor fake")

    @property
    def fake(self) -> bool:
        return self.label == "fake"

    @property
    def kind(self) -> MediaKind:
        """What its name says; the scan decides by content."""
        return MediaKind.VIDEO if is_video(self.name) else MediaKind.PICTURE


def read_cases(place: Path, data: Path | None = None) -> list[Case]:
    """All files of a manifest, or of a folder as ``veriframe data prepare`` lists it: media only, their parts as splits.

    Relative paths are below ``data``, by default the manifest's folder. Raises ConfigError for a missing column or file, and
    for a folder of no known layout.
    """
    cases = _from_folder(place) if place.is_dir() else _from_manifest(place, data or place.parent)
    if missing := next((case for case in cases if not case.path.is_file()), None):
        raise ConfigError(f"{missing.path}, named in {place}, does not exist; --data names the folder that paths are relative to")
    return _with_originals(cases)


def _from_folder(folder: Path) -> list[Case]:
    listing = list_source(folder)
    if listing.layout in ("own", "manifest"):  # tables that tell more than entries hold
        return _from_manifest(COMMITTED if listing.layout == "own" else folder / MANIFEST, folder)
    entries = joined_to_originals(listing.entries)
    component = components(entry.groups for entry in entries)
    return [_case(entry, component[entry.groups[0]], {}, listing.root, {}) for entry in entries]


def _from_manifest(manifest: Path, data: Path) -> list[Case]:
    entries = joined_to_originals(read_manifest(manifest, data))
    more = _rows(manifest)
    notes = _notes(data / MANIFEST)
    component = components(entry.groups for entry in entries)
    return [_case(entry, component[entry.groups[0]], more[entry.path], data, notes) for entry in entries]


def _notes(path: Path) -> dict[str, str]:
    """By plain path; none where there is no such file, or one of anybody's own that only bears the name."""
    try:
        rows = _rows(path)
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        return {}
    return {name: row.get("note") or "" for name, row in rows.items()}


def _rows(path: Path) -> dict[str, dict[str, str]]:
    """By plain path."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        return {plain_path(row["path"] or ""): row for row in csv.DictReader(file)}


def _case(entry: Entry, group: str, row: Mapping[str, str], data: Path, notes: Mapping[str, str]) -> Case:
    labels = {key: (row.get(key) or "").strip() for key in ("sex", "age", "race")}
    if not any(labels.values()):
        labels = _apparent(row.get("note") or notes.get(entry.path) or entry.path)
    return Case(
        name=shown_path(entry.path),
        path=Path(os.path.abspath(data / entry.path)),
        label=entry.label,
        source=shown_path(entry.source),
        group=shown_path(group),
        manipulation=shown_path(entry.manipulation),
        split=plain_split(row.get("split") or "") or entry.part,
        original=shown_path(entry.original),
        **labels,
    )


def plain_split(text: str) -> str:
    """A split's name without what a spreadsheet or a hand puts around it: ``Train `` is ``train``."""
    return text.strip().lower()


def _apparent(name: str) -> dict[str, str]:
    """Sex, age and race that a UTKFace name gives, ``[age]_[gender]_[race]_[date].jpg``; empty for any other name."""
    found = _UTKFACE.search(name)
    if not found:
        return {}
    return {"age": found[1], "sex": SEXES[int(found[2])], "race": RACES[int(found[3])]}


def is_small_number(text: str) -> bool:
    """Whether it is decimal digits alone (``²`` is a digit, but none of those), and few."""
    return text.isdecimal() and len(text) < 5


def age_band(age: str) -> str:
    """``20-39`` for an age within it; any other text, and what is no age, stands for itself."""
    if not is_small_number(age) or int(age) > DECADES[-1][1]:
        return age
    low, high = next(band for band in DECADES if int(age) <= band[1])
    return f"{low}-{high}" if high < 200 else f"{low} and more"


def _with_originals(cases: Sequence[Case]) -> list[Case]:
    """FaceForensics++ names say what a fake was made from: ``deepfakes_033_097.mp4`` from the only ``..._033.mp4``."""
    named: dict[tuple[str, str], list[str]] = defaultdict(list)
    for case in cases:
        if not case.fake and len(ids := ids_of(case.name)) == 1:
            named[case.source, ids[0]].append(case.name)
    found: list[Case] = []
    for case in cases:
        ids = ids_of(case.name)
        if case.fake and not case.original and len(ids) == 2 and len(names := named.get((case.source, ids[0]), [])) == 1:
            case = replace(case, original=names[0])
        found.append(case)
    return found


def sample(cases: Sequence[Case], limit: int | None, *, together: bool = False) -> list[Case]:
    """At most ``limit`` files of each kind, or of both ``together``: every stratum (source, label, manipulation) gives one in
    turn, by hash of the name.

    Small sources come in whole; the same cases give the same sample.
    """
    if limit is None:
        return list(cases)
    chosen: set[str] = set()
    of_kinds = [cases] if together else [[case for case in cases if case.kind is kind] for kind in MediaKind]
    for of_kind in of_kinds:
        strata: dict[tuple[str, str, str], list[Case]] = defaultdict(list)
        for case in sorted(of_kind, key=lambda case: _rank(case.name)):
            strata[case.source, case.label, case.manipulation].append(case)
        turns = sorted((turn, stratum) for stratum, members in strata.items() for turn in range(len(members)))
        chosen.update(strata[stratum][turn].name for turn, stratum in turns[:limit])
    return [case for case in cases if case.name in chosen]


def _rank(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()

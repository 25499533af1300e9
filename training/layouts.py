"""Folders of labelled media, recognised by how they lie: entries with groups, families and, where known, aligned originals.

================ =======================================================================================================
``own``          this project's labelled folder, whose split is committed (``training.splits``)
``manifest``     a folder with a ``MANIFEST.csv``, or such a file itself (``training.manifest``)
``ffpp``         FaceForensics++: ``original_sequences/youtube/c23/videos/033.mp4``,
                 ``manipulated_sequences/Deepfakes/c23/videos/033_097.mp4`` (background of 033, face of 097); DFD's ``actors`` too
``celebdf``      Celeb-DF v2: ``Celeb-real/id0_0000.mp4``, ``Celeb-synthesis/id0_id1_0000.mp4``, ``YouTube-real``
``dfdc``         DFDC: parts with a ``metadata.json`` of label, split and original, and the videos beside it
``140k``         Kaggle's 140k faces: pictures in ``train|valid|test`` with ``real`` and ``fake`` below, or with its CSV files
``plain``        folders ``real`` and ``fake``, at any depth; what lies above them is the source, ``train``, ``val`` and
                 ``test`` (above or below) are its parts, any other folder below a group (``training.plain``)
================ =======================================================================================================

Paths are relative to the folder and use ``/``. Nothing is decoded here.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from training.manifest import (
    LABELS,
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    Entry,
    is_video,
    joined_to_originals,
    plain_path,
    read_manifest,
)
from training.plain import folder_notes, label_place, plain_entries
from training.splits import read_split
from worker.errors import ConfigError
from worker.report import shown_path

MANIFEST = "MANIFEST.csv"
DFDC_PARTS = 4
"""From so many parts on, one is a group: people recur within the parts of the DFDC, hardly between them."""
MASKS = "masks"
"""In FaceForensics++ beside the compressions: videos of where a fake was altered, under its own name."""
PARTS_140K = ("train", "valid", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What was found in ``root``; ``notes`` say what was assumed or passed over."""

    layout: str
    root: Path
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[tuple[str, str, str], int]:
        """Files by source, label and manipulation."""
        return dict(sorted(Counter((e.source, e.label, e.manipulation) for e in self.entries).items()))


def list_source(source: Path, layout: str | None = None) -> Listing:
    """The labelled files of a manifest or folder, every entry with its group. Raises ConfigError where none is recognised."""
    return _with_known_originals(_listed_in(source, layout))


def _listed_in(source: Path, layout: str | None) -> Listing:
    if source.is_file():
        if layout not in (None, "manifest"):
            raise ConfigError(f"{source} is a file: only the layout manifest fits")
        return _finished("manifest", source.parent, read_manifest(source))
    if not source.is_dir():
        raise ConfigError(f"{source}: no such file or folder")
    name = layout or recognise(source)
    if name not in LAYOUTS:
        raise ConfigError(f"no layout {name!r}; there are {', '.join(LAYOUTS)}")
    return _finished(name, source, LAYOUTS[name][1](source))


def list_sources(sources: Sequence[Path], layout: str | None = None) -> Listing:
    """Several folders or manifests as one; paths are then relative to the folder that holds them all.

    Files are passed over, with a note, where a name is not UTF-8: a manifest, a split and a cache cannot hold it.
    """
    listings = [_listed_in(source, layout) for source in sources]
    if len(listings) == 1:
        return _with_known_originals(_named_in_utf8(listings[0]))
    if not listings:
        raise ConfigError("name a folder or a manifest")
    root = Path(os.path.commonpath([listing.root.resolve() for listing in listings]))

    def moved(listing: Listing, path: str) -> str:
        if not path or Path(path).is_absolute():
            return path
        return plain_path((listing.root.resolve() / path).relative_to(root).as_posix())

    entries = [
        replace(entry, path=moved(listing, entry.path), original=moved(listing, entry.original))
        for listing in listings
        for entry in listing.entries
    ]
    if len({os.path.abspath(root / entry.path) for entry in entries}) < len(entries):
        raise ConfigError("a file is reached by two of the sources")
    names = "+".join(listing.layout for listing in listings)
    notes = tuple(note for listing in listings for note in listing.notes)
    return _with_known_originals(_named_in_utf8(Listing(layout=names, root=root, entries=tuple(entries), notes=notes)))


def recognise(folder: Path) -> str:
    """The first layout that fits. Raises ConfigError, saying what would fit."""
    for name, (fits, _) in LAYOUTS.items():
        if fits(folder):
            return name
    raise ConfigError(
        f"{folder}: no layout recognised. Put the files in folders named real and fake, or list them in a CSV with the "
        "columns path, label, source (see `veriframe data prepare --help`)"
    )


def _finished(layout: str, root: Path, entries: Sequence[Entry]) -> Listing:
    if not entries:
        raise ConfigError(f"{root}: the layout {layout} finds no labelled file there")
    notes = _passed_over(root, entries) if layout != "manifest" else []
    notes += folder_notes(entries) if layout == "plain" else []
    kept = [replace(entry, group="+".join(entry.groups)) for entry in entries]
    return Listing(layout=layout, root=root, entries=tuple(kept), notes=tuple(notes))


def _named_in_utf8(listing: Listing) -> Listing:
    """Entries without those of which a path, source or group is not. Raises ConfigError where none is left."""
    odd = dict.fromkeys(entry for entry in listing.entries if not _is_utf8("".join(asdict(entry).values())))
    if not odd:
        return listing
    note = f"{len(odd)} files whose names are not UTF-8, the first of them {shown_path(next(iter(odd)).path)}"
    if len(odd) == len(listing.entries):
        raise ConfigError(f"{shown_path(str(listing.root))}: only {note}; rename them")
    kept = tuple(entry for entry in listing.entries if entry not in odd)
    return replace(listing, entries=kept, notes=(*listing.notes, f"passed over: {note}"))


def _is_utf8(text: str) -> bool:
    """Bytes of a file's name that are not become surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _with_known_originals(listing: Listing) -> Listing:
    """Originals that are no listed real file taken away; the fakes of one still have a group in common."""
    known = {entry.path for entry in listing.entries if entry.label == "real"}
    lost = {entry.path for entry in listing.entries if entry.original and entry.original not in known}
    if not lost:
        return listing
    joined = joined_to_originals(listing.entries)
    entries = [
        replace(whole, original="") if entry.path in lost else entry for entry, whole in zip(listing.entries, joined, strict=True)
    ]
    first = next(entry.path for entry in entries if entry.path in lost)
    note = f"{len(lost)} fakes lack their original, the first of them {first}"
    return replace(listing, entries=tuple(entries), notes=(*listing.notes, note))


def _passed_over(root: Path, entries: Sequence[Entry]) -> list[str]:
    """Files that no entry names, by suffix."""
    listed = {entry.path for entry in entries}
    kinds = Counter(PurePosixPath(path).suffix.lower() or "no suffix" for path in _files(root) if path not in listed)
    return [f"passed over: {', '.join(f'{count} x {kind}' for kind, count in sorted(kinds.items()))}"] if kinds else []


def _files(folder: Path) -> Iterator[str]:
    """All files below, hidden ones left out, in a fixed order; links are followed, but not back to a folder that they lie in."""
    for here, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _leads_back(Path(here, name)))
        below = Path(here).relative_to(folder)
        for name in sorted(names):
            if not name.startswith("."):
                yield (below / name).as_posix()


def _leads_back(path: Path) -> bool:
    ways = path.absolute(), path.parent.resolve() / path.name
    return path.is_symlink() and any(path.samefile(above) for way in ways for above in way.parents)


def _media(folder: Path) -> Iterator[PurePosixPath]:
    for path in map(PurePosixPath, _files(folder)):
        if path.suffix.lower() in VIDEO_SUFFIXES | PICTURE_SUFFIXES:
            yield path


def _is_own(folder: Path) -> bool:
    paths = [item.path for item in read_split()]
    return (folder / MANIFEST).is_file() and all((folder / path).is_file() for path in (paths[0], paths[-1]))


def _own(folder: Path) -> list[Entry]:
    return [
        Entry(
            path=item.path,
            label=item.label,
            source=item.source,
            group=item.group,
            family=item.its_family,
            manipulation=item.manipulation,
            original="",
        )
        for item in read_split()
    ]


def _listed(folder: Path) -> list[Entry]:
    return read_manifest(folder / MANIFEST)


def _ffpp(folder: Path) -> list[Entry]:
    """Originals are found by the first id (FF++) or the scene (DFD), at the same compression."""
    entries: list[Entry] = []
    for path in _media(folder):
        match path.parts:
            case ["original_sequences", kind, compression, "videos", _] if is_video(path.name):
                source, names, _ = _ffpp_name(path.stem, kind == "actors")
                entries.append(Entry(path=str(path), label="real", source=source, group=names))
            case ["manipulated_sequences", method, compression, "videos", _] if is_video(path.name) and compression != MASKS:
                by_actors = method == "DeepFakeDetection"
                source, names, target = _ffpp_name(path.stem, by_actors)
                kind = "actors" if by_actors else "youtube"
                original = f"original_sequences/{kind}/{compression}/videos/{target}{path.suffix}"
                entries.append(
                    Entry(
                        path=str(path),
                        label="fake",
                        source=source,
                        group=names,
                        family="manipulation",
                        manipulation=method.lower(),
                        original=original,
                    )
                )
    return entries


def _ffpp_name(stem: str, by_actors: bool) -> tuple[str, str, str]:
    """Source, group and name of the original: ``033_097`` -> ids 033 and 097; ``01_02__walk__XY`` -> actors 01 and 02."""
    people, _, rest = stem.partition("__")
    ids = people.split("_")
    if not by_actors:
        return "ffpp", "+".join(f"ffpp/{name}" for name in ids), ids[0]
    scene = rest.split("__")[0]
    return "dfd", "+".join(f"dfd/{name}" for name in ids), f"{ids[0]}__{scene}"


def _celebdf(folder: Path) -> list[Entry]:
    """``id0_id1_0000`` is the clip ``id0_0000`` with the face of ``id1``; clips of YouTube-real stand alone."""
    listed = folder / "List_of_testing_videos.txt"
    lines = listed.read_text().splitlines() if listed.is_file() else []
    test = {line.split(maxsplit=1)[1].strip() for line in lines if " " in line.strip()}
    entries: list[Entry] = []
    for path in _media(folder):
        top, name = path.parts[0], path.stem
        if top not in ("Celeb-real", "YouTube-real", "Celeb-synthesis"):
            continue
        people = [part for part in name.split("_") if part.startswith("id")]
        fake = top == "Celeb-synthesis"
        entries.append(
            Entry(
                path=str(path),
                label="fake" if fake else "real",
                source="celebdf",
                group="+".join(f"celebdf/{person}" for person in people) or f"celebdf/youtube-{name}",
                family="manipulation" if fake else "",
                manipulation="celebdf" if fake else "",
                original=f"Celeb-real/{people[0]}_{name.rsplit('_', 1)[-1]}{path.suffix}" if fake and people else "",
                part=("test" if str(path) in test else "train") if test else "",
            )
        )
    return entries


def _dfdc_parts(folder: Path) -> list[Path]:
    return sorted(
        p.parent for p in (*folder.glob("metadata.json"), *folder.glob("*/metadata.json"), *folder.glob("*/*/metadata.json"))
    )


def _is_dfdc(folder: Path) -> bool:
    """Other data sets have a ``metadata.json`` too: this one's gives a label to each video beside it."""
    return any(_has_dfdc_table(part) for part in _dfdc_parts(folder))


def _has_dfdc_table(part: Path) -> bool:
    try:
        table = json.loads((part / "metadata.json").read_text())
    except (OSError, ValueError):
        return False
    named = (
        [name for name, about in table.items() if isinstance(about, dict) and "label" in about] if isinstance(table, dict) else []
    )
    return any(Path(name).name == name and (part / name).is_file() for name in named)


def _dfdc(folder: Path) -> list[Entry]:
    parts = _dfdc_parts(folder)
    entries: list[Entry] = []
    for part in parts:
        below = part.relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        try:
            table = json.loads((part / "metadata.json").read_text())
            for name, about in sorted(table.items()):
                if (part / name).is_file():
                    entries.append(_dfdc_entry(prefix, name, about, part.name if len(parts) >= DFDC_PARTS else ""))
        except (ValueError, AttributeError, KeyError, TypeError) as exc:
            raise ConfigError(f"{part / 'metadata.json'}: not the DFDC's table of label, split and original: {exc!r}") from exc
    return entries


def _dfdc_entry(prefix: str, name: str, about: dict[str, str | None], group: str) -> Entry:
    label = str(about["label"]).lower()
    original = about.get("original") or ""
    part = {"train": "train", "validation": "valid", "test": "test"}.get(about.get("split") or "", "")
    return Entry(
        path=f"{prefix}{name}",
        label=label,
        source="dfdc",
        group=f"dfdc/{group or PurePosixPath(original or name).stem}",
        family="manipulation" if label == "fake" else "",
        manipulation="dfdc" if label == "fake" else "",
        original=f"{prefix}{original}" if original and label == "fake" else "",
        part=part,
    )


def _140k_folder(folder: Path) -> Path | None:
    """Where ``train/real`` and ``train/fake`` lie: here, or one or two levels down."""
    for here in (folder, *sorted(folder.glob("*/")), *sorted(folder.glob("*/*/"))):
        if all((here / "train" / label).is_dir() for label in LABELS):
            return here
    return None


def _is_140k(folder: Path) -> bool:
    """Anybody's data set may have ``train/real`` and ``train/fake``; taken for this one, its fakes would be StyleGAN's."""
    here = _140k_folder(folder)
    if here is None:
        return False
    whole = all((here / part / label).is_dir() for part in PARTS_140K for label in LABELS)
    tables = any(all((place / f"{part}.csv").is_file() for part in PARTS_140K) for place in (folder, here))
    return (whole or tables) and not any(is_video(path.name) for path in _media(here))


def _140k(folder: Path) -> list[Entry]:
    """By the folders; the CSV files beside them say the same."""
    here = _140k_folder(folder)
    if here is None:
        raise ConfigError(f"{folder}: no train/real and train/fake there")
    prefix = here.relative_to(folder)
    entries: list[Entry] = []
    for path in _media(here):
        if len(path.parts) >= 3 and path.parts[0] in PARTS_140K and path.parts[1] in LABELS:
            label = path.parts[1]
            name = (PurePosixPath(prefix.as_posix()) / path).as_posix()
            fake = label == "fake"
            entries.append(
                Entry(
                    path=name,
                    label=label,
                    source="140k",
                    group=f"140k/{label}/{path.stem}",
                    family="synthetic" if fake else "",
                    manipulation="stylegan" if fake else "",
                    part=path.parts[0],
                )
            )
    return entries


def _is_plain(folder: Path) -> bool:
    return any(label_place(path) is not None for path in _media(folder))


def _plain(folder: Path) -> list[Entry]:
    return plain_entries(_media(folder), folder.resolve().name)


Layout = tuple[Callable[[Path], bool], Callable[[Path], list[Entry]]]
LAYOUTS: dict[str, Layout] = {
    "own": (_is_own, _own),
    "manifest": (lambda folder: (folder / MANIFEST).is_file(), _listed),
    "ffpp": (lambda folder: (folder / "original_sequences").is_dir() or (folder / "manipulated_sequences").is_dir(), _ffpp),
    "celebdf": (lambda folder: (folder / "Celeb-real").is_dir() or (folder / "Celeb-synthesis").is_dir(), _celebdf),
    "dfdc": (_is_dfdc, _dfdc),
    "140k": (_is_140k, _140k),
    "plain": (_is_plain, _plain),
}

"""Which file belongs to whom and on which side it stands: groups, and the one committed split (``splits/v2.csv``).

A *group* is everything that must stay together: an FF++ connected component of ids, a scene, a person. ``train`` is learnt from;
``heldout`` are other groups of the training sources; ``leftout`` are whole sources that no training step ever sees. Thresholds
and calibration are fitted on ``heldout`` across folds of groups (``training.calibration``).
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from training.manifest import Entry, is_video, joined_to_originals, plain_path
from worker.errors import ConfigError

COMMITTED = Path(__file__).parent / "splits" / "v2.csv"
TWINS = {"faces/140k/fake/00091.jpg": "140k/fake/00402"}
"""The same generated face twice, found by ``veriframe data check``: the held-out one goes to the group that was learnt from."""
LEFT_OUT = ("talking", "dfd", "ghost", "roeishc", "generatedphotos")
HELD_OUT_SHARE = {"ffpp": 0.4}
HELD_OUT_SHARE_PICTURES = 0.15
SYNTHETIC = ("140k", "roeishc", "generatedphotos", "taesd")
SPLITS = ("train", "heldout", "leftout")
STILLS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
MIN_STRATUM = 4
"""Kinds of groups rarer than this are held out from one common pot: of each alone at least one would have to go."""
GIANT = 0.5
"""A component with more than this share of its sources' files is divided by its names, and files between two sides are left."""
GIANT_HELD_OUT = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One labelled file; ``path`` is relative to the data folder."""

    path: str
    label: str
    source: str
    manipulation: str
    group: str
    split: str
    family: str = ""
    """Of a fake: manipulation, synthetic or blend; empty where the source tells (``its_family``)."""
    target: str = ""
    """The same for a fake and the original that it was made of, frame by frame; else empty."""

    def __post_init__(self) -> None:
        if self.label not in ("real", "fake") or self.split not in SPLITS:
            raise ConfigError(f"{self.path}: label {self.label!r}, split {self.split!r}")

    @property
    def is_video(self) -> bool:
        return is_clip(self.path)

    @property
    def aligned_by(self) -> str:
        """Names the original; of the committed split's FF++ clips it is the first id in their names."""
        return self.target or next((name for name in ids_of(self.path) if self.path.startswith("videos/ffpp/")), "")

    @property
    def its_family(self) -> str:
        return family_of(self.label, self.source, self.family)


def is_clip(path: str) -> bool:
    """Whether it shows many frames: videos do, and all in ``videos/`` but stills, animated pictures too."""
    return is_video(path) or (path.startswith("videos/") and not path.lower().endswith(STILLS))


def family_of(label: str, source: str, family: str = "") -> str:
    """``real`` for what is; else the family given, or the one that the source is known for: manipulation unless synthetic."""
    if label == "real":
        return "real"
    return family or ("synthetic" if source in SYNTHETIC else "manipulation")


def ids_of(path: str) -> list[str]:
    """FF++ ids in a file's name: ``deepfakes_033_097.mp4`` -> 033 (target), 097 (donor)."""
    return re.findall(r"(?<=_)\d{3}(?=[_.])", Path(path).name)


def components(id_sets: Iterable[Sequence[str]]) -> dict[str, str]:
    """Id -> smallest id of its connected component; ids named by one file are connected."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            name = parent[name]
        return name

    for ids in id_sets:
        roots = sorted({root(name) for name in ids})
        for other in roots[1:]:
            parent[other] = roots[0]
    return {name: root(name) for name in parent}


def group_of(path: str, source: str, note: str, component_of: dict[str, str]) -> str:
    """The group's name, from the manifest's notes: scenes and persons stay together, any other file stands alone."""
    if source == "ffpp":
        return f"ffpp/{component_of[ids_of(path)[0]]}"
    if source == "lfw":
        original = note.rsplit("/", 1)[-1]
        return f"lfw/{re.sub(r'_[0-9]+[.]jpg$', '', original)}"
    if "keep the three together" in note:
        return "dfd/01_talking"
    if "are one scene" in note:
        return "ghost/orig"
    return f"{source}/{Path(path).parent.name}/{Path(path).stem}"


def _rank(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def held_out_groups(strata: dict[str, str], share: float) -> set[str]:
    """Groups held out: of every stratum ``share`` (at least one, not all of several), by hash. ``strata``: group -> stratum."""
    members: dict[str, list[str]] = defaultdict(list)
    for group, stratum in strata.items():
        members[stratum].append(group)
    chosen: set[str] = set()
    for groups in members.values():
        chosen.update(sorted(groups, key=_rank)[: max(1, min(len(groups) - 1, round(share * len(groups))))])
    return chosen


def make_split(manifest_csv: Path) -> list[Item]:
    """All labelled videos and faces of the manifest with group and split; deterministic."""
    with manifest_csv.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].startswith(("videos/", "faces/"))]
    component_of = components(ids_of(row["path"]) for row in rows if "/ffpp/" in row["path"])
    found: list[tuple[str, str, str, str, str]] = []
    for row in rows:
        path, label = row["path"], row["label"]
        source = path.split("/")[1]
        kind = Path(path).name.split("_")[0] if source == "ffpp" and label == "fake" else label
        found.append((path, label, source, kind, group_of(path, source, row["note"], component_of)))
    held: set[str] = set()
    for source in sorted({item[2] for item in found} - set(LEFT_OUT)):
        kinds: dict[str, set[str]] = defaultdict(set)
        for _, label, its, kind, group in found:
            if its == source:
                kinds[group].add(label if source != "ffpp" else kind)
        strata = {group: "+".join(sorted(k - {"real"}) or ["real"]) for group, k in kinds.items()}
        held |= held_out_groups(strata, HELD_OUT_SHARE.get(source, HELD_OUT_SHARE_PICTURES))
    return [
        Item(
            path=path,
            label=label,
            source=source,
            manipulation=kind if label == "fake" else "",
            group=TWINS.get(path, group),
            split="leftout" if source in LEFT_OUT else "heldout" if TWINS.get(path, group) in held else "train",
        )
        for path, label, source, kind, group in found
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Every entry's side. ``straddling`` are those whose people stand on both sides: they can be used on neither."""

    items: tuple[Item, ...]
    straddling: tuple[Entry, ...] = ()
    notes: tuple[str, ...] = ()


def assign(
    entries: Sequence[Entry],
    *,
    held_out: float = HELD_OUT_SHARE_PICTURES,
    leave_out: Sequence[str] = (),
    given: Mapping[str, str] | None = None,
) -> Assignment:
    """Whole groups to ``train`` and ``heldout``, by hash: the same entries give the same sides anywhere.

    A source's own parts are kept where no group stands in two of them (valid and test: heldout), and the rest of these groups is
    with them. ``leave_out`` names sources that nothing is learnt from: what shares a group with their files, as the originals of
    their fakes do, is left out with them, and a note counts it. ``given`` maps every path to its split instead. Raises
    ConfigError for a path that it lacks.
    """
    entries = joined_to_originals(entries)
    if given is not None:
        if missing := [entry.path for entry in entries if entry.path not in given]:
            raise ConfigError(f"the split says nothing of {len(missing)} files, the first of them {missing[0]}")
        return _assigned([(entry, given[entry.path]) for entry in entries], ())
    if unknown := sorted(set(leave_out) - {entry.source for entry in entries}):
        raise ConfigError(
            f"no source {', '.join(unknown)} to leave out; there are {', '.join(sorted({e.source for e in entries}))}"
        )
    component_of = components(entry.groups for entry in entries)
    by_part, side_of = _keep_their_parts([entry for entry in entries if entry.source not in leave_out], component_of)
    free = [entry for entry in entries if component_of[entry.groups[0]] not in side_of]
    held, unit_of = _held_out_units(free, component_of, held_out)

    unit_of = component_of | unit_of
    left_out = {unit_of[name] for entry in entries if entry.source in leave_out for name in entry.groups}

    def side(name: str) -> str:
        if unit_of[name] in left_out:
            return "leftout"
        return side_of.get(component_of[name]) or ("heldout" if unit_of[name] in held else "train")

    whole = [(entry, found.pop()) for entry in entries if len(found := {side(name) for name in entry.groups}) == 1]
    notes = [f"the data set's own parts are kept: {', '.join(sorted(by_part))}"] if by_part else []
    along = Counter(entry.source for entry, its in whole if its == "leftout" and entry.source not in leave_out)
    notes += [f"left out with them, as they share groups: {count} files of {source}" for source, count in sorted(along.items())]
    done = {entry for entry, _ in whole}
    return _assigned(whole, tuple(entry for entry in entries if entry not in done), tuple(notes))


def _assigned(sided: Sequence[tuple[Entry, str]], straddling: tuple[Entry, ...], notes: tuple[str, ...] = ()) -> Assignment:
    """Items, named by their components among what is kept; original and fakes share a target."""
    component_of = components(entry.groups for entry, _ in sided)
    originals = {entry.original for entry, _ in sided if entry.original}
    items = [
        Item(
            path=entry.path,
            label=entry.label,
            source=entry.source,
            manipulation=entry.manipulation or ("fake" if entry.label == "fake" else ""),
            group=component_of[entry.groups[0]],
            split=split,
            family=entry.family if entry.label == "fake" else "",
            target=_target(entry.original or (entry.path if entry.path in originals else "")),
        )
        for entry, split in sided
    ]
    return Assignment(items=tuple(items), straddling=straddling, notes=notes)


def _target(original: str) -> str:
    """A short name of an original, its own in any list."""
    return f"{Path(original).stem}-{_rank(original)[:6]}" if original else ""


def _keep_their_parts(entries: Sequence[Entry], component_of: Mapping[str, str]) -> tuple[set[str], dict[str, str]]:
    """Sources that divide themselves, every file of them, with no group in training and elsewhere; their components' sides."""
    parts: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        parts[entry.source].add(entry.part)
    whole = {source for source, found in parts.items() if "train" in found and len(found) > 1 and "" not in found}
    sides: dict[str, set[str]] = defaultdict(set)
    of_source: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.source in whole:
            component = component_of[entry.groups[0]]
            sides[component].add("train" if entry.part == "train" else "heldout")
            of_source[entry.source].add(component)
    kept = {source for source, found in of_source.items() if all(len(sides[component]) == 1 for component in found)}
    return kept, {component: next(iter(sides[component])) for source in kept for component in of_source[source]}


def _held_out_units(entries: Sequence[Entry], component_of: Mapping[str, str], share: float) -> tuple[set[str], dict[str, str]]:
    """The units held out, and name -> unit: its component, or of a giant component the name itself."""
    in_source = Counter(entry.source for entry in entries)
    members: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        members[component_of[entry.groups[0]]].append(entry)
    unit_of: dict[str, str] = {}
    strata: dict[str, dict[str, str]] = {"whole": {}, "divided": {}}
    for component, found in members.items():
        sources = sorted({entry.source for entry in found})
        names = sorted({name for entry in found for name in entry.groups})
        is_giant = len(names) >= MIN_STRATUM and len(found) > GIANT * sum(in_source[source] for source in sources)
        unit_of |= {name: name if is_giant else component for name in names}
        kinds = sorted({entry.manipulation or entry.label for entry in found if entry.label == "fake"}) or ["real"]
        stratum = "+".join([*sources, *kinds])
        strata["divided" if is_giant else "whole"] |= {unit_of[name]: stratum for name in names}
    held = held_out_groups(_with_common_pot(strata["whole"]), share)
    return held | held_out_groups(strata["divided"], max(share, GIANT_HELD_OUT)), unit_of


def _with_common_pot(strata: Mapping[str, str]) -> dict[str, str]:
    """Strata too small to give one away go to a common one; a pot of one group gives nothing."""
    sizes = Counter(strata.values())
    pooled = {group: stratum if sizes[stratum] >= MIN_STRATUM else "rare" for group, stratum in strata.items()}
    alone = Counter(pooled.values())["rare"] == 1
    return {group: stratum for group, stratum in pooled.items() if not (alone and stratum == "rare")}


def read_sides(path: Path) -> dict[str, str]:
    """path -> split of a CSV with these two columns, further ones passed over. Raises ConfigError, also for a path of two."""
    sides: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                name, side = plain_path(row["path"] or ""), row["split"]
                if sides.setdefault(name, side) != side:
                    raise ConfigError(f"{path}: {name} is of {sides[name]} and of {side}")
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as exc:
        raise ConfigError(f"{path}: not a split: a CSV with the columns path and split: {exc!r}") from exc
    return sides


def write_split(items: Sequence[Item], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Item)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(item) for item in items)


def read_split(path: Path = COMMITTED) -> list[Item]:
    """Items of a CSV that tells all of them (``is_whole``), further columns passed over. Raises ConfigError."""
    names = {field.name for field in fields(Item)}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [Item(**{name: told for name, told in row.items() if name in names}) for row in csv.DictReader(file)]
    except (OSError, TypeError, UnicodeDecodeError, csv.Error) as exc:
        raise ConfigError(f"{path}: not a split: {exc!r}") from exc


def is_whole(path: Path) -> bool:
    """Whether a CSV tells all of an ``Item``, as the committed splits do, or paths and sides alone. Raises ConfigError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return {field.name for field in fields(Item)} - {"family", "target"} <= set(csv.DictReader(file).fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise ConfigError(f"{path}: not a split: {exc!r}") from exc


def split_sha256(path: Path = COMMITTED) -> str:
    """Names the split in checkpoints and reports."""
    return hashlib.sha256(path.read_bytes()).hexdigest()

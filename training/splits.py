"""Which file belongs to whom and on which side it stands: groups, and the one committed split (``splits/v1.csv``).

A *group* is everything that must stay together: an FF++ connected component of ids, a scene, a person. ``train`` is learnt from;
``heldout`` are other groups of the training sources; ``leftout`` are whole sources that no training step ever sees. Thresholds
and calibration are fitted on ``heldout`` across folds of groups (see ``training.evaluate``).
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from worker.errors import ConfigError

V1 = Path(__file__).parent / "splits" / "v1.csv"
LEFT_OUT = ("talking", "dfd", "ghost", "roeishc", "generatedphotos")
HELD_OUT_SHARE = {"ffpp": 0.4}
HELD_OUT_SHARE_PICTURES = 0.15
MANIPULATIONS = ("deepfakes", "face2face", "faceswap", "neuraltextures")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One labelled file; ``path`` is relative to the data folder."""

    path: str
    label: str
    source: str
    manipulation: str
    group: str
    split: str

    def __post_init__(self) -> None:
        if self.label not in ("real", "fake") or self.split not in ("train", "heldout", "leftout"):
            raise ConfigError(f"{self.path}: label {self.label!r}, split {self.split!r}")

    @property
    def is_video(self) -> bool:
        return self.path.startswith("videos/")


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
    """Groups held out: of every stratum ``share`` (at least one), chosen by hash. ``strata`` maps group -> stratum."""
    members: dict[str, list[str]] = defaultdict(list)
    for group, stratum in strata.items():
        members[stratum].append(group)
    chosen: set[str] = set()
    for groups in members.values():
        chosen.update(sorted(groups, key=_rank)[: max(1, round(share * len(groups)))])
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
            group=group,
            split="leftout" if source in LEFT_OUT else "heldout" if group in held else "train",
        )
        for path, label, source, kind, group in found
    ]


def write_split(items: Sequence[Item], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Item)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(item) for item in items)


def read_split(path: Path = V1) -> list[Item]:
    """Raises ConfigError for a row with an unknown label or split."""
    with path.open(newline="") as file:
        return [Item(**row) for row in csv.DictReader(file)]


def split_sha256(path: Path = V1) -> str:
    """Names the split in checkpoints and reports."""
    return hashlib.sha256(path.read_bytes()).hexdigest()

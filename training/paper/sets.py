"""Which cached crops belong to set 1, set 2 and the test set, and which of a training set validate; no two share a group."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from training.identity import rows_sha256
from training.paper.settings import Selection, Sets
from training.prepare import RECONSTRUCTED, Crop
from worker.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    train: tuple[Crop, ...]
    validation: tuple[Crop, ...]

    @property
    def rows(self) -> tuple[Crop, ...]:
        return self.train + self.validation


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The rows of a run. Raises ConfigError where two of its parts share a group, or one lacks a class."""

    first: TrainingSet
    second: TrainingSet
    test: tuple[Crop, ...]

    def __post_init__(self) -> None:
        parts = {
            "set 1": self.first.train,
            "set 1's validation": self.first.validation,
            "set 2": self.second.train,
            "set 2's validation": self.second.validation,
            "the test set": self.test,
        }
        owner: dict[str, str] = {}
        for name, rows in parts.items():
            for row in rows:
                if owner.setdefault(row.group, name) != name:
                    raise ConfigError(f"group {row.group} ({row.path}) lies in {owner[row.group]} and in {name}")
        if not self.test:
            raise ConfigError("the test set is empty: the cache has no crops of the sources and splits that `sets` names for it")
        for name, whole in (("set 1", self.first), ("set 2", self.second)):
            for rows, part in ((whole.train, name), (whole.validation, f"{name}'s validation")):
                if missing := sorted({"real", "fake"} - {row.label for row in rows}):
                    raise ConfigError(f"{part} has no {' and no '.join(missing)} crops: {too_few(name, whole.rows)}")

    @property
    def sha256(self) -> str:
        """Names the rows and what each serves for."""
        parts = (self.first.train, self.first.validation, self.second.train, self.second.validation, self.test)
        return hashlib.sha256(" ".join(map(rows_sha256, parts)).encode()).hexdigest()


def too_few(name: str, rows: Sequence[Crop]) -> str:
    """Why a set cannot be divided, with what it has."""
    count = {label: len({row.group for row in rows if row.label == label}) for label in ("real", "fake")}
    return (
        f"too few groups: {count['real']} real, {count['fake']} fake in {name}, which needs two of each: one to learn from, one "
        "to validate. Files of one person or clip are one group. Sets that share a source need four of each in training together"
    )


def as_found(rows: Sequence[Crop]) -> list[Crop]:
    """The crops of files as they are: neither recompressed copies nor reconstructions, which share their original's group."""
    return [row for row in rows if not row.variant and row.source != RECONSTRUCTED]


def choose_sets(rows: Sequence[Crop], sets: Sets) -> Chosen:
    """The rows of each set, in an order that follows from their names alone."""
    named = {name for part in (sets.first, sets.second) if not isinstance(part.sources, str) for name in part.sources}
    return Chosen(
        first=divided(select(rows, sets.first, named), sets.validation),
        second=divided(select(rows, sets.second, named), sets.validation),
        test=tuple(select(rows, sets.test, named)),
    )


def select(rows: Sequence[Crop], chosen: Selection, named: set[str]) -> list[Crop]:
    """``named``: the training sets' sources, which ``others`` leaves out. Raises ConfigError for a source without crops."""
    there = {row.source for row in rows}
    if chosen.sources == "all":
        wanted = there
    elif chosen.sources == "others":
        wanted = there - named
    else:
        wanted = set(chosen.sources)
    if missing := wanted - there:
        raise ConfigError(
            f"no crops of {', '.join(sorted(missing))} in the cache, which has {', '.join(sorted(there))}: name its sources in "
            "`sets`; for data of your own there is configs/train/own.yaml"
        )
    low, high = (first_groups(rows, share, salt="part", least=2) for share in chosen.part)
    found = [row for row in rows if row.source in wanted and row.split in chosen.splits and row.group in high - low]
    found.sort(key=lambda row: share_of(key_of(row)))
    taken: Counter[tuple[str, str]] = Counter()
    kept = []
    for row in found:
        taken[row.source, row.label] += 1
        if chosen.limit is None or taken[row.source, row.label] <= chosen.limit:
            kept.append(row)
    return sorted(kept, key=key_of)


def divided(rows: Sequence[Crop], validation: float) -> TrainingSet:
    """Held-out groups validate; of a source without any, ``validation`` of its groups (by hash, at least one for each label)."""
    held = {row.group for row in rows if row.split == "heldout"}
    with_held = {row.source for row in rows if row.split == "heldout"}
    without = [row for row in rows if row.source not in with_held]
    held |= first_groups(without, validation, salt="validation", least=1)
    return TrainingSet(
        train=tuple(row for row in rows if row.group not in held),
        validation=tuple(row for row in rows if row.group in held),
    )


def first_groups(rows: Sequence[Crop], share: float, *, salt: str, least: int) -> set[str]:
    """The first ``share`` of the groups of every source, label and part of the split, in the order of their hash with ``salt``.

    ``least`` groups or more lie on each side, where there are twice as many, else half of them. Groups that are of several kinds
    (a clip and a fake of it) are divided among themselves first; those of one kind then make up what that lacks.
    """
    kinds: dict[str, set[tuple[str, str, str]]] = defaultdict(set)
    for row in rows:
        kinds[row.group].add((row.source, row.label, row.split))
    alike: dict[tuple[tuple[str, str, str], ...], list[str]] = defaultdict(list)
    for group, its in kinds.items():
        alike[tuple(sorted(its))].append(group)
    total = Counter(kind for its in kinds.values() for kind in its)
    taken: Counter[tuple[str, str, str]] = Counter()
    found: set[str] = set()
    for its_kinds, members in sorted(alike.items(), key=lambda one: (-len(one[0]), one[0])):
        wanted = part_of(len(members), share, least)
        if len(its_kinds) == 1:
            wanted = part_of(total[its_kinds[0]], share, least) - taken[its_kinds[0]]
        first = sorted(members, key=lambda group: share_of(f"{salt} {group}"))[: max(0, wanted)]
        found.update(first)
        taken.update({kind: len(first) for kind in its_kinds})
    return found


def part_of(count: int, share: float, least: int) -> int:
    """``share`` of ``count``, rounded; ``least`` or more on each side of it, or half where there are fewer than twice that."""
    if share in (0, 1):
        return int(share) * count
    edge = min(least, count // 2)
    return min(max(round(share * count), edge), count - edge)


def key_of(row: Crop) -> str:
    """Names a crop in any cache: its file and frame."""
    return f"{row.path}#{row.frame}"


def share_of(text: str) -> float:
    """A number in [0, 1) that follows from ``text``."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) / (1 << 56)


def counts(rows: Sequence[Crop]) -> dict[str, dict[str, int]]:
    """Crops by source and label."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row.source, {"real": 0, "fake": 0})[row.label] += 1
    return dict(sorted(found.items()))

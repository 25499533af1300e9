"""The labelled files whose scans calibrate a checkpoint: those of the committed split, or of a crop cache of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

from training import provenance
from training.evaluation.cases import Case
from training.prepare import Crop, read_index
from training.splits import COMMITTED, Item, read_split, split_sha256
from worker.errors import ConfigError
from worker.model.checkpoint import load_spec, sha256
from worker.model.spec import TrainingData, TrainingSource

DATA = Path("../shared/data")
"""Where the committed split's files are looked for."""
File = TypeVar("File", Item, Crop, Case)


def labelled_files(cache: Path | None, data: Path | None) -> tuple[dict[str, Item], Path]:
    """All items by their paths, and the folder that these are below.

    ``data``: that folder, where it is not the one that the cache was made of. Raises ConfigError for a cache without a split.
    """
    if cache is None:
        return {item.path: item for item in read_split()}, data or DATA
    made_of = provenance.read(cache)
    if made_of is None:
        raise ConfigError(f"{cache} has no split of its own: it was not made by `veriframe data prepare`")
    items, root = _below_one_folder(made_of.items, data or made_of.root)
    return {item.path: item for item in items}, root


def as_learnt(files: Iterable[File], training: TrainingData) -> list[File]:
    """The files on the sides where the checkpoint saw them: all left-out files of a source are of ``train`` where it was trained
    on some, as the paper's stages are.

    A checkpoint that does not say so (one recipe's, or a staged run's of an older version) has learnt from a source's left-out
    files if the split has no others to learn from. Else they are left out with those that they share groups with, and stay so.
    Groups that its run held out of ``train`` are of ``heldout``. Files of a committed split that it was trained by are on the
    sides that they have there, whatever split names them here; those that an earlier one has in ``train`` are of that.
    """
    sides = {**committed_sides(training.split_sha256), **dict.fromkeys(_learnt_before(training), "train")}
    known = [replace(file, split=sides.get(_name(file), file.split)) for file in files]
    there = {file.source for file in known if file.split == "train"}
    learnt = {source.name for source in training.sources if source.leftout or source.name not in there}
    held = set(training.held_out)

    def split(file: File) -> str:
        if file.split == "train" and file.group in held:
            return "heldout"
        return "train" if file.split == "leftout" and file.source in learnt else file.split

    return [replace(file, split=split(file)) for file in known]


@cache
def committed_sides(digest: str | None) -> Mapping[str, str]:
    """path -> split of the committed split of this SHA-256; empty for any other."""
    names = {split_sha256(path): path for path in COMMITTED.parent.glob("*.csv")}
    return {item.path: item.split for item in read_split(names[digest])} if digest in names else {}


def _learnt_before(training: TrainingData) -> set[str]:
    """Paths that committed splits have in ``train`` by which the checkpoints were trained that the weights began from."""
    return {name for earlier in training.earlier_splits for name, side in committed_sides(earlier).items() if side == "train"}


def _name(file: Item | Crop | Case) -> str:
    return file.name if isinstance(file, Case) else file.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A checkpoint, its sha256, and the labelled files by their paths, on the sides where it may judge them."""

    checkpoint: Path
    sha256: str
    files: Mapping[str, Item]


def judges(checkpoint: Path, folds: Sequence[Path], labelled: Iterable[Item]) -> list[Judge]:
    """The checkpoint, and the runs that cross-fit it: each judges what it held out of what the checkpoint learnt from, no more.

    Raises ConfigError for a run that held out nothing of it, and for one of another split, unless both are committed ones.
    """
    spec, all_of = load_spec(checkpoint), list(labelled)
    own = as_learnt(all_of, spec.training)
    found = [Judge(checkpoint=checkpoint, sha256=sha256(checkpoint), files={item.path: item for item in own})]
    for path in folds:
        its = load_spec(path).training
        splits = {spec.training.split_sha256, its.split_sha256}
        if len(splits) > 1 and not all(map(committed_sides, splits)):
            raise ConfigError(f"{path} was trained by another split than {checkpoint}: it does not cross-fit it")
        held = {item.path for item in as_learnt(own, its) if item.split == "heldout"}
        learnt = [item for item in own if item.split == "train"]
        files = {item.path: replace(item, split="heldout" if item.path in held else "train") for item in learnt}
        if not held & files.keys():
            why = "name the cache of both by --cache" if its.held_out else "it was trained without hold_out"
            raise ConfigError(f"{path} held out nothing of these files that {checkpoint} learnt from: {why}")
        found.append(Judge(checkpoint=path, sha256=sha256(path), files=files))
    return found


def tell_of_another_split(checkpoint: Path, cache: Path | None, tell: Callable[[str], None]) -> None:
    """``tell`` hears where the checkpoint was trained by neither this split nor a committed one: it may have seen these files."""
    its, ours = load_spec(checkpoint).training, None if cache is None else split_sha256(provenance.split_of(cache))
    if any(one not in (None, ours) and not committed_sides(one) for one in (its.split_sha256, *its.earlier_splits)):
        tell(f"{checkpoint} was trained by another split: it may have learnt from some of these files")


def earlier_splits(starts: Iterable[TrainingData], split: str) -> tuple[str, ...]:
    """Splits other than ``split`` that the checkpoints were trained by which weights begin from, and those before them."""
    found = {one for start in starts for one in (start.split_sha256, *start.earlier_splits) if one not in (None, split)}
    return tuple(sorted(filter(None, found)))


def with_left_out(own: Sequence[TrainingSource], starts: Iterable[TrainingData]) -> tuple[TrainingSource, ...]:
    """A run's sources, with those whose left-out files the checkpoints learnt from that its weights begin from."""
    found = {source.name: source for source in own}
    for source in (source for start in starts for source in start.sources if source.leftout):
        before = found.setdefault(source.name, source)
        found[source.name] = before.model_copy(update={"leftout": max(before.leftout, source.leftout)})
    return tuple(found[name] for name in sorted(found))


def refuse_known(start: Path, groups: Collection[str], folder: Path) -> None:
    """Raises ConfigError where a checkpoint to start from has learnt from one of these groups of the crop cache in ``folder``.

    By splits other than the cache's and the committed ones nobody can tell. Sources do not count: what a checkpoint's own run did
    not draw from, a run before it may have.
    """
    its, rows, ours = load_spec(start).training, read_index(folder), split_sha256(provenance.split_of(folder))
    sides, before = committed_sides(its.split_sha256), _learnt_before(its)
    if ours in its.earlier_splits:
        before |= {row.path for row in rows if row.split == "train"}
    rows = [row for row in rows if row.path in before or (row.path in sides if sides else its.split_sha256 == ours)]
    learnt = {row.group for row in as_learnt(rows, its) if row.split == "train"}
    if known := sorted(learnt & set(groups)):
        raise ConfigError(f"hold_out: {start}, which training starts from, has learnt from {known[0]}")


def _below_one_folder(items: Sequence[Item], root: Path) -> tuple[Sequence[Item], Path]:
    """A manifest may name files outside its own folder: their paths, too, become relative to one that holds all of them."""
    paths = [Path(item.path) for item in items]
    if not any(path.is_absolute() or ".." in path.parts for path in paths):
        return items, root
    places = [Path(os.path.normpath(root / path)) for path in paths]
    top = Path(os.path.commonpath([place.parent for place in places]))
    return [replace(item, path=place.relative_to(top).as_posix()) for place, item in zip(places, items, strict=True)], top

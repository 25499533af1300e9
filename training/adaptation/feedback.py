"""Corrected cases: their crops, cut as all are, proof that none is in the regression set, and batches with replay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from training import augment, leaks
from training.adaptation.settings import Adaptation
from training.data import WORK_PX, Batch, CropStore, PairSampler
from training.layouts import Listing
from training.leaks import Leak
from training.prepare import Crop, cut, prepare
from training.provenance import CROP_PX, Provenance, begin
from training.splits import assign, components
from worker.errors import ConfigError
from worker.types import UInt8

FEEDBACK, HELD = "feedback", "held out"


def cut_feedback(listing: Listing, folder: Path, settings: Adaptation, crop_px: int = CROP_PX) -> CropStore:
    """The cases' crops, in a cache of their own in ``folder``, as sharp as what is replayed: ``crop_px``. Goes on after a stop.
    Raises ConfigError where there are none."""
    items = assign(listing.entries, given={entry.path: "train" for entry in listing.entries}).items
    try:
        begin(folder, Provenance(root=listing.root, layout=listing.layout, items=items, crop_px=crop_px))
    except ConfigError as exc:
        raise ConfigError(f"{folder.parent} holds an adaptation to other cases: name a fresh folder by --run") from exc
    prepare(
        items,
        listing.root,
        folder,
        train_frames=settings.frames,
        threads=settings.threads,
        recompress=False,
        crop_px=crop_px,
    )
    store = CropStore(folder)
    if not store.rows:
        raise ConfigError(f"no face was found in any of the {len(items)} feedback files: {folder / 'about' / 'skipped.csv'}")
    return store


class Thumbnails(Protocol):
    """Small grey pictures of the crops of rows, one after another, perhaps with a progress bar."""

    def __call__(self, store: CropStore, rows: Sequence[Crop]) -> Iterator[UInt8]: ...


def thumbnails(store: CropStore, rows: Sequence[Crop]) -> Iterator[UInt8]:
    return (leaks.thumbnail(store.crop(row)) for row in rows)


def leaks_into(
    listing: Listing, feedback: CropStore, held: Sequence[Crop], cache: CropStore, data: Path, looks: Thumbnails = thumbnails
) -> list[Leak]:
    """Feedback that is also in ``held``: by a group's name, equal bytes (where the held-out files lie in ``data``) or looks.

    Groups count as one where a feedback file names several (``a+b``).
    """
    component_of = components([*(entry.groups for entry in listing.entries), *([row.group] for row in held)])
    group_of = {entry.path: component_of[entry.groups[0]] for entry in listing.entries}
    ours = [
        replace(row, split=FEEDBACK, group=group_of[row.path], path=str(listing.root / row.path), target="")
        for row in feedback.rows
    ]
    theirs = [replace(row, split=HELD, group=component_of[row.group], path=str(data / row.path), target="") for row in held]
    sizes = {_size(row.path) for row in ours} - {None}
    alike = [row for row in {row.path: row for row in theirs}.values() if _size(row.path) in sizes]
    same, _ = leaks.by_content([*{row.path: row for row in ours}.values(), *alike], Path())
    thumbs_NHW = np.stack([*looks(feedback, feedback.rows), *looks(cache, held)])
    by_looks = leaks.by_looks([*ours, *theirs], thumbs_NHW)
    return [leak for leak in (*leaks.by_name([*ours, *theirs]), *same, *by_looks) if leak.kind != "two labels"]


def _size(path: str) -> int | None:
    """Bytes; None for a file that is not there."""
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return None


class FeedbackSampler:
    """Batches of replayed pairs in which some crops of each label give way to feedback of it; they follow from (seed, step).

    So both labels keep their half of every batch, whatever the feedback's: a stack of false alarms alone would otherwise teach
    "real" as such. A file counts once, however many its crops. ``families``: the network's; of two, the second is every fake.
    ``size``: of the network's crops. Raises ConfigError for a family that the network does not have.
    """

    def __init__(
        self, feedback: CropStore, replayed: CropStore, settings: Adaptation, families: Sequence[str], size: int = WORK_PX
    ) -> None:
        self._feedback, self._settings, self._families, self._size = feedback, settings, families, max(size, WORK_PX)
        self._replay = PairSampler(replayed, settings.mixture, settings.seed, size)
        self._family_K = np.array([self._index(name) for name in settings.mixture.families], np.int64)
        by_file: dict[tuple[str, str], list[Crop]] = defaultdict(list)
        for row in feedback.rows:
            by_file[row.label, row.path].append(row)
        self._files = {label: [rows for (its, _), rows in by_file.items() if its == label] for label in ("real", "fake")}
        for row in feedback.rows:
            self._index(row.its_family)

    def _index(self, family: str) -> int:
        if family in self._families:
            return self._families.index(family)
        if len(self._families) == 2:
            return 1
        raise ConfigError(f"the checkpoint has no family {family!r}; it has {', '.join(self._families)}")

    def batch(self, step: int, size: int) -> Batch:
        """``pairs`` real and as many fake crops of ``size``, alternating."""
        pairs = self._settings.pairs
        replayed = self._replay.batch(step, pairs, size)
        crops_FHWC, family_F = replayed.crops_FHWC.copy(), self._family_K[replayed.family_F]
        rng = np.random.default_rng([self._settings.seed, step, pairs])
        for place, files in enumerate(self._files.values()):
            if not files:
                continue
            for slot in rng.permutation(pairs)[: self._settings.feedback_crops]:
                rows = files[rng.integers(len(files))]
                row = rows[rng.integers(len(rows))]
                crops_FHWC[2 * slot + place] = augment.apply(augment.draw(rng), (self._crop(row, rng),), size)[0]
                family_F[2 * slot + place] = self._index(row.its_family)
        return Batch(crops_FHWC=crops_FHWC, family_F=family_F)

    def _crop(self, row: Crop, rng: np.random.Generator) -> UInt8:
        """As another detection of the face would give it."""
        side = row.box_4[2:] - row.box_4[:2]
        box_4 = (row.box_4 + np.tile(side * rng.uniform(-0.05, 0.05, 2), 2)).astype(np.float32)
        return cut(self._feedback.picture(row), box_4, row.landmarks_K2, margin=rng.uniform(1.15, 1.5), size=self._size)[0]

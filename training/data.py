"""Batches of pairs, a real crop beside a fake one that shares its degradation; every pair follows from (seed, step, slot) alone.

Kinds of pairs: *aligned* (an FF++ fake's frame and its original's, same box), *blend* (a self-blended image and its partner),
*composite* (a manipulated face beside any real one of its source), *synthetic* (so too a generated picture), *reconstruction* (a
picture and itself through an autoencoder, one JPEG quality), *traces* (a picture up-sampled as generators do, beside a bicubic
control) and *processing* (a picture recoloured, softened or sharpened all over). No torch here: batches are made in a process
of their own.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from training import augment, cover, vary
from training.blend import align_donor, lay_part, mirrored, self_blend, unlikeness
from training.errors import damaged_shard
from training.prepare import RECONSTRUCTED, Crop, cut, read_index
from training.processing import processed
from training.settings import KINDS, PROCESSED, Mixture
from training.upsample import traces
from worker.errors import ConfigError
from worker.faces.crop import MARGIN
from worker.types import Float32, Int64, UInt8

WORK_PX = 224
"""Pairs are blended and degraded at the size that the network is for, at this at least, then brought to the stage's."""
APART_LEVELS = 6.0
"""Grey levels, blurred: an FF++ fake differs by less from its original where nothing was made, the two being compressed apart."""
SYNTHETIC = "synthetic"
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """crops_FHWC uint8, real and fake alternating; family_F int64 into the mixture's families.

    ``where_FHW``: float32, a value for each 16 x 16 pixels: how much of it is fake, NaN where unknown. None: nobody said.
    """

    crops_FHWC: UInt8
    family_F: Int64
    where_FHW: Float32 | None = None

    def __post_init__(self) -> None:
        if self.crops_FHWC.shape[:1] != self.family_F.shape or self.crops_FHWC.dtype != np.uint8:
            raise ValueError(f"crops {self.crops_FHWC.shape} {self.crops_FHWC.dtype}, families {self.family_F.shape}")
        if self.where_FHW is not None and (self.where_FHW.ndim != 3 or len(self.where_FHW) != len(self.family_F)):
            raise ValueError(f"where {self.where_FHW.shape}, families {self.family_F.shape}")


class CropStore:
    """The cache's pictures by index row; shards are mapped, not read, ``open_shards`` at a time: each holds a file open."""

    def __init__(
        self, cache: Path, rows: Sequence[Crop] | None = None, *, hold_out: Collection[str] = (), open_shards: int = 512
    ) -> None:
        self.rows = held_out(read_index(cache) if rows is None else rows, hold_out)
        self._cache = cache
        self._shard = lru_cache(open_shards)(partial(map_shard, cache))

    def picture(self, row: Crop) -> UInt8:
        """Raises ConfigError where its shard is damaged."""
        try:
            return np.ascontiguousarray(self._shard(row.shard)[row.row])
        except IndexError as exc:
            raise damaged_shard(self._cache / f"{row.shard}.npy", exc) from exc

    def crop(self, row: Crop, *, margin: float = MARGIN, size: int = WORK_PX) -> UInt8:
        """The crop that a scan would score (undegraded)."""
        return cut(self.picture(row), row.box_4, row.landmarks_K2, margin=margin, size=size)[0]


def held_out(rows: Sequence[Crop], groups: Collection[str]) -> list[Crop]:
    """The rows, those of ``groups`` as of ``heldout``, without recompressed copies and reconstructions. Raises ConfigError for a
    group that ``train`` has not got."""
    if unknown := sorted(set(groups) - {row.group for row in rows if row.split == "train"}):
        raise ConfigError(f"hold_out: the cache's training rows know no group {unknown[0]}")
    kept = [row for row in rows if row.group not in groups or not (row.variant or row.source == RECONSTRUCTED)]
    return [replace(row, split="heldout") if row.group in groups and row.split == "train" else row for row in kept]


def map_shard(cache: Path, name: str) -> UInt8:
    """The shard's pictures, mapped. Raises ConfigError where the file is damaged or gone."""
    path = cache / f"{name}.npy"
    try:
        pictures: UInt8 = np.load(path, mmap_mode="r")
    except (FileNotFoundError, ValueError, EOFError) as exc:
        raise damaged_shard(path, exc) from exc
    return pictures


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """``real_HWC`` and ``fake_HWC`` uint8 of one size, before the degradation they share.

    ``mask_HW``: where a blend was made, else None; ``same_picture``: False where the two show different people.
    """

    real_HWC: UInt8
    fake_HWC: UInt8
    family: str
    mask_HW: Float32 | None = None
    same_picture: bool = True

    @property
    def where_HW(self) -> Float32 | None:
        """float32 0 to 1: where the fake is one: a mask that was blended by, all of a generated picture, and where two of one
        moment differ by more than compression makes them; None for two pictures, or colours, that differ all over."""
        if self.mask_HW is not None:
            return (self.mask_HW > 0.05).astype(np.float32)
        if self.family == SYNTHETIC or self.family == PROCESSED:
            return np.ones(self.fake_HWC.shape[:2], np.float32)
        if not self.same_picture:
            return None
        apart_HW = np.abs(self.fake_HWC.astype(np.float32) - self.real_HWC).mean(axis=2)
        found_HW = (cv2.GaussianBlur(apart_HW, (0, 0), 4) > APART_LEVELS).astype(np.float32)
        edge = len(found_HW) // 8
        edges_HW = np.ones(found_HW.shape, bool)
        edges_HW[edge:-edge, edge:-edge] = False
        return found_HW if found_HW.any() and found_HW[edges_HW].mean() < 0.15 else None


def is_left_out(row: Crop, names: Collection[str]) -> bool:
    """Whether ``Mixture.leave_out`` names this fake, by its source or its manipulation."""
    return row.label == "fake" and (row.source in names or row.manipulation in names)


def changed_alike(pair: Pair, mixture: Mixture, rng: np.random.Generator) -> tuple[list[UInt8], Float32 | None]:
    """The real crop and the fake one, varied, lit and covered alike in the mixture's shares; and where the fake is one then."""
    varied = vary.draw(rng, share=mixture.varied, tilted=mixture.tilted)
    lit = vary.draw_light(rng, share=mixture.lit)
    over = cover.draw(rng, covered=mixture.covered, smoothed=mixture.smoothed, widely_smoothed=mixture.widely_smoothed)
    crops = vary.light(lit, vary.apply(varied, (pair.real_HWC, pair.fake_HWC)))
    return cover.apply(over, crops), vary.move_mask(varied, pair.where_HW)


class PairMaker:
    """Makes pairs of every kind from the training rows of a cache, crops of ``size``. ``ready``: the kinds that it has something
    for; ``unpaired``: sources of fakes that no real file of theirs can stand beside."""

    def __init__(self, store: CropStore, mixture: Mixture, size: int = WORK_PX) -> None:
        self._store, self._mixture, self._size = store, mixture, size
        rows = [row for row in store.rows if row.split == "train" and not is_left_out(row, mixture.leave_out)]
        self._parents = _by(rows, "real", lambda row: row.source)
        self._of_clip = _by(rows, "real", lambda row: (row.path, row.variant))
        self._reals = {_moment(row): row for row in rows if row.target and row.label == "real"}
        remade = [row for row in rows if row.source == RECONSTRUCTED]
        aligned = [row for row in rows if row.label == "fake" and row.source != RECONSTRUCTED and _moment(row) in self._reals]
        kinds = _by(aligned, "fake", lambda row: row.manipulation).values()
        self._clips = [list(_by(kind, "fake", lambda row: row.path).values()) for kind in kinds]
        self._by_path = {row.path: row for row in rows if row.label == "real"}
        self._remade = [row for row in remade if row.target in self._by_path]
        self._remade_of = {row.target: row for row in self._remade}
        alone = [row for row in rows if row.source != RECONSTRUCTED and _moment(row) not in self._reals]
        self.unpaired: set[str] = set()
        self._composites = self._beside_reals(alone, "manipulation", mixture.composites, mixture.composite)
        self._synthetics = self._beside_reals(alone, "synthetic", mixture.synthetics, mixture.synthetic)
        shares = mixture.parents or {name: float(len({row.path for row in part})) for name, part in self._parents.items()}
        weights = {name: share for name, share in shares.items() if name in self._parents and share > 0}
        self._parent_names = list(weights)
        self._parent_share = np.array(list(weights.values())) / max(sum(weights.values()), 1e-9)
        there = {
            "aligned": bool(self._clips),
            "composite": bool(self._composites),
            "synthetic": bool(self._synthetics),
            "reconstruction": bool(self._remade),
        }
        self.ready = frozenset(kind for kind in KINDS if there.get(kind, bool(weights)))

    def _beside_reals(self, fakes: Sequence[Crop], family: str, sources: Sequence[str], share: float) -> dict[str, list[Crop]]:
        """Fakes of one family by source, where the source has real files too; ``sources`` empty: of any."""
        by_source = _by([row for row in fakes if row.its_family == family], "fake", lambda row: row.source)
        wanted = {name: rows for name, rows in by_source.items() if name in sources or not sources}
        self.unpaired |= wanted.keys() - self._parents.keys() if share > 0 else set()
        return {name: rows for name, rows in wanted.items() if name in self._parents}

    def pair(self, kind: str, rng: np.random.Generator) -> Pair:
        """A pair of one of the kinds that are ready."""
        made: Pair = getattr(self, f"_{kind}")(rng)
        return made

    def _aligned(self, rng: np.random.Generator) -> Pair:
        fake = _pick(rng, _pick(rng, _pick(rng, self._clips)))
        jitter = _Jitter.draw(rng)
        (real_HWC, landmarks_K2), (fake_HWC, _) = self._cut(self._reals[_moment(fake)], jitter), self._cut(fake, jitter)
        if self._mixture.partial > 0 and rng.random() < self._mixture.partial:
            part = lay_part(rng, fake_HWC, real_HWC, landmarks_K2)
            if part is not None:
                fake_HWC = part.fake_HWC
        return Pair(real_HWC=real_HWC, fake_HWC=fake_HWC, family=fake.its_family)

    def _blend(self, rng: np.random.Generator) -> Pair:
        rows = self._some_parents(rng)
        row, jitter = _pick(rng, rows), _Jitter.draw(rng)
        face, landmarks = self._cut(row, jitter)
        donor, part = self._donor(rng, row, rows, jitter, face, landmarks)
        made = self_blend(rng, face, landmarks, donor, part=part)
        return Pair(real_HWC=made.partner_HWC, fake_HWC=made.fake_HWC, family="blend", mask_HW=made.mask_HW)

    def _donor(
        self, rng: np.random.Generator, row: Crop, rows: Sequence[Crop], jitter: _Jitter, face: UInt8, landmarks: Float32
    ) -> tuple[UInt8 | None, bool]:
        """What is blended in, aligned to the face (None: the face itself), and whether only as eyes or a mouth."""
        kind = rng.random()
        until_other = self._mixture.donor
        until_mirrored = until_other + self._mixture.mirrored_donor
        if kind < until_other:
            others = [_pick(rng, rows) for _ in range(self._mixture.donor_candidates)]
            other = min(others, key=lambda one: unlikeness(one.landmarks_K2, landmarks)) if len(others) > 1 else others[0]
            return (align_donor(*self._cut(other, jitter), face, landmarks) if other.group != row.group else None), False
        if kind < until_mirrored:
            return mirrored(face, landmarks), True
        until_remade = until_mirrored + self._mixture.remade_donor
        if kind < until_remade:
            remade = self._remade_of.get(row.path)
            return (self._cut(remade, jitter)[0] if remade else None), False
        if kind < until_remade + self._mixture.own_donor:
            moments = [other for other in self._of_clip[row.path, row.variant] if other.frame != row.frame]
            return (align_donor(*self._cut(_pick(rng, moments), jitter), face, landmarks) if moments else None), False
        return None, False

    def _some_parents(self, rng: np.random.Generator) -> Sequence[Crop]:
        return self._parents[self._parent_names[rng.choice(len(self._parent_names), p=self._parent_share)]]

    def _composite(self, rng: np.random.Generator) -> Pair:
        return self._strangers(rng, self._composites, "manipulation")

    def _synthetic(self, rng: np.random.Generator) -> Pair:
        return self._strangers(rng, self._synthetics, "synthetic")

    def _reconstruction(self, rng: np.random.Generator) -> Pair:
        fake = _pick(rng, self._remade)
        return self._two(rng, self._by_path[fake.target], fake, "synthetic")

    def _traces(self, rng: np.random.Generator) -> Pair:
        control, fake = traces(rng, self._some_crop(rng))
        return Pair(real_HWC=control, fake_HWC=fake, family="synthetic")

    def _processing(self, rng: np.random.Generator) -> Pair:
        partner, fake = processed(rng, self._some_crop(rng))
        return Pair(real_HWC=partner, fake_HWC=fake, family=PROCESSED)

    def _some_crop(self, rng: np.random.Generator) -> UInt8:
        return self._cut(_pick(rng, self._some_parents(rng)), _Jitter.draw(rng))[0]

    def _strangers(self, rng: np.random.Generator, fakes: dict[str, list[Crop]], family: str) -> Pair:
        """Of one source; a source counts by its fakes."""
        sizes = np.array([len(rows) for rows in fakes.values()])
        source = list(fakes)[rng.choice(len(sizes), p=sizes / sizes.sum()) if len(sizes) > 1 else 0]
        real, fake = _pick(rng, self._parents[source]), _pick(rng, fakes[source])
        return self._two(rng, real, fake, family)

    def _two(self, rng: np.random.Generator, real: Crop, fake: Crop, family: str) -> Pair:
        jitter = _Jitter.draw(rng)
        crops = self._cut(real, jitter)[0], self._cut(fake, jitter)[0]
        same = bool(fake.target) and fake.target in (real.target, real.path)
        return Pair(real_HWC=crops[0], fake_HWC=crops[1], family=family, same_picture=same)

    def _cut(self, row: Crop, jitter: _Jitter) -> tuple[UInt8, Float32]:
        box = jitter.moved(row.box_4)
        crop, _, landmarks = cut(self._store.picture(row), box, row.landmarks_K2, margin=jitter.margin, size=self._size)
        return crop, landmarks


class PairSampler:
    """Draws batches of a mixture. Raises ConfigError where a kind with a share has nothing to draw from; by ``mixture.absent`` it
    is ``left_out`` instead, and the error is a cache with nothing at all; and for a name in ``mixture.leave_out`` of no fake.
    ``size``: of the crops that the network is for."""

    def __init__(self, store: CropStore, mixture: Mixture, seed: int, size: int = WORK_PX) -> None:
        if unknown := [name for name in mixture.leave_out if not any(is_left_out(row, (name,)) for row in store.rows)]:
            raise ConfigError(f"the cache has no fakes of a source or manipulation {', '.join(unknown)} to leave out")
        self._maker, self._mixture, self._seed = PairMaker(store, mixture, max(size, WORK_PX)), mixture, seed
        shares = {kind: float(getattr(mixture, kind)) for kind in KINDS}
        self.left_out = [kind for kind, share in shares.items() if share > 0 and kind not in self._maker.ready]
        self._kinds = [kind for kind in KINDS if shares[kind] > 0 and kind in self._maker.ready]
        if self.left_out and (mixture.absent == "refuse" or not self._kinds):
            raise ConfigError(f"the cache has nothing for the pairs {', '.join(self.left_out)} of the mixture")
        drawn = np.array([shares[kind] for kind in self._kinds])
        self._until = np.cumsum(drawn / drawn.sum() if self.left_out else drawn)

    @property
    def notes(self) -> list[str]:
        """What of the mixture or of the cache is in no batch."""
        names, missing = ", ".join(sorted(self._maker.unpaired)), ", ".join(self.left_out)
        found = [f"the cache has nothing for the pairs {missing} of the mixture: left out"] if missing else []
        if names:
            found.append(f"fakes of {names} without an original are in no pair: the cache has no real training files beside them")
        return found

    def batch(self, step: int, pairs: int, size: int, window: int | None = None) -> Batch:
        """``pairs`` real and as many fake crops of ``size``, or windows of them; kinds in proportion to their shares."""
        start = np.random.default_rng([self._seed, step]).random()
        kinds = np.searchsorted(self._until[:-1], (np.arange(pairs) + start) / pairs, side="right")
        crops: list[UInt8] = []
        where: list[Float32] = []
        family: list[int] = []
        for slot, kind in enumerate(kinds):
            rng = np.random.default_rng([self._seed, step, slot])
            pair = self._maker.pair(self._kinds[kind], rng)
            how = augment.draw(rng)
            place = augment.draw_window(rng, size, window or size)
            crops_2, where_HW = changed_alike(pair, self._mixture, rng)
            crops += [crop[place] for crop in augment.apply(how, crops_2, size)]
            coarse = augment.coarsen(augment.move_mask(how, where_HW, size)[place])
            where += [np.zeros_like(coarse), coarse]
            family += [0, self._mixture.families.index(pair.family)]
        return Batch(crops_FHWC=np.stack(crops), family_F=np.array(family, np.int64), where_FHW=np.stack(where))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Jitter:
    """A detector's box is never quite the same twice."""

    margin: float
    shift: tuple[float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Jitter:
        return cls(margin=rng.uniform(1.15, 1.5), shift=(rng.uniform(-0.05, 0.05), rng.uniform(-0.05, 0.05)))

    def moved(self, box_4: Float32) -> Float32:
        size = box_4[2:] - box_4[:2]
        return (box_4 + np.tile(size * np.array(self.shift, np.float32), 2)).astype(np.float32)


def _moment(row: Crop) -> tuple[str, int, str]:
    return row.target, row.frame, row.variant


def _by(rows: Sequence[Crop], label: str, key: Callable[[Crop], K]) -> dict[K, list[Crop]]:
    groups: dict[K, list[Crop]] = defaultdict(list)
    for row in rows:
        if row.label == label:
            groups[key(row)].append(row)
    return dict(groups)


def _pick(rng: np.random.Generator, values: Sequence[T]) -> T:
    return values[int(rng.integers(len(values)))]


_sampler: PairSampler | None = None


def start_loader(cache: Path, mixture: Mixture, seed: int, hold_out: Sequence[str] = (), size: int = WORK_PX) -> None:
    """Initialiser of the loading process: it keeps its sampler for all batches."""
    global _sampler
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    _sampler = PairSampler(CropStore(cache, hold_out=hold_out), mixture, seed, size)


def _end_with_parent() -> None:
    """A killed training would leave its loading processes waiting for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def load_batch(step: int, pairs: int, size: int, window: int | None = None) -> Batch:
    """One batch, in the loading process."""
    if _sampler is None:
        raise RuntimeError("start_loader was not called in this process")
    return _sampler.batch(step, pairs, size, window)

"""Batches of pairs, a real crop beside a fake one that shares its degradation; every pair follows from (seed, step, slot) alone.

Kinds of pairs: *aligned* (an FF++ fake's frame and its original's, same box), *blend* (a self-blended image and its partner),
*composite* (Photoshop composites, ciplab), *synthetic* (StyleGAN and FFHQ pictures of one format, 140k), *reconstruction* (a
picture and itself through an autoencoder, one JPEG quality) and *traces* (a picture up-sampled as generators do, beside a
bicubic control). No torch here: batches are made in a process of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from training import augment
from training.blend import align_donor, self_blend
from training.prepare import RECONSTRUCTED, Crop, cut, read_index
from training.settings import FAMILIES, Mixture
from training.upsample import traces
from worker.faces.crop import MARGIN
from worker.types import Float32, Int64, UInt8

WORK_PX = 224
"""Pairs are blended and degraded at this size, the network's at test time, then brought to the stage's."""
T = TypeVar("T")
KINDS = ("aligned", "blend", "composite", "synthetic", "reconstruction", "traces")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """crops_FHWC uint8, real and fake alternating; family_F int64 into FAMILIES."""

    crops_FHWC: UInt8
    family_F: Int64

    def __post_init__(self) -> None:
        if self.crops_FHWC.shape[:1] != self.family_F.shape or self.crops_FHWC.dtype != np.uint8:
            raise ValueError(f"crops {self.crops_FHWC.shape} {self.crops_FHWC.dtype}, families {self.family_F.shape}")


class CropStore:
    """The cache's pictures by index row; shards are mapped, not read."""

    def __init__(self, cache: Path, rows: Sequence[Crop] | None = None) -> None:
        self.rows = read_index(cache) if rows is None else list(rows)
        self._shards = {name: np.load(cache / f"{name}.npy", mmap_mode="r") for name in {row.shard for row in self.rows}}

    def picture(self, row: Crop) -> UInt8:
        return np.ascontiguousarray(self._shards[row.shard][row.row])

    def crop(self, row: Crop, *, margin: float = MARGIN, size: int = WORK_PX) -> UInt8:
        """The crop that a scan would score (undegraded)."""
        return cut(self.picture(row), row.box_4, row.landmarks_K2, margin=margin, size=size)[0]


class PairSampler:
    """Draws batches from the training rows of a cache. Raises ValueError where a kind with a share has nothing to draw from."""

    def __init__(self, store: CropStore, mixture: Mixture, seed: int) -> None:
        self._store, self._mixture, self._seed = store, mixture, seed
        rows = [row for row in store.rows if row.split == "train"]
        self._parents = _by(rows, "real", lambda row: row.source)
        self._reals = {_moment(row): row for row in rows if row.target and row.label == "real"}
        aligned = [row for row in rows if row.label == "fake" and _moment(row) in self._reals]
        kinds = _by(aligned, "fake", lambda row: row.manipulation).values()
        self._clips = [list(_by(kind, "fake", lambda row: row.path).values()) for kind in kinds]
        self._by_path = {row.path: row for row in rows if row.label == "real" and not row.target}
        self._made = [row for row in rows if row.source == RECONSTRUCTED and row.target in self._by_path]
        self._pictures = {name: _by(rows, name, lambda row: row.source) for name in ("real", "fake")}
        weights = {name: share for name, share in mixture.parents.items() if name in self._parents}
        self._parent_names = list(weights)
        self._parent_share = np.array(list(weights.values())) / max(sum(weights.values()), 1e-9)
        shares = np.array([getattr(mixture, kind) for kind in KINDS])
        ready = [bool(self._clips), bool(weights), self._has("ciplab"), self._has("140k"), bool(self._made), bool(weights)]
        empty = [kind for kind, share, there in zip(KINDS, shares, ready, strict=True) if share > 0 and not there]
        if empty:
            raise ValueError(f"the cache has nothing for {', '.join(empty)}")
        self._until = np.cumsum(shares)

    def _has(self, source: str) -> bool:
        return all(source in self._pictures[label] for label in ("real", "fake"))

    def batch(self, step: int, pairs: int, size: int) -> Batch:
        """``pairs`` real and as many fake crops of ``size``; kinds in proportion to their shares."""
        start = np.random.default_rng([self._seed, step]).random()
        kinds = np.searchsorted(self._until[:-1], (np.arange(pairs) + start) / pairs, side="right")
        crops: list[UInt8] = []
        family: list[int] = []
        for slot, kind in enumerate(kinds):
            rng = np.random.default_rng([self._seed, step, slot])
            real, fake, name = getattr(self, f"_{KINDS[kind]}")(rng)
            crops += augment.apply(augment.draw(rng), (real, fake), size)
            family += [0, FAMILIES.index(name)]
        return Batch(crops_FHWC=np.stack(crops), family_F=np.array(family, np.int64))

    def _aligned(self, rng: np.random.Generator) -> tuple[UInt8, UInt8, str]:
        fake = _pick(rng, _pick(rng, _pick(rng, self._clips)))
        real = self._reals[_moment(fake)]
        jitter = _Jitter.draw(rng)
        return self._cut(real, jitter)[0], self._cut(fake, jitter)[0], "manipulation"

    def _blend(self, rng: np.random.Generator) -> tuple[UInt8, UInt8, str]:
        rows = self._some_parents(rng)
        row, jitter = _pick(rng, rows), _Jitter.draw(rng)
        face, landmarks = self._cut(row, jitter)
        donor = None
        if rng.random() < self._mixture.donor:
            other = _pick(rng, rows)
            if other.group != row.group:
                donor = align_donor(*self._cut(other, jitter), face, landmarks)
        made = self_blend(rng, face, landmarks, donor)
        return made.partner_HWC, made.fake_HWC, "blend"

    def _some_parents(self, rng: np.random.Generator) -> Sequence[Crop]:
        return self._parents[self._parent_names[rng.choice(len(self._parent_names), p=self._parent_share)]]

    def _composite(self, rng: np.random.Generator) -> tuple[UInt8, UInt8, str]:
        return *self._two_pictures(rng, "ciplab"), "manipulation"

    def _synthetic(self, rng: np.random.Generator) -> tuple[UInt8, UInt8, str]:
        return *self._two_pictures(rng, "140k"), "synthetic"

    def _reconstruction(self, rng: np.random.Generator) -> tuple[UInt8, UInt8, str]:
        fake, jitter = _pick(rng, self._made), _Jitter.draw(rng)
        return self._cut(self._by_path[fake.target], jitter)[0], self._cut(fake, jitter)[0], "synthetic"

    def _traces(self, rng: np.random.Generator) -> tuple[UInt8, UInt8, str]:
        crop, _ = self._cut(_pick(rng, self._some_parents(rng)), _Jitter.draw(rng))
        return *traces(rng, crop), "synthetic"

    def _two_pictures(self, rng: np.random.Generator, source: str) -> tuple[UInt8, UInt8]:
        real, fake = (_pick(rng, self._pictures[label][source]) for label in ("real", "fake"))
        jitter = _Jitter.draw(rng)
        return self._cut(real, jitter)[0], self._cut(fake, jitter)[0]

    def _cut(self, row: Crop, jitter: _Jitter) -> tuple[UInt8, Float32]:
        box = jitter.moved(row.box_4)
        crop, _, landmarks = cut(self._store.picture(row), box, row.landmarks_K2, margin=jitter.margin, size=WORK_PX)
        return crop, landmarks


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


def _by(rows: Sequence[Crop], label: str, key: Callable[[Crop], str]) -> dict[str, list[Crop]]:
    groups: dict[str, list[Crop]] = defaultdict(list)
    for row in rows:
        if row.label == label:
            groups[key(row)].append(row)
    return dict(groups)


def _pick(rng: np.random.Generator, values: Sequence[T]) -> T:
    return values[int(rng.integers(len(values)))]


_sampler: PairSampler | None = None


def start_loader(cache: Path, mixture: Mixture, seed: int) -> None:
    """Initialiser of the loading process: it keeps its sampler for all batches."""
    global _sampler
    cv2.setNumThreads(1)
    _sampler = PairSampler(CropStore(cache), mixture, seed)


def load_batch(step: int, pairs: int, size: int) -> Batch:
    """One batch, in the loading process."""
    if _sampler is None:
        raise RuntimeError("start_loader was not called in this process")
    return _sampler.batch(step, pairs, size)

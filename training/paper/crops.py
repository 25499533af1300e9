"""Crops as training sees them: cut, degraded and mixed by AugMix, each following from (seed, epoch, crop) alone; and their order.

So a run that is cut and continued, or that loads in other processes, sees the very same batches.
Axes: F crops, H rows, W columns, C colours.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import augment_and_mix_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from training import augment
from training.data import CropStore
from training.paper.noise import Plan, key_number
from training.paper.settings import Augmentation
from training.prepare import Crop
from worker.types import UInt8

MARGINS = (1.15, 1.5)
"""A detector's box is never quite the same twice; a scan cuts at ``worker.faces.crop.MARGIN``."""


class Samples(NamedTuple):
    """A batch. crops_FHWC uint8, fake_F int64 (0, 1), alpha_F float32 (1: clean), key_F int64 (seed of the crop's noise)."""

    crops_FHWC: Tensor
    fake_F: Tensor
    alpha_F: Tensor
    key_F: Tensor


class Crops(Dataset[Any]):
    """Items are asked for as (epoch, number). Without an augmentation they are the very crops that a scan would score."""

    def __init__(
        self, cache: Path, rows: Sequence[Crop], *, size: int, plan: Plan | None, augmentation: Augmentation | None, seed: int
    ) -> None:
        self._cache, self._rows, self._size, self._seed = cache, list(rows), size, seed
        self._plan = plan or Plan(alpha={})
        self._augmentation = augmentation
        self._store: CropStore | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapped files, which a process that loads opens for itself."""
        return self.__dict__ | {"_store": None}

    def __getitem__(self, place: tuple[int, int]) -> Samples:
        epoch, number = place
        if self._store is None:
            cv2.setNumThreads(1)
            self._store = CropStore(self._cache, self._rows)
        row = self._rows[number]
        crop_HWC = self._cut(self._store, row, epoch)
        return Samples(
            torch.from_numpy(crop_HWC),
            torch.tensor(int(row.label == "fake")),
            torch.tensor(self._plan.alpha_of(row), dtype=torch.float32),
            torch.tensor(key_number(row)),
        )

    def _cut(self, store: CropStore, row: Crop, epoch: int) -> UInt8:
        how = self._augmentation
        if how is None:
            return store.crop(row, size=self._size)
        rng = np.random.default_rng([self._seed, epoch, key_number(row)])
        if how.degrade:
            crop_HWC = augment.apply(augment.draw(rng), [store.crop(row, margin=rng.uniform(*MARGINS))], self._size)[0]
        else:
            crop_HWC = store.crop(row, size=self._size)
            crop_HWC = crop_HWC[:, ::-1] if rng.random() < 0.5 else crop_HWC
        if how.augmix is not None:
            crop_HWC = mixed(how.augmix, crop_HWC, int(rng.integers(1 << 31)))
        return np.ascontiguousarray(crop_HWC)


def mixed(words: str, crop_HWC: UInt8, seed: int) -> UInt8:
    """AugMix (Hendrycks et al., ICLR 2020) by timm, which draws from the global generators: they are seeded here."""
    transform: Callable[[Image.Image], Image.Image] = augment_and_mix_transform(words, {})
    random.seed(seed)
    np.random.seed(seed)
    return np.array(transform(Image.fromarray(crop_HWC)), np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """This process's place among those that train together."""

    rank: int = 0
    world: int = 1


class Order(Sampler[list[tuple[int, int]]]):
    """Batches of one epoch from ``start`` on, this process's share of each.

    Shuffled: a permutation by (seed, epoch); an incomplete last batch is left out where there are others, so that all processes
    take as many steps. Not shuffled: every crop once.
    """

    def __init__(
        self, count: int, *, batch: int, epoch: int = 0, start: int = 0, seed: int | None = None, share: Share | None = None
    ) -> None:
        self._count, self._batch, self._epoch, self._start, self._seed = count, batch, epoch, start, seed
        self._share = share or Share()

    def __len__(self) -> int:
        return batches_in(self._count, self._batch, whole=self._seed is not None) - self._start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        numbers = list(range(self._count))
        if self._seed is not None:
            numbers = np.random.default_rng([self._seed, self._epoch]).permutation(self._count).tolist()
        for place in range(self._start, self._start + len(self)):
            members = numbers[place * self._batch : (place + 1) * self._batch]
            if own := members[self._share.rank :: self._share.world]:
                yield [(self._epoch, number) for number in own]


def batches_in(count: int, batch: int, *, whole: bool) -> int:
    """Batches of one epoch; ``whole``: an incomplete last one only counts alone."""
    return max(1, count // batch) if whole else -(-count // batch)


def loader(crops: Crops, order: Order, workers: int) -> DataLoader[Any]:
    return DataLoader(crops, batch_sampler=order, num_workers=workers, pin_memory=torch.cuda.is_available())

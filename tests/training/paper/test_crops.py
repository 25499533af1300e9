"""Crops and their order follow from seed, epoch and name; several processes share a batch without a gap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training.data import CropStore
from training.paper.crops import Crops, Order, Share, loader
from training.paper.settings import Augmentation
from training.prepare import read_index

AUGMIX = Augmentation(degrade=False, augmix="augmix-m3-w3")


def test_without_augmentation_a_crop_is_the_one_that_a_scan_scores(crops: Path) -> None:
    rows = read_index(crops)[:2]
    found = Crops(crops, rows, size=64, plan=None, augmentation=None, seed=1)[0, 1]
    assert np.array_equal(found.crops_FHWC.numpy(), CropStore(crops).crop(rows[1], size=64))
    assert found.fake_F.item() == int(rows[1].label == "fake")


@pytest.mark.parametrize("how", [Augmentation(), AUGMIX])
def test_an_augmented_crop_follows_from_seed_epoch_and_name(how: Augmentation, crops: Path) -> None:
    rows = read_index(crops)[:4]
    one = Crops(crops, rows, size=48, plan=None, augmentation=how, seed=1)
    other = Crops(crops, rows[::-1], size=48, plan=None, augmentation=how, seed=1)
    other[0, 2]
    assert torch.equal(one[5, 0].crops_FHWC, other[5, 3].crops_FHWC)
    assert not torch.equal(one[5, 0].crops_FHWC, one[6, 0].crops_FHWC)


def test_augmix_changes_the_picture(crops: Path) -> None:
    row = read_index(crops)[0]
    mixed = Crops(crops, [row], size=48, plan=None, augmentation=AUGMIX, seed=1)[0, 0].crops_FHWC.numpy()
    plain = CropStore(crops).crop(row, size=48)
    assert not np.array_equal(mixed, plain)
    assert not np.array_equal(mixed, plain[:, ::-1])


def numbers(order: Order) -> list[list[int]]:
    return [[number for _, number in batch] for batch in order]


def test_an_epoch_goes_on_at_any_batch() -> None:
    whole = numbers(Order(22, batch=4, epoch=3, seed=1))
    assert len(whole) == 5  # the last two crops wait for another epoch's order
    assert numbers(Order(22, batch=4, epoch=3, start=2, seed=1)) == whole[2:]
    assert numbers(Order(22, batch=4, epoch=4, seed=1)) != whole


def test_processes_share_each_batch_without_a_gap() -> None:
    whole = numbers(Order(16, batch=4, epoch=0, seed=1))
    shares = [numbers(Order(16, batch=4, epoch=0, seed=1, share=Share(rank=rank, world=2))) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(batch) for batch in whole]


def test_validation_sees_every_crop_once_whatever_the_number_of_processes() -> None:
    shares = [numbers(Order(9, batch=4, share=Share(rank=rank, world=2))) for rank in (0, 1)]
    assert sorted(number for share in shares for batch in share for number in batch) == list(range(9))


def test_a_small_set_is_one_batch(crops: Path) -> None:
    data = Crops(crops, read_index(crops)[:3], size=32, plan=None, augmentation=None, seed=1)
    (batch,) = loader(data, Order(3, batch=8, seed=1), workers=0)
    assert batch.crops_FHWC.shape == (3, 32, 32, 3)
    assert batch.crops_FHWC.dtype == torch.uint8

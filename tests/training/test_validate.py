"""Which crops a run is validated on, and the numbers that it is told by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.training.conftest import crop
from training.prepare import Crop
from training.validate import AT_ONCE, choose, logits_of, validate
from worker.types import UInt8


class Brightness(nn.Module):
    """Its logit is how much brighter than 100 a crop is."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(100.0))

    def forward(self, crops_FHWC: Tensor) -> Tensor:
        above_F = crops_FHWC.float().mean((1, 2, 3)) - self.level
        return torch.stack([torch.zeros_like(above_F), above_F], dim=1)


class Store:
    """Crops as bright as their rows' ``frame`` says."""

    def crop(self, row: Crop, *, size: int) -> UInt8:
        return np.full((size, size, 3), row.frame, np.uint8)


def clip(number: int, label: str, source: str, *levels: int, **more: object) -> list[Crop]:
    return [crop("s", number, label, source, split="heldout", frame=level, **more) for level in levels]


def judged(rows: list[Crop]) -> dict[str, float]:
    network: Any = Brightness()
    store: Any = Store()
    return validate(network, store, rows, size=2)


def test_files_that_are_learnt_from_are_not_validated_on() -> None:
    rows = [crop("s", number, "real", "lfw", split=split) for number, split in enumerate(("train", "heldout", "leftout"))]
    assert [row.split for row in choose(rows, frames_per_clip=2, pictures_per_class=9)] == ["heldout", "leftout"]


def test_of_clips_frames_are_spaced_and_of_pictures_there_are_only_so_many() -> None:
    rows = [*clip(0, "real", "ffpp", *range(9)), *clip(1, "fake", "ffpp", 1, 2)]
    rows += [one for number in range(4) for label in ("real", "fake") for one in clip(number, label, "lfw", number)]
    rows += [one for number in range(5, 8) for one in clip(number, "real", "ffpp", 0, 1)]
    chosen = choose(rows, frames_per_clip=3, pictures_per_class=2)
    assert len({row.path for row in chosen if row.source == "ffpp"}) == 5
    assert [row.frame for row in chosen if row.path == rows[0].path] == [0, 4, 8]
    assert [row.frame for row in chosen if row.path == rows[9].path] == [1, 2]
    assert [(row.label, row.frame) for row in chosen if row.source == "lfw"] == [
        ("fake", 0),
        ("fake", 1),
        ("real", 0),
        ("real", 1),
    ]


def test_clips_take_no_pictures_place() -> None:
    rows = [one for number in range(3) for one in clip(number, "real", "mine", 0, 1)] + clip(9, "real", "mine", 2)
    assert len(choose(rows, frames_per_clip=1, pictures_per_class=1)) == 4


def test_a_files_logit_is_the_mean_of_its_crops() -> None:
    rows = clip(0, "real", "ffpp", 90, 120) + [
        one for number in range(1, AT_ONCE + 6) for one in clip(number, "fake", "lfw", number)
    ]
    network: Any = Brightness()
    store: Any = Store()
    found = logits_of(network, store, rows, size=2)
    assert not network.training
    assert found[rows[0].path] == pytest.approx(5)
    assert [found[row.path] for row in rows[2:]] == [number - 100 for number in range(1, AT_ONCE + 6)]


def test_sources_are_judged_by_themselves_and_manipulations_against_all_real_files() -> None:
    rows = [*clip(0, "real", "ffpp", 50, 52), *clip(1, "real", "ffpp", 120), *clip(2, "fake", "ffpp", 150, 90)]
    rows += [*clip(3, "fake", "ffpp", 10, manipulation="faceswap"), *clip(4, "fake", "lfw", 101), *clip(5, "fake", "lfw", 100)]
    rows += clip(6, "real", "talking", 99)
    assert judged(rows) == {
        "ffpp AUC": pytest.approx(3 / 8),
        "ffpp/deepfakes AUC": pytest.approx(3 / 4),
        "ffpp/faceswap AUC": 0,
        "lfw called fake": pytest.approx(1 / 2),
        "talking called fake": 0,
    }

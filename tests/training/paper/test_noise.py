"""The paper's noise: exactly floor(N/2) crops, stratified, seeded; equation 2 to the letter."""

from __future__ import annotations

import math
from collections import Counter
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest
import torch

from training.paper.noise import corrupt, draw_plan, key_number, read_plan, shares, write_plan
from training.paper.sets import TrainingSet, key_of
from worker.errors import ConfigError


def a_set(faces: ModuleType, *counts: int) -> TrainingSet:
    """Training crops real a, fake a, real b, fake b, then validation crops of the same, as many as told."""
    made = [
        [faces.crop(f"{source}-{label}-{use}", n, label, source) for n in range(count)]
        for count, (use, source, label) in zip(
            counts, [(u, s, la) for u in "tv" for s in "ab" for la in ("real", "fake")], strict=True
        )
    ]
    return TrainingSet(train=tuple(chain.from_iterable(made[:4])), validation=tuple(chain.from_iterable(made[4:])))


@pytest.mark.parametrize(
    "counts", [(7, 5, 3, 9, 1, 1, 3, 5), (8, 8, 8, 8, 2, 2, 2, 2), (7, 8, 3, 9, 1, 1, 3, 5), (1, 0, 0, 0, 0, 0, 0, 0)]
)
def test_half_of_the_set_and_of_every_stratum(counts: tuple[int, ...], faces: ModuleType) -> None:
    chosen = a_set(faces, *counts)
    plan = draw_plan(chosen, alpha=(0.1, 0.9), seed=3)
    assert len(plan.alpha) == sum(counts) // 2
    for use in (chosen.train, chosen.validation):
        whole = Counter((row.source, row.label) for row in use)
        noisy = Counter((row.source, row.label) for row in use if key_of(row) in plan.alpha)
        assert all(noisy[stratum] in (count // 2, -(-count // 2)) for stratum, count in whole.items())


def test_levels_are_uniform_seeded_and_unique(faces: ModuleType) -> None:
    chosen = a_set(faces, *(100,) * 8)
    levels = draw_plan(chosen, alpha=(0.1, 0.9), seed=1).alpha
    values = sorted(levels.values())
    assert len(set(values)) == 400
    assert all(abs(value - (0.1 + 0.8 * (place + 0.5) / 400)) < 0.06 for place, value in enumerate(values))
    assert draw_plan(chosen, alpha=(0.1, 0.9), seed=1).alpha == levels
    assert draw_plan(chosen, alpha=(0.1, 0.9), seed=2).alpha != levels


def test_equation_2_on_normalised_values() -> None:
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) + 3
    out = corrupt(pixels, torch.tensor([0.36, 1.0]), torch.tensor([5, 6]), seed=1)
    assert torch.equal(out[1], pixels[1])
    noise = (out[0] - 0.6 * pixels[0]) / 0.8
    assert abs(float(noise.mean())) < 0.03
    assert abs(float(noise.std()) - 1) < 0.02
    assert abs(float((noise * (pixels[0] - 3)).mean())) < 0.03
    assert float(out.abs().max()) > 4  # nothing was clipped


def test_noise_follows_the_crop_not_its_batch() -> None:
    pixels, alpha, keys = torch.zeros(4, 3, 8, 8), torch.tensor([0.5, 0.5, 1.0, 0.2]), torch.tensor([11, 12, 13, 14])
    whole = corrupt(pixels, alpha, keys, seed=1)
    order = torch.tensor([3, 1, 0, 2])
    assert torch.equal(corrupt(pixels[order], alpha[order], keys[order], seed=1), whole[order])
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(corrupt(pixels, alpha, keys, seed=2)[0], whole[0])


def test_a_plan_is_written_and_read_with_every_crop_of_the_set(faces: ModuleType, tmp_path: Path) -> None:
    chosen = a_set(faces, 3, 2, 3, 2, 1, 1, 1, 1)
    plan = draw_plan(chosen, alpha=(0.1, 0.9), seed=1)
    write_plan(plan, chosen, tmp_path / "plan.csv")
    assert read_plan(tmp_path / "plan.csv") == plan
    assert len((tmp_path / "plan.csv").read_text().splitlines()) == 1 + 14
    assert sum(line["real noisy"] + line["fake noisy"] for line in shares(plan, chosen.rows).values()) == 7
    with pytest.raises(ConfigError, match=r"none\.csv"):
        read_plan(tmp_path / "none.csv")


def test_crops_are_told_apart_by_number(faces: ModuleType) -> None:
    rows = a_set(faces, *(40,) * 8).rows
    numbers = {key_number(row) for row in rows}
    assert len(numbers) == len(rows)
    assert max(numbers) < math.ldexp(1, 62)

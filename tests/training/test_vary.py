"""What is varied is varied on both crops of a pair alike, mask and all, and says nothing of the label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from tests.training.conftest import picture
from training import vary
from training.vary import Light, Variation

STILL = Variation(turn_deg=0, stretch=(1, 1), interpolation=cv2.INTER_LINEAR, hue=0, saturation=1, gamma=1, lamp=(1, 1, 1))


def _drawn(seed: int) -> Variation:
    how = vary.draw(np.random.default_rng(seed), share=1.0)
    assert how is not None
    return how


def test_equal_pixels_stay_equal_away_from_what_differs() -> None:
    real = picture(1, 224)
    fake = real.copy()
    fake[90:130, 90:130] = 255 - fake[90:130, 90:130]
    differs_HW = np.zeros((224, 224), np.float32)
    differs_HW[86:134, 86:134] = 1
    for seed in range(20):
        how = _drawn(seed)
        one, two = vary.apply(how, (real, fake))
        moved_HW = vary.move_mask(how, differs_HW)
        assert moved_HW is not None
        assert np.array_equal(one[moved_HW == 0], two[moved_HW == 0])
        assert not np.array_equal(one, two)
        assert np.array_equal(vary.apply(how, (fake, real))[1], one)


def test_a_mask_moves_with_its_picture() -> None:
    mask_HW = np.zeros((224, 224), np.float32)
    mask_HW[60:90, 130:180] = 1
    shown = (mask_HW[..., None] * 255).astype(np.uint8).repeat(3, axis=2)
    for seed in range(20):
        how = _drawn(seed)
        moved_HW = vary.move_mask(how, mask_HW)
        assert moved_HW is not None
        there = vary.apply(how, (shown,))[0].max(-1) > 100
        both, either = np.logical_and(there, moved_HW > 0.5).sum(), np.logical_or(there, moved_HW > 0.5).sum()
        assert both > 0.9 * either


def test_a_mask_of_all_of_a_picture_stays_one() -> None:
    """What comes in from beyond the border is mirrored, so it is as fake as the rest."""
    whole_HW = np.ones((97, 97), np.float32)
    for seed in range(5):
        moved_HW = vary.move_mask(_drawn(seed), whole_HW)
        assert moved_HW is not None
        assert np.allclose(moved_HW, 1)


def test_what_is_not_varied_stays() -> None:
    crop = picture(1, 97)
    assert np.abs(vary.apply(STILL, (crop,))[0].astype(int) - crop).max() <= 6  # hue in half degrees, and back
    assert vary.apply(None, (crop,))[0] is crop
    assert vary.move_mask(None, None) is None


def test_the_middle_stays_and_a_turn_is_a_turn() -> None:
    crop = np.zeros((101, 101, 3), np.uint8)
    crop[50, 50:90] = 255
    turned = vary.apply(replace(STILL, turn_deg=90.0), (crop,))[0]
    assert turned[12:50, 50].min() > 200
    assert turned[50, 60:].max() < 60


def test_width_and_height_are_stretched_each_by_its_own() -> None:
    crop = np.zeros((101, 101, 3), np.uint8)
    crop[45:56, 45:56] = 255
    wide_HW = vary.apply(replace(STILL, stretch=(3, 1)), (crop,))[0].max(-1) > 127
    assert 30 <= wide_HW.any(axis=0).sum() <= 36
    assert 10 <= wide_HW.any(axis=1).sum() <= 12


@pytest.mark.parametrize("draw", [vary.draw, vary.draw_light])
def test_a_share_is_kept_and_a_share_of_nothing_draws_nothing(draw: Callable[..., object]) -> None:
    drawn = [draw(np.random.default_rng(seed), share=0.3) is not None for seed in range(400)]
    assert 0.22 < np.mean(drawn) < 0.38
    rng, untouched = np.random.default_rng(5), np.random.default_rng(5)
    assert draw(rng, share=0) is None
    assert rng.random() == untouched.random()


def test_light_falls_on_every_crop_alike_and_from_its_side() -> None:
    real = picture(1, 224)
    fake = real.copy()
    fake[90:130, 90:130] = 255 - fake[90:130, 90:130]
    for seed in range(20):
        how = vary.draw_light(np.random.default_rng(seed), share=1.0)
        one, two = vary.light(how, (real, fake))
        same_HW = (real == fake).all(-1)
        assert np.array_equal(one[same_HW], two[same_HW])
        assert not np.array_equal(one, real)
    gray = np.full((100, 100, 3), 120, np.uint8)
    from_right = Light(turn=0, place=0, width=0.1, gain=1.8, shade=0.5, colour=(1, 1, 0.9))
    lit = vary.light(from_right, (gray,))[0]
    assert np.abs(lit[50, 5].astype(int) - 60).max() <= 1
    assert np.abs(lit[50, 95].astype(int) - (216, 216, 194)).max() <= 1
    assert vary.light(from_right, (np.full((100, 100, 3), 250, np.uint8),))[0][50, 95].tolist() == [255, 255, 255]


def test_without_light_a_crop_is_the_crop() -> None:
    crop = picture(1, 64)
    assert vary.light(None, (crop,))[0] is crop


def test_tilted_ones_are_turned_further_than_others() -> None:
    turns: list[float] = []
    for seed in range(60):
        tilted = vary.draw(np.random.default_rng(seed), share=1.0, tilted=1.0)
        assert tilted is not None
        turns.append(tilted.turn_deg)
    assert max(turns) <= vary.TILTED_DEG
    assert max(turns) > 30 > -30 > min(turns) >= -vary.TILTED_DEG
    untilted = [_drawn(seed) for seed in range(60)]
    assert all(abs(how.turn_deg) <= vary.UPRIGHT_DEG for how in untilted)

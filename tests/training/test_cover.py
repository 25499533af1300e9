"""What is laid over faces is laid over both crops of a pair alike, and says nothing of the label."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.conftest import picture
from training import cover
from training.cover import LAYERS, Cover


def test_equal_pixels_stay_equal_and_a_crop_does_not_depend_on_its_neighbour() -> None:
    real = picture(1, 224)
    fake = real.copy()
    fake[80:140, 60:150] = picture(2, 224)[80:140, 60:150]
    for seed in range(15):
        covered = cover.apply(Cover(seed=seed), (real, fake))
        assert np.array_equal(covered[0][:80], covered[1][:80])
        assert np.array_equal(covered[0][:, 150:], covered[1][:, 150:])
        assert np.array_equal(cover.apply(Cover(seed=seed), (fake, real))[1], covered[0])


def test_what_is_laid_over_is_seen_and_leaves_most_of_the_face() -> None:
    crop = picture(1, 224)
    changed = [np.mean((cover.apply(Cover(seed=seed), (crop,))[0] != crop).any(-1)) for seed in range(60)]
    assert np.mean(np.array(changed) > 0.005) > 0.95
    assert np.median(changed) < 0.4
    assert np.mean(np.array(changed) > 0.6) < 0.1


@pytest.mark.parametrize("size", [33, 64, 224])
def test_each_layer_draws_on_crops_of_any_size(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    crop = picture(1, size)
    for layer in set(LAYERS):
        monkeypatch.setattr(cover, "LAYERS", (layer,))
        assert any(not np.array_equal(cover.apply(Cover(seed=seed), (crop,))[0], crop) for seed in range(5)), layer.__name__


@pytest.mark.parametrize("how", [Cover(smooth_levels=40), Cover(smooth_levels=20, smooth_radius_px=9)])
def test_smoothing_takes_fine_grain_and_leaves_edges(how: Cover) -> None:
    crop = np.full((224, 224, 3), 60, np.uint8)
    crop[:, 112:] = 200
    grain = np.random.default_rng(0).normal(0, 6, crop.shape)
    noisy = (crop + grain).clip(0, 255).astype(np.uint8)
    smooth = cover.apply(how, (noisy,))[0]
    left = np.s_[20:200, 20:90]
    assert smooth[left].std() < noisy[left].std() / 2
    assert abs(float(smooth[:, 116:120].mean()) - float(smooth[:, 104:108].mean())) > 130


def test_shares_are_kept_and_a_share_of_nothing_draws_nothing() -> None:
    drawn = [cover.draw(np.random.default_rng(seed), covered=0.3, smoothed=0.2) for seed in range(400)]
    assert 0.22 < np.mean([how.seed is not None for how in drawn]) < 0.38
    assert 0.13 < np.mean([how.smooth_levels is not None for how in drawn]) < 0.27
    assert all(how.smooth_radius_px is None for how in drawn)
    wide = [cover.draw(np.random.default_rng(seed), covered=0, smoothed=0.4, widely_smoothed=0.3) for seed in range(400)]
    assert 0.32 < np.mean([how.smooth_levels is not None and how.smooth_radius_px is None for how in wide]) < 0.48
    assert 0.22 < np.mean([how.smooth_radius_px is not None for how in wide]) < 0.38
    rng, untouched = np.random.default_rng(5), np.random.default_rng(5)
    assert cover.draw(rng, covered=0, smoothed=0) == Cover()
    assert rng.random() == untouched.random()
    crop = picture(1, 64)
    assert cover.apply(Cover(), (crop,))[0] is crop


def test_nothing_is_drawn_beyond_the_levels_of_a_picture() -> None:
    """White on white and black on black stay so: sums of shares never wrap round."""
    for level in (0, 255):
        flat = np.full((96, 96, 3), level, np.uint8)
        for seed in range(12):
            out = cover.apply(Cover(seed=seed), (flat,))[0]
            assert np.mean(out == level) > 0.2

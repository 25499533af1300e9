"""Degradation: alike on both crops of a pair, whatever they show."""

from __future__ import annotations

import numpy as np

from tests.training.conftest import picture
from training import augment


def test_equal_crops_stay_equal_and_a_crop_does_not_depend_on_its_neighbour() -> None:
    real, fake = picture(1, 224), picture(2, 224)
    for seed in range(40):
        how = augment.draw(np.random.default_rng(seed))
        same = augment.apply(how, (real, real.copy()), 160)
        assert np.array_equal(*same)
        assert np.array_equal(augment.apply(how, (fake, real), 160)[1], same[0])


def test_parameters_follow_from_the_seed_alone() -> None:
    assert augment.draw(np.random.default_rng(3)) == augment.draw(np.random.default_rng(3))


def test_every_step_occurs_and_none_always() -> None:
    drawn = [augment.draw(np.random.default_rng(seed)) for seed in range(400)]
    for name in ("scale", "blur_px", "noise_std", "jpeg_quality", "second_quality"):
        used = np.mean([getattr(how, name) is not None for how in drawn])
        assert 0.02 < used < 0.8, name
    assert 0.4 < np.mean([how.flip for how in drawn]) < 0.6


def test_compression_and_noise_change_pixels_and_keep_shape() -> None:
    crop = picture(1, 224)
    for how in (augment.Degradation(jpeg_quality=40), augment.Degradation(noise_std=5.0), augment.Degradation(scale=0.5)):
        out = augment.apply(how, (crop,), 192)[0]
        assert out.shape == (192, 192, 3)
        assert out.dtype == np.uint8
        assert not np.array_equal(out, augment.apply(augment.Degradation(), (crop,), 192)[0])


def test_nothing_drawn_means_nothing_done() -> None:
    crop = picture(1, 224)
    assert np.array_equal(augment.apply(augment.Degradation(), (crop,), 224)[0], crop)

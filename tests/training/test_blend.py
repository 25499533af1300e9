"""Self-blended images: what the pair may differ in, and where."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.conftest import picture
from training.blend import PART_LEAST, align_donor, blend, lay_part, self_blend, similarity
from worker.types import Float32

SEEDS = range(40)


@pytest.mark.parametrize("donor", [False, True])
def test_partner_and_blend_are_bit_identical_outside_the_mask(landmarks_K2: Float32, donor: bool) -> None:
    face = picture(1, 224)
    other = align_donor(picture(2, 224), landmarks_K2 + 3, face, landmarks_K2) if donor else None
    changed = 0
    for seed in SEEDS:
        made = self_blend(np.random.default_rng(seed), face, landmarks_K2, other)
        outside = made.mask_HW == 0
        assert np.array_equal(made.partner_HWC[outside], made.fake_HWC[outside])
        for corner in (np.s_[:16, :16], np.s_[:16, -16:], np.s_[-16:, :16], np.s_[-16:, -16:]):
            assert np.array_equal(made.partner_HWC[corner], made.fake_HWC[corner])
        changed += not np.array_equal(made.partner_HWC, made.fake_HWC)
    assert changed == len(SEEDS)


def test_the_partner_is_often_the_transformed_target_not_the_untouched_face(landmarks_K2: Float32) -> None:
    face = picture(1, 224)
    touched = [not np.array_equal(self_blend(np.random.default_rng(s), face, landmarks_K2).partner_HWC, face) for s in SEEDS]
    assert 0.2 < np.mean(touched) < 0.8


def test_masks_vary_and_lie_about_the_landmarks(landmarks_K2: Float32) -> None:
    sizes = []
    for seed in SEEDS:
        mask_HW = self_blend(np.random.default_rng(seed), picture(1, 224), landmarks_K2).mask_HW
        assert 0 <= mask_HW.min() <= mask_HW.max() <= 1 + 1e-6
        rows, columns = np.nonzero(mask_HW)
        assert abs(columns.mean() - landmarks_K2[:, 0].mean()) < 40
        assert abs(rows.mean() - landmarks_K2[:, 1].mean()) < 60
        sizes.append((mask_HW > 0).mean())
    assert max(sizes) > 3 * min(sizes)


def test_the_same_seed_gives_the_same_blend(landmarks_K2: Float32) -> None:
    one, two = (self_blend(np.random.default_rng(5), picture(1, 224), landmarks_K2) for _ in range(2))
    assert np.array_equal(one.fake_HWC, two.fake_HWC)


def test_blend_is_exact_at_both_ends() -> None:
    a, b = picture(1, 32), picture(2, 32)
    assert np.array_equal(blend(a, b, np.zeros((32, 32), np.float32)), b)
    assert np.array_equal(blend(a, b, np.ones((32, 32), np.float32)), a)


def test_similarity_finds_rotation_scale_and_shift(landmarks_K2: Float32) -> None:
    turn = 1.2 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    moved = (landmarks_K2 @ turn.T + (7, -4)).astype(np.float32)
    assert np.allclose(similarity(landmarks_K2, moved), np.hstack([turn, [[7], [-4]]]), atol=1e-3)


def test_a_part_of_a_fake_is_laid_into_its_original(landmarks_K2: Float32) -> None:
    """The rest is the original to the bit, and what is left tells enough of the fake to be called one."""
    original = picture(1, 224)
    fake = original.copy()
    fake[70:190, 60:165] = picture(2, 224)[70:190, 60:165]
    changed = np.abs(fake.astype(float) - original).sum()
    shares = []
    for seed in SEEDS:
        made = lay_part(np.random.default_rng(seed), fake, original, landmarks_K2)
        if made is None:
            continue
        assert made.partner_HWC is original
        assert np.array_equal(made.fake_HWC[made.mask_HW == 0], original[made.mask_HW == 0])
        assert np.array_equal(made.fake_HWC[made.mask_HW == 1], fake[made.mask_HW == 1])
        shares.append(np.abs(made.fake_HWC.astype(float) - original).sum() / changed)
    assert len(shares) > len(SEEDS) / 3
    assert PART_LEAST - 0.02 < min(shares) < 0.5 < max(shares) < 1


def test_a_part_that_holds_nothing_of_a_fake_is_none(landmarks_K2: Float32) -> None:
    original = picture(1, 224)
    fake = original.copy()
    fake[:20, :20] = 255 - fake[:20, :20]
    assert all(lay_part(np.random.default_rng(seed), fake, original, landmarks_K2) is None for seed in SEEDS)
    assert lay_part(np.random.default_rng(0), original, original, landmarks_K2) is None

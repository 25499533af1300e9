"""Whole-picture processing: the partner is untouched, the fake is not, and its family exists only where it has a share."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.training.conftest import picture
from training.data import CropStore, PairSampler
from training.processing import processed
from training.settings import FAMILIES, PROCESSED, Mixture
from worker.types import UInt8


def _sharpness(rgb_HWC: UInt8) -> float:
    return float(cv2.Laplacian(rgb_HWC, cv2.CV_64F).std())


def test_the_partner_is_the_crop_itself_and_the_fake_always_changed() -> None:
    face = picture(1, 96)
    softer = 0
    for seed in range(40):
        partner, fake = processed(np.random.default_rng(seed), face)
        assert partner is face
        assert fake.shape == face.shape
        assert fake.dtype == np.uint8
        assert not np.array_equal(fake, face)
        softer += _sharpness(fake) < 0.8 * _sharpness(face)
    assert 10 < softer < 35


def test_a_share_gives_the_family_a_logit_of_its_own(cache: Path) -> None:
    mixture = Mixture(aligned=0.5, blend=0, composite=0, synthetic=0, processing=0.5)
    assert mixture.families == (*FAMILIES, PROCESSED)
    family_F = PairSampler(CropStore(cache), mixture, seed=1).batch(0, 8, 64).family_F
    assert (family_F == len(FAMILIES)).sum() == 4


def test_without_a_share_there_is_no_such_family() -> None:
    assert Mixture().families == FAMILIES


def test_shares_must_add_up_and_none_be_negative() -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        Mixture(processing=0.2)
    with pytest.raises(ValueError, match="add up to 1"):
        Mixture(blend=0.68, processing=-0.2)
    with pytest.raises(ValueError, match="must not exceed 1"):
        Mixture(donor=0.6, mirrored_donor=0.3, remade_donor=0.3)
    with pytest.raises(ValueError, match="must not exceed 1"):
        Mixture(donor=0.6, own_donor=-0.1)


def test_donors_may_be_all_of_the_blends_however_their_shares_are_rounded() -> None:
    shares = {"donor": 0.2, "mirrored_donor": 0.4, "remade_donor": 0.3, "own_donor": 0.1}
    assert sum(shares.values()) > 1
    assert Mixture(**shares).own_donor == 0.1

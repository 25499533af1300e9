from __future__ import annotations

import cv2
import numpy as np
import pytest

from worker.faces.quality import face_quality
from worker.types import UInt8


@pytest.fixture
def face_HWC(astronaut_HWC: UInt8) -> UInt8:
    face = cv2.resize(astronaut_HWC[50:190, 155:295], (224, 224), interpolation=cv2.INTER_LINEAR)
    return face.astype(np.uint8)


def test_falls_with_blur(face_HWC: UInt8) -> None:
    crops = [face_HWC, *(cv2.GaussianBlur(face_HWC, (0, 0), sigma) for sigma in (1, 2, 4, 8))]
    quality = face_quality(np.stack(crops))
    assert (np.diff(quality) < 0).all()
    assert quality[0] > 0.5
    assert quality[-1] < 0.1


def test_falls_when_a_tiny_face_is_enlarged(face_HWC: UInt8) -> None:
    tiny = cv2.resize(cv2.resize(face_HWC, (20, 20), interpolation=cv2.INTER_AREA), (224, 224), interpolation=cv2.INTER_LINEAR)
    sharp, enlarged = face_quality(np.stack([face_HWC, tiny]))
    assert enlarged < 0.5 * sharp


def test_falls_when_burnt_out_or_black(face_HWC: UInt8) -> None:
    burnt = np.clip(face_HWC.astype(int) + 170, 0, 255).astype(np.uint8)
    black = face_HWC // 40
    good, *bad = face_quality(np.stack([face_HWC, burnt, black]))
    assert max(bad) < 0.5 * good


def test_flat_crops_are_useless() -> None:
    assert face_quality(np.full((3, 224, 224, 3), 128, np.uint8)).tolist() == [0, 0, 0]


def test_stays_between_0_and_1() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    assert ((face_quality(noise) >= 0) & (face_quality(noise) <= 1)).all()
    assert face_quality(np.empty((0, 224, 224, 3), np.uint8)).shape == (0,)

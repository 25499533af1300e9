"""What O-Net's answers on turned candidates do, with a network in its place whose faces are bright above and dark below."""

from __future__ import annotations

import numpy as np

from worker.faces.candidates import AreaTable
from worker.faces.cascade import Cascade
from worker.types import Float32

UPSIDE_DOWN, HALF_UPON_IT, BESIDE = (40, 40, 120, 120), (80, 40, 160, 120), (200, 40, 280, 120)
STANDING = (0.3, 0.7, 0.5, 0.3, 0.7, 0.3, 0.3, 0.5, 0.7, 0.7)
"""Landmarks, first across, then down."""


def onet(pictures_NHWC: Float32) -> list[Float32]:
    is_face = pictures_NHWC[:, :24].mean((1, 2, 3)) > 3 * pictures_NHWC[:, 24:].mean((1, 2, 3)) + 1
    n = len(pictures_NHWC)
    prob = np.where(is_face, 0.9999, 0.8).astype(np.float32)
    return [prob, np.zeros((n, 4), np.float32), np.tile(np.array(STANDING, np.float32), (n, 1))]


def test_a_weak_face_half_upon_a_turned_one_is_that_face() -> None:
    frames_BHWC = np.full((2, 160, 320, 3), 100, np.uint8)
    left, top, right, bottom = UPSIDE_DOWN
    frames_BHWC[0, top : (top + bottom) // 2, left:right] = 0
    cascade = Cascade((onet, onet, onet), min_face_px=40)
    boxes_N4 = np.array([UPSIDE_DOWN, HALF_UPON_IT, BESIDE, HALF_UPON_IT], np.float32)
    found = cascade.confirm(AreaTable(frames_BHWC), boxes_N4, np.array([0, 0, 0, 1]))
    assert found.frame_N.tolist() == [0, 0, 1]
    assert found.turn_N.tolist() == [2, 0, 0]
    np.testing.assert_allclose(found.boxes_N4, [UPSIDE_DOWN, BESIDE, HALF_UPON_IT], atol=1)

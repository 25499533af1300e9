"""Pictures with known faces."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data

from worker.types import UInt8


@pytest.fixture(scope="session")
def astronaut_HWC() -> UInt8:
    """512 x 512, one face about 100 pixels wide."""
    return np.asarray(skimage.data.astronaut(), np.uint8)


@pytest.fixture(scope="session")
def pair_HWC(astronaut_HWC: UInt8) -> UInt8:
    """360 x 640, the portrait twice, once mirrored and smaller; the left face touches the upper border."""
    picture = np.full((360, 640, 3), 90, np.uint8)
    picture[:, :360] = cv2.resize(astronaut_HWC[70:430, 60:420], (360, 360), interpolation=cv2.INTER_AREA)
    picture[60:340, 360:] = cv2.resize(astronaut_HWC[:, ::-1], (280, 280), interpolation=cv2.INTER_AREA)
    return picture
